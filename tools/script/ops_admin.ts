/** tools/script/ops_admin.ts - processes, mounts, tools, the kernel log and the trace. */
import * as F from "../../kernel/include/fcntl.ts";
import { json_output_leaves } from "../cmd/ndctl/json.ts";
import { mount_words } from "../api/mount_words.ts";
import type { op_context, operation } from "./context.ts";
import { BadArgument } from "./values.ts";

async function do_mount(x: op_context): Promise<void> {
  const o = mount_words(x.argc > 4 ? x.arg(4) : "");
  const dir = x.arg(2);
  try {
    await x.p.mkdir(dir, 0o755);
  } catch (e) {
    if (!x.p.is_error(e)) throw e;
  }
  await x.p.mount(x.arg(1), dir, x.arg(3), o.flags, o.data);
  x.ok();
}

async function do_remount(x: op_context): Promise<void> {
  const o = mount_words(x.arg(2));
  await x.p.mount("none", x.arg(1), "", o.flags | F.MS_REMOUNT, o.data);
  x.ok();
}

async function do_mountopts(x: op_context): Promise<void> {
  const dir = x.arg(1);
  const hit = x.p.mounts().findLast((m) => m.dir === dir);
  if (!hit) {
    x.say("none");
    return;
  }
  const shown = hit.options
    .split(",")
    .filter((o) => o.startsWith("dax") || o === "ro" || o === "rw" || o.startsWith("data="));
  x.say([hit.type, ...shown].join(" "));
}

/** A tool's standard error, as remarks. */
function remarks(x: op_context, stderr: string): void {
  for (const l of stderr.split("\n").slice(0, 4)) {
    if (l.includes("usage:")) break;
    if (l !== "") x.remark(l);
  }
}

async function do_mkfs(x: op_context): Promise<void> {
  const type = x.arg(2);
  const options = x.argv
    .slice(3)
    .join(" ")
    .split(" ")
    .filter((w) => w !== "");
  const force = type === "xfs" ? ["-f", "-q"] : ["-F", "-q"];
  const r = await x.run.lab.tool(`mkfs.${type}`, [...force, ...options, x.arg(1)]);
  x.say(`exit ${r.status}`);
}

async function do_tool(x: op_context): Promise<void> {
  const r = await x.run.lab.tool(x.argv[0]!, x.argv.slice(1));
  x.say(`exit ${r.status}`);
  // Of the others only the exit status is recorded.
  if (x.argv[0] !== "ndctl" && x.argv[0] !== "daxctl") return;
  for (const leaf of json_output_leaves(r.stdout)) x.detail(leaf);
  remarks(x, r.stderr);
}

async function do_klog(x: op_context): Promise<void> {
  const patterns = x.arg(1).split("|");
  const log = x.run.lab.kernel.dmesg();
  let n = 0;
  for (const entry of log.slice(x.run.klog_seen)) {
    if (!patterns.some((p) => entry.text.includes(p))) continue;
    n++;
    x.detail(
      entry.text
        .replace(/0x[0-9a-fA-F]*/g, "0xN")
        .replace(/sysrun:\d*/g, "sysrun:N")
        .trimEnd(),
    );
  }
  x.run.klog_seen = log.length;
  x.say(n);
}

async function do_trace(x: op_context): Promise<void> {
  const on = x.arg(1);
  if (on !== "on" && on !== "off") throw new BadArgument(on);
  x.run.trace_on = on === "on";
  x.ok();
}

async function do_blkinfo(x: op_context): Promise<void> {
  const b = await x.run.lab.block_info(x.path(1));
  x.say(`ok size=${b.size} lsz=${b.logical} psz=${b.physical}`);
  // Found by the last part of the path below /sys/block: a mapped device has another name there.
  const known = !x.path(1).startsWith("/dev/mapper/");
  if (b.dax !== null && known) x.say(` dax=${b.dax ? 1 : 0}`);
  if (b.start !== null) x.say(` start=${b.start}`);
}

async function do_sysread(x: op_context): Promise<void> {
  const path = x.path(1);
  const text = path.startsWith("/sys/") ? x.run.lab.sysfs_read(path) : await x.p.read_text(path);
  x.ok();
  for (const l of text.split("\n")) if (l !== "") x.detail(l);
}

async function do_badblock(x: op_context): Promise<void> {
  const fd = x.fd(2);
  const [off, len] = [x.num(3), x.num(4)];
  const [e] = await x.p.fiemap(fd, off, 1, 1, 1);
  if (!e) {
    x.say("ENOENT");
    return;
  }
  const physical = e.fe_physical + (off - e.fe_logical);
  x.run.lab.add_badblocks(x.arg(1), Math.floor(physical / 512), Math.ceil(len / 512));
  x.ok();
}

async function do_swaps(x: op_context): Promise<void> {
  const list = await x.p.swaps();
  for (const s of list) x.detail(`${s.path} ${s.type} ${s.kib}`);
  x.say(list.length);
}

async function do_exec(x: op_context): Promise<void> {
  x.say(`exit ${await x.p.exec(x.path(1))}`);
}

function done(fn: (x: op_context) => unknown): operation {
  return async (x) => {
    await fn(x);
    x.ok();
  };
}

export const admin_ops: Readonly<Record<string, operation>> = Object.freeze({
  setuid: done((x) => x.p.setuid(x.num(1))),
  dropcap: done((x) => x.p.dropcap(x.arg(1))),
  rlimit: done((x) => x.p.setrlimit(x.arg(1), x.num(2))),
  mce_kill: done((x) => x.p.mce_kill(x.arg(1))),
  putexe: done((x) => x.p.putexe(x.path(1))),
  exec: do_exec,
  mount: do_mount,
  remount: do_remount,
  umount: done((x) => x.p.umount(x.arg(1), x.argv[2] === "lazy" ? F.MNT_DETACH : 0)),
  mountopts: do_mountopts,
  mkfs: do_mkfs,
  ndctl: do_tool,
  daxctl: do_tool,
  e2fsck: do_tool,
  xfs_repair: do_tool,
  xfs_db: do_tool,
  tune2fs: do_tool,
  mkswap: do_tool,
  dmsetup: do_tool,
  blockdev: do_tool,
  blkdiscard: do_tool,
  sfdisk: do_tool,
  swapon: done((x) => x.p.swapon(x.path(1))),
  swapoff: done((x) => x.p.swapoff(x.path(1))),
  swaps: do_swaps,
  fifreeze: (x: op_context) =>
    x.with_fd(1, async (fd) => {
      await x.p.fifreeze(fd);
      x.ok();
    }),
  fithaw: (x: op_context) =>
    x.with_fd(1, async (fd) => {
      await x.p.fithaw(fd);
      x.ok();
    }),
  fitrim: (x: op_context) =>
    x.with_fd(1, async (fd) => {
      await x.p.fitrim(fd);
      x.ok();
    }),
  shutdown: (x: op_context) =>
    x.with_fd(1, async (fd) => {
      const how = { logflush: 1, nologflush: 2 }[x.arg(2)] ?? 0;
      await x.p.shutdown(fd, how);
      x.ok();
    }),
  dropcaches: done((x) => x.p.drop_caches()),
  blkinfo: do_blkinfo,
  sysread: do_sysread,
  syswrite: done((x) => {
    const path = x.path(1);
    if (path.startsWith("/sys/")) return x.run.lab.sysfs_write(path, x.arg(2));
    return x.p.write_text(path, x.arg(2));
  }),
  badblock: do_badblock,
  badblocks: async (x: op_context) => x.say(x.run.lab.badblocks(x.arg(1))),
  poisonpfn: done((x) => x.p.poison_pfn(x.num(1))),
  klog: do_klog,
  trace: do_trace,
  sleep: done((x) => x.run.lab.advance_ms(x.num(1))),
});

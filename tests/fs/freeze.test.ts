/**
 * Freeze and thaw: who waits, who does not, and in which order the levels drain (recorded:
 * freeze/).
 */
import { O_CREAT, O_RDONLY, O_RDWR } from "../../kernel/include/fcntl.ts";
import { SB_FREEZE_COMPLETE, SB_UNFROZEN } from "../../kernel/include/fs.ts";
import { new_wait_queue } from "../../kernel/locking/locks.ts";
import {
  sb_end_intwrite,
  sb_end_pagefault,
  sb_start_intwrite,
  sb_start_pagefault,
} from "../../kernel/vfs/super.ts";
import { find_mount } from "../../fs/namespace.ts";
import { assert, suite } from "../lib/suite.ts";
import { lab_calls, register_labfs } from "./labfs.ts";
import { boot_vfs } from "./vfs.ts";

const t = suite("fs/freeze");
const { is, equal } = assert;

async function lab() {
  const m = await boot_vfs();
  register_labfs(m.kernel);
  is(await m.p.mount("none", "/mnt2", "labfs"), undefined);
  const mnt = await m.p.do((k) => find_mount(k, "/mnt2"));
  if (typeof mnt === "string") throw new Error(mnt);
  return { ...m, sb: mnt.mnt_sb, d: await m.p.open("/mnt2", O_RDONLY) };
}

t("writers wait for the thaw, readers and fsync do not", async () => {
  const { p, machine, sb, d } = await lab();
  const f = await p.open("/mnt2/a", O_RDWR | O_CREAT, 0o644);
  await p.write(f, "0123456789");
  await p.open("/mnt2/b", O_RDWR | O_CREAT, 0o644);
  const [p2, p3, p4] = [p.fork(), p.fork(), p.fork()];
  is(await p.ioctl(d, "FIFREEZE"), undefined);
  is(sb.s_writers.frozen, SB_FREEZE_COMPLETE);
  const done: string[] = [];
  const all = [
    p2.ftruncate(f, 3).then(() => done.push("ftruncate")),
    p3.unlink("/mnt2/b").then(() => done.push("unlink")),
    p4.write(f, "more").then(() => done.push("write")),
  ];
  await machine.settle();
  equal(done, []);
  is(await p.pread(f, 4, 0), "0123");
  is(await p.fsync(f), undefined);
  is(await p.show("/mnt2/b"), "644 nlink=1 0:0 size=0");
  const r = await p.open("/mnt2/a", O_RDONLY);
  is(await p.close(r), undefined);
  is(await p.ioctl(d, "FITHAW"), undefined);
  await Promise.all(all);
  equal(done.sort(), ["ftruncate", "unlink", "write"]);
  is(sb.s_writers.frozen, SB_UNFROZEN);
  is(await p.names("/mnt2"), "a");
});

t(
  "freezing twice is EBUSY, thawing what is not frozen EINVAL, both need the administrator",
  async () => {
    const { p, d } = await lab();
    is(await p.ioctl(d, "FITHAW"), "EINVAL");
    is(await p.ioctl(d, "FIFREEZE"), undefined);
    is(await p.ioctl(d, "FIFREEZE"), "EBUSY");
    is(await p.mount("none", "/mnt2", "", 32 | 1), "EBUSY");
    is(await p.ioctl(d, "FITHAW"), undefined);
    is(await p.ioctl(d, "FITHAW"), "EINVAL");
    const q = p.fork();
    q.setuid(1000);
    is(await q.ioctl(d, "FIFREEZE"), "EPERM");
    const ram = await p.open("/mnt", O_RDONLY);
    is(await p.ioctl(ram, "FIFREEZE"), "EOPNOTSUPP");
  },
);

t("another process may thaw", async () => {
  const { p, d } = await lab();
  const q = p.fork();
  is(await p.ioctl(d, "FIFREEZE"), undefined);
  await p.exit();
  is(await q.ioctl(d, "FITHAW"), undefined);
  is(await q.mkdir("/mnt2/x"), undefined);
});

t("a freeze waits for page faults and transactions under way, in that order", async () => {
  const { p, machine, kernel, sb, d } = await lab();
  const q = p.fork();
  const log: string[] = [];
  const gate = new_wait_queue(machine, "gate");
  const state = { open: false };
  machine.spawn(kernel, "fault", async () => {
    await sb_start_pagefault(sb);
    await sb_start_intwrite(sb);
    log.push("inside");
    await gate.wait_event(() => state.open);
    sb_end_intwrite(sb);
    sb_end_pagefault(sb);
  });
  await machine.settle();
  const freezing = q.ioctl(d, "FIFREEZE").then(() => log.push("frozen"));
  await machine.settle();
  equal(log, ["inside"]);
  equal(lab_calls(sb), []);
  await p.do(() => {
    state.open = true;
    gate.wake_up_all();
  });
  await freezing;
  equal(lab_calls(sb), ["sync_fs", "sync_fs wait", "freeze_fs"]);
  is(await p.ioctl(d, "FITHAW"), undefined);
  equal(lab_calls(sb).at(-1), "unfreeze_fs");
});

t("a frozen filesystem can be unmounted and lives until the thaw", async () => {
  const { p, sb, d } = await lab();
  is(await p.ioctl(d, "FIFREEZE"), undefined);
  is(await p.umount("/mnt2"), "EBUSY");
  await p.close(d);
  is(await p.umount("/mnt2"), undefined);
  is(sb.s_active, 1);
  is(lab_calls(sb).includes("put_super"), false);
});

t.run();

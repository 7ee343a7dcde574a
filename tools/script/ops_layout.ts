/** tools/script/ops_layout.ts - block maps, sharing, inode flags and extended attributes. */
import { FIEMAP_FLAG_SYNC } from "../../kernel/include/fs.ts";
import type { fiemap_extent } from "../../kernel/include/fs.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";
import { expand_path } from "./parse.ts";
import type { op_context, operation } from "./context.ts";
import { EXTENT_FLAGS, flag_change, flag_text, IFLAGS, show_data, XFLAGS } from "./values.ts";

const LAST_OR_MERGED = 0x1 | 0x1000;
const PMD = 2 * 1024 * 1024;

/** Neighbouring extents with equal flags are one run; how many and where is optional. */
function show_extents(x: op_context, list: readonly fiemap_extent[]): void {
  let runs = 0;
  for (let i = 0; i < list.length; ) {
    const first = list[i]!;
    const flags = first.fe_flags & ~LAST_OR_MERGED;
    let end = first.fe_logical;
    let last = false;
    let congruent = true;
    let count = 0;
    for (; i < list.length; i++, count++) {
      const e = list[i]!;
      if (e.fe_logical !== end || (e.fe_flags & ~LAST_OR_MERGED) !== flags) break;
      end += e.fe_length;
      if ((e.fe_physical - e.fe_logical) % PMD !== 0) congruent = false;
      if (e.fe_flags & 1) last = true;
    }
    runs++;
    const words = flag_text(EXTENT_FLAGS, flags);
    x.detail(
      `ext ${first.fe_logical}..${end} ${words === "-" ? "written" : words}` +
        `${last ? " last" : ""} {extents=${count} congruent2M=${congruent ? "yes" : "no"}}`,
    );
  }
  x.say(runs);
}

async function do_fiemap(x: op_context): Promise<void> {
  const fd = x.fd(1);
  const start = x.num_or(2, 0);
  const len = x.argc > 3 ? x.num(3) : -1;
  const flags = x.num_or(4, FIEMAP_FLAG_SYNC);
  show_extents(x, await x.p.fiemap(fd, start, len, flags, 2048));
}

async function do_getxflags(x: op_context): Promise<void> {
  await x.with_fd(1, async (fd) => {
    const fa = await x.p.fsgetxattr(fd);
    x.say(`ok xflags=${flag_text(XFLAGS, fa.fsx_xflags)} extsize=${fa.fsx_extsize}`);
    x.say(` projid=${fa.fsx_projid} {nextents=${fa.fsx_nextents}}`);
  });
}

/** A failing first half of a read-modify-write says so: `get ENOTTY`. */
async function read_first<T>(x: op_context, get: () => Promise<T> | T): Promise<T | null> {
  try {
    return await get();
  } catch (e) {
    const code = x.p.error_code(e);
    if (code === null) throw e;
    x.say(`get ${code}`);
    return null;
  }
}

async function do_setxflags(x: op_context): Promise<void> {
  await x.with_fd(1, async (fd) => {
    const fa = await read_first(x, () => x.p.fsgetxattr(fd));
    if (!fa) return;
    const next = { ...fa };
    let set = 0;
    let clear = 0;
    for (const word of x.argv.slice(2)) {
      const change = flag_change(XFLAGS, word);
      if (change) {
        set |= change.set;
        clear |= change.clear;
      }
    }
    next.fsx_xflags = ((fa.fsx_xflags & ~clear) | set) >>> 0;
    const extsize = x.option("extsize");
    const projid = x.option("projid");
    const cow = x.option("cowextsize");
    if (extsize !== undefined) next.fsx_extsize = x.number(extsize);
    if (projid !== undefined) next.fsx_projid = x.number(projid);
    if (cow !== undefined) next.fsx_cowextsize = x.number(cow);
    await x.p.fssetxattr(fd, next);
    x.ok();
  });
}

const EXTENTS_FL = 0x80000;

async function do_getflags(x: op_context): Promise<void> {
  await x.with_fd(1, async (fd) => {
    const flags = await x.p.getflags(fd);
    x.say(`ok flags=${flag_text(IFLAGS, flags & ~EXTENTS_FL)}`);
    if (flags & EXTENTS_FL) x.say(" {EXTENTS}");
  });
}

async function do_setflags(x: op_context): Promise<void> {
  await x.with_fd(1, async (fd) => {
    const flags = await read_first(x, () => x.p.getflags(fd));
    if (flags === null) return;
    let next = flags;
    for (const word of x.argv.slice(2)) {
      const change = flag_change(IFLAGS, word);
      if (change) next = (next & ~change.clear) | change.set;
    }
    await x.p.setflags(fd, next >>> 0);
    x.ok();
  });
}

function target(x: op_context): string | number {
  return x.is_path(1) ? x.path(1) : x.fd(1);
}

async function do_getxattr(x: op_context): Promise<void> {
  const size = x.num_or(3, 65536);
  const value = await x.p.getxattr(target(x), expand_path(x.arg(2)), size);
  if (typeof value === "number") x.say(value);
  else x.say(value.length > 0 ? `${value.length} ${show_data(value)}` : 0);
}

async function do_listxattr(x: op_context): Promise<void> {
  const names = await x.p.listxattr(target(x));
  let bytes = 0;
  for (const n of names) bytes += name_to_bytes(n).length + 1;
  x.say(bytes);
  for (const n of [...names].sort()) x.detail(n);
}

async function do_fidedupe(x: op_context): Promise<void> {
  const r = await x.p.fidedupe(x.fd(1), x.num(2), x.num(3), x.fd(4), x.num(5));
  x.say(typeof r === "number" ? r : r.differs ? "differs" : `status ${r.status}`);
}

export const layout_ops: Readonly<Record<string, operation>> = Object.freeze({
  fiemap: do_fiemap,
  fibmap: async (x: op_context) => x.say((await x.p.fibmap(x.fd(1), x.num(2))) ? "mapped" : "hole"),
  figetbsz: (x: op_context) => x.with_fd(1, async (fd) => x.say(await x.p.figetbsz(fd))),
  copy_file_range: async (x: op_context) => {
    const src = x.num(2);
    const dst = x.num(4);
    const r = x.p.copy_file_range(
      x.fd(1),
      src < 0 ? null : src,
      x.fd(3),
      dst < 0 ? null : dst,
      x.num(5),
      x.num_or(6, 0),
    );
    x.say(await r);
  },
  ficlone: async (x: op_context) => {
    await x.p.ficlone(x.fd(1), x.fd(2));
    x.ok();
  },
  ficlonerange: async (x: op_context) => {
    await x.p.ficlonerange(x.fd(1), x.fd(2), x.num(3), x.num(4), x.num(5));
    x.ok();
  },
  fidedupe: do_fidedupe,
  getxflags: do_getxflags,
  setxflags: do_setxflags,
  getflags: do_getflags,
  setflags: do_setflags,
  setxattr: async (x: op_context) => {
    await x.p.setxattr(target(x), expand_path(x.arg(2)), x.data(3), x.num_or(4, 0));
    x.ok();
  },
  getxattr: do_getxattr,
  removexattr: async (x: op_context) => {
    await x.p.removexattr(target(x), expand_path(x.arg(2)));
    x.ok();
  },
  listxattr: do_listxattr,
});

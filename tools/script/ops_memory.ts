/** tools/script/ops_memory.ts - mappings and memory access. */
import type { op_context, operation } from "./context.ts";
import { BadArgument, show_data } from "./values.ts";

const PAGE = 4096;
const PMD = 2 * 1024 * 1024;
const MAX_LEN = 24 * 1024 * 1024;
const MAX_PAGES = 8192;
const MAP_PRIVATE_ANON_NORESERVE = 0x2 | 0x20 | 0x4000;

/** Names a new mapping; a failed one leaves the name standing for nothing. */
async function new_map(
  x: op_context,
  len: number,
  make: () => Promise<number> | number,
): Promise<number> {
  let addr: number;
  try {
    addr = await make();
  } catch (e) {
    if (x.assign) x.names.set_map(x.assign, null, 0);
    throw e;
  }
  if (x.assign) x.names.set_map(x.assign, addr, len);
  x.ok();
  return addr;
}

async function do_reserve(x: op_context): Promise<void> {
  const len = x.num(1);
  const align = x.num_or(2, PMD);
  const skew = x.num_or(3, 0);
  await new_map(x, len, async () => {
    const at = await x.p.mmap(0, len + align + skew, 0, MAP_PRIVATE_ANON_NORESERVE, -1, 0);
    return Math.ceil(at / align) * align + skew;
  });
}

async function do_mmap(x: op_context): Promise<void> {
  const [addr, len, prot, flags] = [x.num(1), x.num(2), x.num(3), x.num(4)];
  const fd = x.fd(5);
  const off = x.num(6);
  const at = await new_map(x, len, () => x.p.mmap(addr, len, prot, flags, fd, off));
  if (fd < 0) return;
  const first = Math.ceil(off / PMD) * PMD;
  if (off + len - first >= PMD) x.say((at - off) % PMD === 0 ? " {aligned2M}" : " {skewed}");
}

async function do_mremap(x: op_context): Promise<void> {
  const [addr, old_len, len] = [x.num(1), x.num(2), x.num(3)];
  const flags = x.num_or(4, 0);
  const to = x.num_or(5, 0);
  const at = await new_map(x, len, () => x.p.mremap(addr, old_len, len, flags, to));
  x.say(at === addr ? " inplace" : " moved");
}

function run_lengths(words: readonly string[]): string {
  const out: string[] = [];
  for (let i = 0; i < words.length; ) {
    let n = 1;
    while (words[i + n] === words[i]) n++;
    out.push(`${words[i]}*${n}`);
    i += n;
  }
  return out.join(",");
}

function pages_of(len: number): number {
  const n = Math.ceil(len / PAGE);
  if (n > MAX_PAGES) throw new BadArgument(`${n} pages`);
  return n;
}

async function do_mincore(x: op_context): Promise<void> {
  const len = x.num(2);
  pages_of(len);
  const vec = await x.p.mincore(x.num(1), len);
  x.say(`ok ${run_lengths(Array.from(vec, (v) => (v & 1 ? "1" : "0")))}`);
}

async function do_pagemap(x: op_context): Promise<void> {
  const n = pages_of(x.num(2));
  const pages = await x.p.pagemap(x.num(1), n);
  x.say(`ok ${run_lengths(pages)}`);
}

const SMAPS_SHOWN = [
  "Size",
  "KernelPageSize",
  "MMUPageSize",
  "Rss",
  "Pss",
  "Shared_Clean",
  "Shared_Dirty",
  "Private_Clean",
  "Private_Dirty",
  "Anonymous",
  "AnonHugePages",
  "ShmemPmdMapped",
  "FilePmdMapped",
  "Swap",
  "Locked",
  "THPeligible",
];

async function do_smaps(x: op_context): Promise<void> {
  const s = await x.p.smaps(x.num(1));
  if (!s) {
    x.say("ENOENT");
    return;
  }
  x.say(`ok perms=${s.perms}`);
  // In the order the kernel prints them; the first three also when zero.
  for (const [name, kib] of Object.entries(s.fields)) {
    const at = SMAPS_SHOWN.indexOf(name);
    if (at >= 0 && (kib !== 0 || at < 3)) x.say(` ${name}=${kib}`);
  }
  x.detail(`VmFlags ${s.vm_flags.join(",")}`);
}

async function do_load(x: op_context): Promise<void> {
  const addr = x.num(1);
  const len = Math.min(x.num(2), MAX_LEN);
  const data = await x.p.load(addr, len);
  x.say(`${len} ${show_data(data)}`);
}

async function do_store(x: op_context): Promise<void> {
  const addr = x.num(1);
  const data = x.data(2);
  await x.p.store(addr, data);
  x.say(data.length);
}

async function do_touch(x: op_context): Promise<void> {
  const [addr, len, stride] = [x.num(1), x.num(2), x.num(3)];
  const write = x.arg(4).startsWith("w");
  if (!(stride > 0)) throw new BadArgument(x.arg(3));
  let n = 0;
  try {
    for (let i = 0; i < len; i += stride, n++) {
      if (write) await x.p.store(addr + i, Uint8Array.of(i / stride + 1));
      else await x.p.load(addr + i, 1);
    }
  } catch (e) {
    // The signal counts the touches done, not the bytes.
    throw x.p.with_progress(e, n);
  }
  x.say(n);
}

function done(fn: (x: op_context) => unknown): operation {
  return async (x) => {
    await fn(x);
    x.ok();
  };
}

export const memory_ops: Readonly<Record<string, operation>> = Object.freeze({
  reserve: do_reserve,
  mmap: do_mmap,
  munmap: done((x) => x.p.munmap(x.num(1), x.num(2))),
  mremap: do_mremap,
  mprotect: done((x) => x.p.mprotect(x.num(1), x.num(2), x.num(3))),
  msync: done((x) => x.p.msync(x.num(1), x.num(2), x.num(3))),
  madvise: done((x) => x.p.madvise(x.num(1), x.num(2), x.num(3))),
  mlock: done((x) => x.p.mlock(x.num(1), x.num(2))),
  mlock2: done((x) => x.p.mlock2(x.num(1), x.num(2), x.num(3))),
  munlock: done((x) => x.p.munlock(x.num(1), x.num(2))),
  mincore: do_mincore,
  pagemap: do_pagemap,
  smaps: do_smaps,
  load: do_load,
  store: do_store,
  touch: do_touch,
});

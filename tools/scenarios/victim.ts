/**
 * tools/scenarios/victim.ts - what the scenarios of memory failure share: processes with a DAX file
 * mapped, a page of it going bad, and who is told.
 */
import type { Machine, Process } from "daxlab";
import { MAP_FIXED, MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE } from "daxlab";
import { fget, fput, get_page, is_errno, lookup_entry, memory_failure } from "daxlab/kernel";
import { dax_entry_pfn, pfn_to_page, pte_pfn, pte_present, put_page, xa_load } from "daxlab/kernel";
import type { address_space, page } from "daxlab/kernel";

export const PAGE = 4096;
export const ADDR = 0x7f00_0000_0000;
export const SMALL = { pmem: [{ size: "8M", mode: "fsdax" as const }] };

export interface victim {
  readonly p: Process;
  readonly fd: number;
  readonly mapping: address_space;
  /** Of each signal for a bad page: its address. */
  readonly told: number[];
}

async function mapping_of(p: Process, fd: number): Promise<address_space> {
  return await p.in_kernel(async (_k, t) => {
    const f = fget(t, fd);
    const { i_mapping } = f.f_inode;
    await fput(f);
    return i_mapping;
  });
}

/**
 * One process a name; all map /mnt/file, `pages` pages with storage, at ADDR, asked to hear of bad
 * pages at once, and handle SIGBUS. Those in `touched` have every page in their page tables.
 */
export async function victims(
  m: Machine,
  pages: number,
  names: readonly string[],
  touched: readonly string[] = names,
): Promise<victim[]> {
  const out: victim[] = [];
  for (const name of names) {
    const p = m.process(name);
    if (out.length === 0) {
      await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
      await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
    }
    const fd = await p.open("/mnt/file", O_RDWR | O_CREAT, 0o644);
    if (out.length === 0) await p.pwrite(fd, new Uint8Array(pages * PAGE).fill(1), 0);
    await p.mmap(ADDR, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    await p.mce_kill("early");
    p.task.signal!.handled.add(7);
    if (touched.includes(name)) await p.store(ADDR, new Uint8Array(pages * PAGE).fill(1));
    out.push({ p, fd, mapping: await mapping_of(p, fd), told: [] });
  }
  watch(m, out);
  return out;
}

/** Notes who is told. Nobody may be told of a page that its file does not have there. */
function watch(m: Machine, all: readonly victim[]): void {
  let bad = -1;
  m.trace((e) => {
    const f = e.fields as Record<string, number | string>;
    if (e.name === "mf_begin") bad = f["pfn"] as number;
    if (e.name !== "mf_task" || f["signal"] === "") return;
    const v = all.find((x) => x.p.task.tgid === f["task_pid"])!;
    const addr = f["address"] as number;
    v.told.push(addr);
    const entry = xa_load(v.mapping.i_pages, (addr - ADDR) / PAGE);
    // a removal is no failure of a page
    if (bad < 0) return;
    if (typeof entry === "number" && dax_entry_pfn(v.mapping, entry) === bad) return;
    throw new Error("told of a page that it does not have");
  });
}

/** Is there an entry in its page tables? */
export function is_mapped(v: victim, addr = ADDR): boolean {
  return pte_present(lookup_entry(v.p.task.mm!, addr).entry);
}

/** Frame under an address that a process has touched. */
export function frame_of(v: victim, addr = ADDR): number {
  return pte_pfn(lookup_entry(v.p.task.mm!, addr).entry);
}

/** As a scrub that finds the frame bad: from nobody's system call. The answer is in words. */
export async function scrub(m: Machine, pfn: number): Promise<string> {
  try {
    await memory_failure(m.kernel, pfn, 0);
    return "recovered";
  } catch (e) {
    if (!is_errno(e)) throw e;
    return e.code;
  }
}

/** Calls that a signal may end, and accesses that end in one, are answered in words. */
export async function answer(p: Process, fn: () => unknown): Promise<string> {
  try {
    await fn();
    return "ok";
  } catch (e) {
    const what = p.error_code(e) ?? p.signal_of(e)?.signo;
    if (what === undefined) throw e;
    return what;
  }
}

/** Holds a page as DMA does. */
export function hold(m: Machine, pfn: number): { page: page; release: () => void } {
  const page = pfn_to_page(m.kernel, pfn)!;
  get_page(page);
  return { page, release: () => put_page(page) };
}

/**
 * tools/api/poison.ts - one page of a file goes bad, and who gets told: the core of `daxlab
 * poison`.
 *
 * The file system on the device is mounted with DAX; three processes have the file: one that asked
 * for early notice of memory failures, one that did not, and one that only has it open.
 */
import { notImplemented } from "../../kernel/assert.ts";
import { memory_failure } from "../../mm/memory-failure.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import { type failure_walk, watch_failures } from "./failure_log.ts";
import type { Machine } from "./machine.ts";
import type { Process } from "./process.ts";

/**
 * "scrub": found in the background; "access": the process without early notice loads it; "inject":
 * that process calls madvise(MADV_HWPOISON).
 */
export type poison_how = "scrub" | "access" | "inject";
export const POISON_HOWS: readonly poison_how[] = Object.freeze(["scrub", "access", "inject"]);

export interface poison_request {
  /** "/dev/pmem0" */
  device: string;
  type: string;
  /** In the mounted file system: "/dir/file". */
  path: string;
  /** Byte of the file. */
  offset: number;
  how: poison_how;
}

export interface poison_report {
  walks: failure_walk[];
  /** What the one who met it got: a signal or an error; null for a scrub. */
  met: string | null;
  /** What others get when they come later. */
  later: { who: string; does: string; gets: string }[];
}

const PROT_READ = 1;
const MAP_SHARED = 1;
const MADV_HWPOISON = 100;

/** What a call came to: "ok", an errno, or a signal. */
async function outcome(p: Process, fn: () => unknown): Promise<string> {
  try {
    await fn();
    return "ok";
  } catch (e) {
    const sig = p.signal_of(e);
    if (sig) return `${sig.signo} ${sig.code}${sig.lsb > 0 ? ` lsb=${sig.lsb}` : ""}`;
    const code = p.error_code(e);
    if (code === null) throw e;
    return code;
  }
}

interface user {
  p: Process;
  fd: number;
  /** Address of the page in question; 0 without a mapping. */
  at: number;
}

async function new_user(m: Machine, name: string, r: poison_request, map: boolean): Promise<user> {
  const p = m.process(name);
  // SIGBUS is handled: the process lives to tell.
  p.task.signal!.handled.add(7);
  const fd = await p.open(`/mnt${r.path}`, 0);
  if (!map) return { p, fd, at: 0 };
  const page = r.offset - (r.offset % m.kernel.PAGE_SIZE);
  const at = await p.mmap(0, m.kernel.PAGE_SIZE, PROT_READ, MAP_SHARED, fd, page);
  await p.load(at, 1);
  return { p, fd, at };
}

/** Byte of the disk at which the file's byte lies, or null in a hole. */
async function disk_offset(u: user, offset: number): Promise<number | null> {
  const [e] = await u.p.fiemap(u.fd, offset, 1, 1, 1);
  if (!e || e.fe_logical > offset) return null;
  return e.fe_physical + (offset - e.fe_logical);
}

async function fail_it(m: Machine, u: user, r: poison_request, at: number): Promise<string | null> {
  const { PAGE_SIZE } = m.kernel;
  const pmem = m.pmem.find((d) => d.disk.disk_name === r.device.replace("/dev/", ""));
  if (!pmem) notImplemented(`poison on ${r.device}`);
  if (r.how === "inject") {
    return await outcome(u.p, () => u.p.madvise(u.at, PAGE_SIZE, MADV_HWPOISON));
  }
  m.add_media_error(pmem.disk.disk_name, at, 1);
  if (r.how === "access") return await outcome(u.p, () => u.p.load(u.at, PAGE_SIZE));
  const pfn = Math.floor((pmem.region.start + pmem.data_offset + at) / PAGE_SIZE);
  m.add_badblocks(pmem.disk.disk_name, Math.floor(at / 512), 1);
  const t = m.kernel.sched.tasks.size;
  await m.in_task(m.kernel, `kworker/0:${t}`, async () => {
    try {
      await memory_failure(m.kernel, pfn, 0);
    } catch (e) {
      if (!is_errno(e)) throw e;
    }
  });
  return null;
}

/**
 * Poisons one page of a file and reports who heard of it.
 * @throws Error with a sentence when the file has no storage at the offset; SyscallError from mount
 */
export async function poison(m: Machine, r: poison_request): Promise<poison_report> {
  const root = m.process("mount");
  // It may be there.
  await outcome(root, () => root.mkdir("/mnt"));
  await root.mount(r.device, "/mnt", r.type, "dax=always");
  const probe = await new_user(m, "probe", r, false);
  const at = await disk_offset(probe, r.offset);
  if (at === null) throw new Error(`${r.path}: nothing is stored at byte ${r.offset}`);
  await probe.p.exit();
  const late = await new_user(m, "late", r, true);
  const early = await new_user(m, "early", r, true);
  await early.p.mce_kill("early");
  const reader = await new_user(m, "reader", r, false);
  const log = watch_failures(m.kernel);
  const met = await fail_it(m, late, r, at - (at % 64));
  log.stop();
  const later: poison_report["later"] = [];
  const try_it = async (u: user, does: string, fn: () => unknown) =>
    later.push({ who: `${u.p.task.comm}:${u.p.pid}`, does, gets: await outcome(u.p, fn) });
  for (const u of [late, early]) await try_it(u, "load", () => u.p.load(u.at, 1));
  const page = r.offset - (r.offset % m.kernel.PAGE_SIZE);
  const buf = new Uint8Array(m.kernel.PAGE_SIZE);
  await try_it(reader, "read()", () => reader.p.pread(reader.fd, buf, page));
  return { walks: log.walks, met, later };
}

/**
 * tools/api/failure_log.ts - who gets told: memory failures as they are handled, each hop with its
 * answer, every process that heard of it, and everybody who should care and did not hear.
 *
 * Reading order: watch_failures() -> failure_walk -> walk_text().
 */
import type { file, inode } from "../../kernel/include/fs.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import { S_ISCHR } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import type { trace_event } from "../../kernel/trace.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { vfs_of } from "../../kernel/vfs/super.ts";
import type { files_struct } from "../../fs/file.ts";
import { dax_offset_of } from "../../drivers/md/dm-rmap.ts";
import { compound_head, pfn_to_page } from "../../mm/page.ts";

/** One who was asked on the way up, and the answer: "ok" or an errno. */
export interface failure_hop {
  readonly hop: "driver" | "dax_device" | "holder" | "generic";
  readonly who: string;
  readonly what: string;
  readonly answer: string;
}

export interface told_process {
  readonly pid: number;
  readonly comm: string;
  /** "SIGBUS BUS_MCEERR_AR lsb=12" */
  readonly signal: string;
  readonly address: number;
  /** log2 of the bytes that are lost to it. */
  readonly lsb: number;
}

/** Somebody with a stake in the page who heard nothing. */
export interface not_told {
  readonly kind: "process" | "filesystem";
  readonly who: string;
  readonly why: string;
}

export interface failure_walk {
  readonly pfn: number;
  /** Region of physical memory, and the byte in it. */
  readonly region: string;
  readonly offset: number;
  /** Whose page it is, as the page itself says: "page 3 of inode 12 of pmem0"; null: nobody's. */
  readonly owner: string | null;
  readonly hops: failure_hop[];
  readonly told: told_process[];
  readonly not_told: not_told[];
  /** "dax page: Recovered"; null if it never came to that. */
  result: string | null;
}

interface fields {
  readonly [name: string]: unknown;
}

function owner_text(page: page | null): string | null {
  const host = page?.mapping?.host as inode | undefined;
  if (!page || !host) return null;
  if (S_ISCHR(host.i_mode)) return `page ${page.index} of ${page.mapping!.dax_dev!.name}`;
  const name = [...host.i_dentry][0]?.d_name;
  const file = name === undefined ? "" : ` (${String(name)})`;
  return `page ${page.index} of inode ${host.i_ino}${file} of ${host.i_sb.s_id}`;
}

/** Filesystems on the failed memory that have not claimed it: nobody asks them. */
function deaf_filesystems(kernel: Kernel, paddr: number): not_told[] {
  const out: not_told[] = [];
  for (const sb of vfs_of(kernel).supers) {
    const dev = sb.s_bdev?.bd_disk.dax_dev;
    if (!sb.s_bdev || !dev) continue;
    const at = dax_offset_of(kernel, dev, paddr);
    const start = sb.s_bdev.bd_start_sect * 512;
    if (at === null || at < start || at >= start + sb.s_bdev.bd_nr_sectors * 512) continue;
    if (dev.holder_data === sb) continue;
    const why =
      dev.holder_data === null
        ? "holds no DAX device: it registers no holder"
        : "the DAX device has another holder";
    out.push({ kind: "filesystem", who: `${sb.s_type.name} on ${sb.s_bdev.bd_name}`, why });
  }
  return out;
}

function has_mapping(t: task_struct, mapping: address_space): boolean {
  return [...mapping.i_mmap].some((v) => v.vm_mm === t.mm);
}

/** Processes that have the file open and not mapped: they meet the error only when they read. */
function openers(kernel: Kernel, mapping: address_space | null | undefined): not_told[] {
  const out: not_told[] = [];
  if (!mapping?.host) return out;
  for (const t of kernel.machine.sched.tasks) {
    if (t.kernel !== kernel || t.pid !== t.tgid || t.files === null) continue;
    const { fd } = t.files as files_struct;
    const open = fd.some((f: file | null) => f?.f_mapping === mapping);
    if (!open || has_mapping(t, mapping)) continue;
    const why = "has the file open, but not mapped: reads fail once the block is known as bad";
    out.push({ kind: "process", who: `${t.comm}:${t.tgid}`, why });
  }
  return out;
}

function begin(kernel: Kernel, f: fields): failure_walk {
  const pfn = f.pfn as number;
  const bad = pfn_to_page(kernel, pfn);
  const page = bad && compound_head(bad);
  return {
    pfn,
    region: f.region as string,
    offset: f.offset as number,
    owner: owner_text(page),
    hops: [],
    told: [],
    not_told: [
      ...deaf_filesystems(kernel, pfn * kernel.PAGE_SIZE),
      ...openers(kernel, page?.mapping),
    ],
    result: null,
  };
}

const text = (f: fields, name: string): string => String(f[name]);
const number = (f: fields, name: string): number => Number(f[name]);

function note_task(w: failure_walk, f: fields): void {
  const pid = number(f, "task_pid");
  const comm = text(f, "task_comm");
  const signal = text(f, "signal");
  if (signal === "") {
    w.not_told.push({ kind: "process", who: `${comm}:${pid}`, why: text(f, "why") });
    return;
  }
  w.told.push({ pid, comm, signal, address: number(f, "address"), lsb: number(f, "lsb") });
}

/** Hops are traced when they have answered, the innermost first; listed as they were asked. */
function note_hop(w: failure_walk, f: fields): void {
  const error = text(f, "error");
  const hop: failure_hop = {
    hop: text(f, "hop") as failure_hop["hop"],
    who: text(f, "who"),
    what: text(f, "what"),
    answer: error === "" ? "ok" : error,
  };
  let at = w.hops.length;
  if (hop.hop === "driver") while (at > 0 && w.hops[at - 1]!.hop !== "generic") at--;
  w.hops.splice(at, 0, hop);
}

function note(w: failure_walk, e: trace_event): void {
  const f = e.fields as fields;
  if (e.name === "mf_hop") note_hop(w, f);
  else if (e.name === "mf_task") note_task(w, f);
  else if (e.name === "memory_failure_event") w.result = `${text(f, "type")}: ${text(f, "result")}`;
}

/** Follows every memory failure from now on; `stop` ends it. The list grows as they come. */
export function watch_failures(kernel: Kernel): { walks: failure_walk[]; stop: () => void } {
  const walks: failure_walk[] = [];
  const stop = kernel.trace.subscribe(
    (e) => {
      if (e.name === "mf_begin") walks.push(begin(kernel, e.fields));
      else if (walks.length > 0) note(walks.at(-1)!, e);
    },
    ["memory_failure"],
  );
  return { walks, stop };
}

const hex = (n: number): string => `0x${n.toString(16)}`;

/** A walk as text, a line for each who was asked, told, or not told. */
export function walk_text(w: failure_walk): string {
  const lines = [
    `bad page: frame ${hex(w.pfn)}, byte ${hex(w.offset)} of ${w.region || "nothing"}`,
    `  belongs to ${w.owner ?? "no file"}`,
  ];
  for (const h of w.hops) lines.push(`  asked     ${h.hop}: ${h.who}: ${h.what}: ${h.answer}`);
  for (const t of w.told)
    lines.push(`  told      ${t.comm}:${t.pid} ${t.signal} at ${hex(t.address)}`);
  for (const n of w.not_told) lines.push(`  not told  ${n.who}: ${n.why}`);
  lines.push(`  result    ${w.result ?? "none"}`);
  return lines.join("\n");
}

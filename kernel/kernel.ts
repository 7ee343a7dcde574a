/**
 * kernel/kernel.ts - one booted kernel inside a Machine: its options, its log, its trace, its
 * tasks' pids, and the slots where the layers above keep their state.
 *
 * Making a Kernel boots nothing but this layer; tools/api/boot.ts calls the init function of each
 * layer.
 */
import { BUG } from "./assert.ts";
import { init_cred } from "./cred.ts";
import type { cred } from "./include/cred.ts";
import type { phys_memory } from "./include/phys.ts";
import type { dax_mm_ops, task_ops, vfs_ops } from "./include/slots.ts";
import type { Machine } from "./machine.ts";
import {
  KERN_CRIT,
  KERN_DEBUG,
  KERN_ERR,
  KERN_INFO,
  KERN_NOTICE,
  KERN_WARNING,
  type log_entry,
  format_entry,
  printk_log,
  TAINT_WARN,
} from "./printk.ts";
import { DEFAULT_RELEASE, RELEASES, type kernel_release } from "./release.ts";
import type { Sched } from "./sched/sched.ts";
import { task_struct } from "./sched/task.ts";
import { kernel_time } from "./time.ts";
import { TraceRegistry } from "./trace.ts";

/** Designs that Linux never merged; each off unless named. Origins: the docs of each. */
export interface proposals {
  daxfile?: boolean;
  pmem_immutable?: boolean;
  nofsync_extents?: boolean;
  dax_order_entries?: boolean;
  map_direct?: boolean;
  partition_holders?: boolean;
  /** Device mapper holds the DAX devices below and passes failures up. */
  dm_holder?: boolean;
  /** Seed S3.3: a percpu rwsem of each DAX device is around its holder, instead of SRCU. */
  dax_holder_rwsem?: boolean;
}

export interface KernelOptions {
  /** Which Linux this behaves like; default 6.1. */
  release?: kernel_release;
  /** log2 of the page size: 12 (default), 14 or 16. */
  page_shift?: 12 | 14 | 16;
  /** Words as on the kernel command line: "name" or "name=value". */
  cmdline?: string;
  proposals?: proposals;
  /** Host name, for reports of Machines with two kernels. */
  name?: string;
}

function check_options(opts: KernelOptions): void {
  if (opts.release !== undefined && !RELEASES.includes(opts.release)) {
    throw new RangeError(`release "${opts.release}" is not known: ${RELEASES.join(", ")}`);
  }
  const shift = opts.page_shift ?? 12;
  if (shift !== 12 && shift !== 14 && shift !== 16) {
    throw new RangeError(`page_shift ${String(shift)}: 12, 14 or 16`);
  }
}

const NO_PROPOSALS: proposals = Object.freeze({});

export class Kernel {
  readonly machine: Machine;
  readonly sched: Sched;
  readonly name: string;
  readonly release: kernel_release;
  readonly PAGE_SHIFT: number;
  readonly PAGE_SIZE: number;
  /** 1 / PAGE_SIZE: to multiply by on hot paths is exact, and cheaper than a division. */
  readonly PAGES_PER_BYTE: number;
  readonly proposals: Readonly<proposals>;
  readonly cmdline: string;
  readonly time: kernel_time;
  readonly trace: TraceRegistry;
  /** pid 0: stands for the boot, when no task runs. */
  readonly init_task: task_struct;
  /** TAINT_* bits. */
  taint = 0;
  /** Warnings so far: a test that expects none looks here. */
  nr_warnings = 0;
  next_pid = 1;

  /** Physical memory; set by mm at boot. */
  phys!: phys_memory;
  /** State of the layers above; each casts its own. */
  mm_state: unknown = null;
  block_state: unknown = null;
  dax_state: unknown = null;
  nvdimm_state: unknown = null;
  dm_state: unknown = null;
  vfs_state: unknown = null;
  fs_state: unknown = null;
  /** What kernel/vfs calls upwards: mm and fs fill it in at boot. */
  vfs_ops: vfs_ops = {} as vfs_ops;
  dax_mm_ops: dax_mm_ops | null = null;
  task_ops: task_ops | null = null;
  /** Guards left out (guards.ts); null: none. */
  unguarded: ReadonlySet<string> | null = null;

  private log: printk_log | null = null;
  private warned: Set<string> | null = null;

  constructor(machine: Machine, opts: KernelOptions = {}) {
    check_options(opts);
    this.machine = machine;
    this.sched = machine.sched;
    this.release = opts.release ?? DEFAULT_RELEASE;
    this.PAGE_SHIFT = opts.page_shift ?? 12;
    this.PAGE_SIZE = 2 ** this.PAGE_SHIFT;
    this.PAGES_PER_BYTE = 1 / this.PAGE_SIZE;
    this.cmdline = opts.cmdline ?? "";
    this.proposals = opts.proposals === undefined ? NO_PROPOSALS : Object.freeze(opts.proposals);
    this.time = new kernel_time(machine.clock);
    this.trace = new TraceRegistry(this);
    this.init_task = new task_struct(this, 0, "swapper", init_cred);
    this.name = opts.name ?? `kernel${machine.kernels.length}`;
    machine.kernels.push(this);
  }

  /** The running task. Outside any task, pid 0 of this kernel, which cannot sleep. */
  get current(): task_struct {
    const s = this.sched;
    return s.current === s.swapper ? this.init_task : s.current;
  }

  /** A task that is not scheduled yet: see Machine.new_thread() and spawn(). */
  new_task(comm: string, c: cred = init_cred): task_struct {
    return new task_struct(this, this.next_pid++, comm, c);
  }

  /**
   * Value of "name=value" on the command line, "" for a bare "name", undefined if it is not there.
   */
  cmdline_option(name: string): string | undefined {
    for (const word of this.cmdline.split(/\s+/)) {
      if (word === name) return "";
      if (word.startsWith(`${name}=`)) return word.slice(name.length + 1);
    }
    return undefined;
  }

  // ------------------------------------------------------------------ log

  printk(level: number, msg: string): void {
    this.log ??= new printk_log();
    this.log.add(this.machine.clock.now_ns, level, msg);
  }
  pr_crit(msg: string): void {
    this.printk(KERN_CRIT, msg);
  }
  pr_err(msg: string): void {
    this.printk(KERN_ERR, msg);
  }
  pr_warn(msg: string): void {
    this.printk(KERN_WARNING, msg);
  }
  pr_notice(msg: string): void {
    this.printk(KERN_NOTICE, msg);
  }
  pr_info(msg: string): void {
    this.printk(KERN_INFO, msg);
  }
  pr_debug(msg: string): void {
    this.printk(KERN_DEBUG, msg);
  }
  /** Log entries up to level (default: all but debug), oldest first. */
  dmesg(level: number = KERN_INFO): log_entry[] {
    return this.log === null ? [] : this.log.entries().filter((e) => e.level <= level);
  }
  /** As the command prints it. */
  dmesg_text(level: number = KERN_INFO): string {
    return this.dmesg(level).map(format_entry).join("\n");
  }
  dmesg_clear(): void {
    this.log?.clear();
  }

  /**
   * A state that should not be: logged as a warning with the running task, counted, tainting.
   * Returns `cond`, so `if (kernel.WARN_ON(x, "...")) return;` reads as in Linux.
   */
  WARN_ON(cond: boolean, what: string): boolean {
    if (!cond) return false;
    const t = this.current;
    this.taint |= TAINT_WARN;
    this.nr_warnings++;
    const call = t.syscall === "" ? "" : ` in ${t.syscall}`;
    this.pr_warn("------------[ cut here ]------------");
    this.pr_warn(`WARNING: CPU: 0 PID: ${t.pid} Comm: ${t.comm}${call}: ${what}`);
    this.pr_warn("---[ end trace ]---");
    return true;
  }

  /** The first time only, by text. */
  WARN_ON_ONCE(cond: boolean, what: string): boolean {
    if (!cond) return false;
    this.warned ??= new Set();
    if (this.warned.has(what)) return true;
    this.warned.add(what);
    return this.WARN_ON(true, what);
  }

  BUG_ON(cond: boolean, what: string): void {
    if (cond) BUG(what);
  }
}

/**
 * tools/api/machine.ts - the Machine that users hold: boot it, take its processes, run tools on its
 * devices, look inside, take its media with you.
 */
import { ENODEV, is_errno } from "../../kernel/include/errno.ts";
import type { block_device } from "../../kernel/include/blkdev.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { Machine as CoreMachine, type MachineOptions } from "../../kernel/machine.ts";
import { msleep } from "../../kernel/sched/core.ts";
import { signal_struct } from "../../kernel/signal.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { bdev_nr_bytes, lookup_bdev } from "../../drivers/block/bdev.ts";
import { nvdimm_state } from "../../drivers/nvdimm/nd.ts";
import type { virtio_pmem_options } from "../../drivers/nvdimm/nfit.ts";
import type { pmem_device, pmem_options } from "../../drivers/nvdimm/pmem.ts";
import { new_files_struct } from "../../fs/file.ts";
import { new_init_fs } from "../../fs/init.ts";
import { exec_mm } from "../../mm/exec.ts";
import { add_media_error } from "../../mm/memory-failure/media.ts";
import {
  media_snapshot,
  type media_snapshot_t,
  type snapshot_options,
  track_persistence,
} from "../../mm/phys.ts";
import { boot_kernel, type kernel_boot_options } from "./boot.ts";
import { check_machine_options } from "./check_options.ts";
import { SyscallError } from "./errors.ts";
import { Process } from "./process.ts";
import { sysfs_read, sysfs_write } from "./sysfs.ts";
import { run_tool, type tool_result } from "./tools.ts";

export interface machine_options
  extends MachineOptions,
    Omit<kernel_boot_options, "pmem" | "virtio_pmem"> {
  /** Devices: sizes in bytes or as "64M". Default: one of 64 MiB in fsdax mode, pmem0. */
  pmem?: readonly (Omit<pmem_options, "size"> & { size?: number | string })[];
  /**
   * Devices whose memory is the host's (virtio-pmem), after the others: DAX, durable only once the
   * host has flushed, which fsync asks it to, and so never MAP_SYNC.
   */
  virtio_pmem?: readonly (Omit<virtio_pmem_options, "size"> & { size: number | string })[];
  /** Media of another machine (media_snapshot()): its regions become pmem0, pmem1 ... */
  media?: media_snapshot_t;
  /** Follow what is durable: a power cut then loses what was not flushed. Default false. */
  track_persistence?: boolean;
}

const UNITS: Readonly<Record<string, number>> = Object.freeze({
  "": 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
});

const MAX_SIZE = 8 * UNITS["T"]!;

/** "64M" in bytes. @throws RangeError when it is no size */
export function size_bytes(size: number | string): number {
  const m = /^(\d+)([KMGT]?)(?:i?B)?$/i.exec(String(size));
  if (!m) throw new RangeError(`"${size}" is no size: 4096, 64M, 2G`);
  const bytes = Number(m[1]) * UNITS[m[2]!.toUpperCase()]!;
  if (bytes === 0 || bytes % 4096 !== 0 || bytes > MAX_SIZE) {
    throw new RangeError(`size ${size}: whole pages of 4096 bytes, at least one, at most 8T`);
  }
  return bytes;
}

const DEFAULT_PMEM = Object.freeze([{ size: "64M", mode: "fsdax" as const }]);

type devices = Required<Pick<kernel_boot_options, "pmem">> &
  Pick<kernel_boot_options, "nvdimm" | "virtio_pmem">;

function devices_of(o: machine_options): devices {
  const given = o.pmem ?? (o.nvdimm || o.virtio_pmem ? [] : DEFAULT_PMEM);
  const pmem = given.map(({ size, ...rest }) =>
    size === undefined ? rest : { ...rest, size: size_bytes(size) },
  );
  const virtio_pmem = o.virtio_pmem?.map((v) => ({ ...v, size: size_bytes(v.size) }));
  return virtio_pmem ? { pmem, virtio_pmem } : { pmem };
}

/** The devices of `o` with what a snapshot holds for them; regions are known by their names. */
function devices_on(media: media_snapshot_t, o: machine_options): devices {
  const left = new Map(media.regions.map((r) => [r.name, r]));
  const take = (name: string): { image?: unknown; size?: number } => {
    const r = left.get(name);
    left.delete(name);
    return r === undefined ? {} : { image: r.image, size: r.size };
  };
  const out: { -readonly [K in keyof devices]: devices[K] } = { pmem: [] };
  let regions = o.pmem?.length ?? 0;
  if (o.nvdimm) {
    const { interleave } = o.nvdimm;
    const set = interleave ? take(`region${regions++}`) : {};
    const dimms = o.nvdimm.dimms.map(({ init_labels: _, image: __, ...d }, i) => ({
      ...d,
      ...(interleave ? { size: set.size! / o.nvdimm!.dimms.length } : take(`region${regions++}`)),
      labels: take(`nmem${i}`).image,
    }));
    out.nvdimm = { dimms, ...(interleave ? { interleave, set_image: set.image } : {}) };
  }
  if (o.virtio_pmem) {
    out.virtio_pmem = o.virtio_pmem.map((v) => ({
      ...v,
      size: size_bytes(v.size),
      ...take(`region${regions++}`),
    }));
  }
  out.pmem = [...left.values()].map(({ image, name, domain, size }) => ({
    image,
    name,
    domain,
    size,
  }));
  return out;
}

/** One emulated computer with one kernel booted. Made by `await Machine.boot(options)`. */
export class Machine extends CoreMachine {
  /** The booted kernel. */
  kernel!: Kernel;
  private attached: pmem_device[] = [];
  private readonly options: machine_options;
  private nr_processes = 0;

  private constructor(options: machine_options) {
    super(options);
    this.options = options;
  }

  static async boot(options: machine_options = {}): Promise<Machine> {
    check_machine_options(options);
    const m = new Machine(options);
    const devices = options.media ? devices_on(options.media, options) : devices_of(options);
    const { virtio_pmem: _, ...rest } = options;
    const booted = await boot_kernel(m, { ...rest, ...devices });
    m.kernel = booted.kernel;
    m.attached = booted.pmem;
    if (options.track_persistence) {
      for (const r of m.kernel.phys.regions) if (r.kind === "pmem") track_persistence(r, null);
    }
    return m;
  }

  /** A machine whose kernel has no devices, no filesystems and no processes. */
  static bare(options: machine_options = {}): Machine {
    const m = new Machine(options);
    m.kernel = new Kernel(m);
    return m;
  }

  /** Its persistent memory disks that are bound now. */
  get pmem(): pmem_device[] {
    const namespaces = nvdimm_state(this.kernel)
      .buses.flatMap((b) => b.regions)
      .flatMap((r) => r.namespaces)
      .map((n) => n.raw ?? n.claim?.pmem ?? null);
    return [...this.attached, ...namespaces.filter((d) => d !== null)];
  }

  /** A new process: root, umask 022, working directory "/", no open files. */
  process(name?: string): Process {
    this.need_memory("a process");
    const n = ++this.nr_processes;
    const t = this.new_thread(this.kernel, name ?? (n === 1 ? "init" : `proc${n}`));
    t.files = new_files_struct();
    t.fs = new_init_fs(this.kernel);
    t.mm = exec_mm(this.kernel);
    t.signal = new signal_struct();
    return new Process(t);
  }

  /** @throws Error on a machine made by bare() */
  private need_memory(what: string): void {
    if (this.kernel.phys) return;
    const why = "Machine.bare() has neither memory nor a root file system";
    throw new Error(`${why}, and ${what} needs them: use Machine.boot(), or spawn() for a task`);
  }

  /** Wraps a task made by spawn() as a process object. */
  process_of(task: task_struct): Process {
    return new Process(task);
  }

  // --- tools

  /** Runs a tool on this machine's devices: "mkfs.ext4" and its words. */
  async tool(name: string, args: readonly string[]): Promise<tool_result> {
    this.need_memory("a tool");
    return await this.in_task(this.kernel, name, () => run_tool(this.kernel, name, [...args]));
  }
  /** `m.mkfs("ext4", "/dev/pmem0", "-b 4096")`. @throws Error with the tool's own words */
  async mkfs(type: string, device: string, options = ""): Promise<void> {
    const words = options.split(" ").filter((w) => w !== "");
    const force = type === "xfs" ? "-f" : "-F";
    const r = await this.tool(`mkfs.${type}`, [force, "-q", ...words, device]);
    if (r.status !== 0) throw new Error(`mkfs.${type} ${device}: ${r.stderr.trim() || r.status}`);
  }

  // --- time and tasks

  /** Lets virtual time pass; timers that fall due run. */
  async advance_ms(ms: number): Promise<void> {
    if (!(ms >= 0)) throw new RangeError(`advance_ms(${ms}): milliseconds, at least 0`);
    await this.in_task(this.kernel, "sleep", () => msleep(this.kernel, ms));
  }
  /** kill(2) from outside. SIGKILL also ends what the process is doing. */
  async kill(p: Process, signo: number): Promise<void> {
    const sender = this.process("kill");
    await sender.kill(p, signo);
    await this.settle();
    if (signo === 9) await this.reap(p);
    await sender.exit();
  }
  /** What a killed process held is given back. */
  private async reap(p: Process): Promise<void> {
    if (p.task.busy) return;
    await p.exit();
  }

  /** Set by checkpoint(): a promise keeps the scenario waiting at the mark. */
  at_mark: ((name: string) => Promise<void> | undefined) | null = null;
  /** Names a point of a scenario, for checkpoint(). Costs nothing otherwise. */
  mark(name: string): Promise<void> | undefined {
    return this.at_mark?.(name);
  }

  // --- looking inside

  /**
   * Typed tracepoints: `m.trace((e) => console.log(e.text()))`. Returns a function that stops it.
   */
  trace(listener: Parameters<Kernel["trace"]["subscribe"]>[0]): () => void {
    return this.kernel.trace.subscribe(listener);
  }
  /** The kernel log as text. */
  dmesg(): string {
    return this.kernel.dmesg_text();
  }
  bdev(path: string): block_device {
    return lookup_bdev(this.kernel, path);
  }
  private dressed_bdev(call: string, path: string): block_device {
    try {
      return this.bdev(path);
    } catch (e) {
      throw is_errno(e) ? new SyscallError(e, call, path) : e;
    }
  }
  /** Size and properties of a block device. @throws SyscallError ENOENT, ENOTBLK */
  block_info(path: string): {
    size: number;
    logical: number;
    physical: number;
    dax: boolean | null;
    start: number | null;
  } {
    const b = this.dressed_bdev("block_info", path);
    const d = b.bd_disk;
    return {
      size: bdev_nr_bytes(b),
      logical: d.logical_block_size,
      physical: d.physical_block_size,
      dax: b.bd_partno === 0 ? d.queue_dax : null,
      start: b.bd_partno === 0 ? null : b.bd_start_sect,
    };
  }
  /** An attribute below /sys, with its newline. */
  sysfs_read(path: string): string {
    return sysfs_read(this.kernel, path);
  }
  sysfs_write(path: string, text: string): void {
    sysfs_write(this.kernel, path, text);
  }
  private pmem_named(name: string): pmem_device {
    const p = this.pmem.find((d) => d.disk.disk_name === name);
    if (!p) throw ENODEV;
    return p;
  }
  /** Marks 512-byte sectors of a disk bad. */
  add_badblocks(disk: string, sector: number, count: number): void {
    this.pmem_named(disk).bb.set(sector, count);
  }
  /**
   * Makes bytes of a disk unreadable, as a failing device does: nobody knows until they are read.
   * In lines of 64 bytes.
   */
  add_media_error(disk: string, offset: number, len: number): void {
    const { region, data_offset } = this.pmem_named(disk);
    add_media_error(this.kernel, region.start + data_offset + offset, len);
  }
  /** How many sectors of a disk are known to be bad. */
  badblocks(disk: string): number {
    return this.pmem_named(disk)
      .bb.list()
      .reduce((n, r) => n + r.len, 0);
  }

  // --- taking it along

  /**
   * The bytes of the persistent memory, copy-on-write. `lose`: as a power cut leaves them, without
   * what was still in the cpu cache (needs track_persistence), but for the lines that `keep` names.
   */
  media_snapshot(opts: snapshot_options = {}): media_snapshot_t {
    this.need_memory("a snapshot");
    return media_snapshot(this, opts);
  }
  /**
   * Power off and on: a fresh machine on the same media; what was not durable is lost if tracked.
   */
  reboot(options: machine_options = this.options): Promise<Machine> {
    return Machine.boot({ ...options, media: this.media_snapshot({ lose: true }) });
  }
}

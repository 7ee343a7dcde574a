/**
 * drivers/md/dm.ts - mapped devices: a disk and a DAX device whose bytes lie where a table says.
 * Linux: drivers/md/dm.c. Differs: a bio is mapped and carried out in one go; there is no request
 * queue, no polling, no zones.
 *
 * Reading order: dm_fix_type() -> dm_submit_bio(), dm_dax_direct_access() -> dm_suspend() ->
 * dm_swap_table() -> dm_resume() -> dm_destroy().
 *
 * Life: a device starts without a table. A new table goes live only while the device is suspended:
 * its filesystem frozen, IO that comes waiting, IO that was under way ended. DAX is not held up by
 * this: who has memory mapped goes on using it, as in the kernel.
 *
 * Locks: suspend_lock (suspend, resume, swap; outermost, freezing a filesystem inside it),
 * type_lock (the kind of the first table), io_barrier (SRCU: whoever uses the table).
 *
 * The table's devices have no holder, so a failure of memory below reaches nobody above. With
 * `proposals.dm_holder` (never merged) the mapped device is the holder and passes the failure on to
 * its own, at the place that its table gives.
 */
import type { bio, gendisk } from "../../kernel/include/blkdev.ts";
import { REQ_FUA, REQ_OP_FLUSH, REQ_OP_READ, REQ_PREFLUSH } from "../../kernel/include/blkdev.ts";
import type { dax_device, dax_operations, dax_range } from "../../kernel/include/dax.ts";
import { EBUSY, EINVAL, EIO, EOPNOTSUPP, is_errno } from "../../kernel/include/errno.ts";
import type { Sometime } from "../../kernel/include/fs.ts";
import type { srcu_struct } from "../../kernel/include/locks.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { lock_class, mutex, new_wait_queue } from "../../kernel/locking/locks.ts";
import { srcu } from "../../kernel/locking/srcu.ts";
import { bio_bytes, bio_op, submit_bio } from "../block/bio.ts";
import { add_disk, block_state, del_gendisk, set_capacity } from "../block/genhd.ts";
import {
  alloc_dax,
  dax_add_host,
  dax_direct_access,
  dax_holder_notify_failure,
  dax_recovery_write,
  dax_remove_host,
  dax_write_cache,
  dax_zero_page_range,
  kill_dax,
  put_dax,
  set_dax_nocache,
  set_dax_nomc,
  set_dax_synchronous,
} from "../dax/super.ts";
import type { dm_target } from "./dm-target.ts";
import {
  type dax_holder,
  type dm_table,
  dm_table_check_areas,
  dm_table_destroy,
  dm_table_find_target,
  dm_table_rmap,
  max_io_len,
} from "./dm-table.ts";

export const DM_MAJOR = 254;
const SUSPEND_LOCK = lock_class("&md->suspend_lock");
const TYPE_LOCK = lock_class("&md->type_lock");
const IO_BARRIER = lock_class("&md->io_barrier");

export class mapped_device {
  readonly kernel: Kernel;
  readonly minor: number;
  /** Both come with the first table. type_lock */
  disk: gendisk | null = null;
  dax_dev: dax_device | null = null;
  /** The live table. suspend_lock and io_barrier */
  map: dm_table | null = null;
  /** What the first table made of it: "dax" can serve DAX, "bio" cannot. type_lock */
  type: "none" | "bio" | "dax" = "none";
  suspended = false; // suspend_lock
  /** IO that comes waits. */
  blocked = false; // suspend_lock
  frozen = false; // suspend_lock: our freeze of the filesystem on it
  in_flight = 0;
  readonly suspend_lock: mutex;
  readonly type_lock: mutex;
  readonly io_barrier: srcu_struct;
  readonly wait;

  constructor(kernel: Kernel, minor: number) {
    const { machine } = kernel;
    this.kernel = kernel;
    this.minor = minor;
    const label = `dm-${minor}`;
    this.suspend_lock = new mutex(machine, SUSPEND_LOCK, label);
    this.type_lock = new mutex(machine, TYPE_LOCK, label);
    this.io_barrier = new srcu(machine, IO_BARRIER, label);
    this.wait = new_wait_queue(machine, "&md->wait", label);
  }

  /** The holder of the devices below, when there is to be one. */
  get holder(): dax_holder | null {
    return this.kernel.proposals.dm_holder ? { holder: this, ops: dm_holder_ops } : null;
  }
}

// ------------------------------------------------------------------ bios

/** Bytes [from, from + len) of the bio's data. */
function slice(b: bio, from: number, len: number): bio["bi_io_vec"] {
  const out: bio["bi_io_vec"] = [];
  let at = 0;
  for (const v of b.bi_io_vec) {
    const first = Math.max(from, at);
    const end = Math.min(from + len, at + v.len);
    if (first < end) out.push({ ...v, offset: v.offset + first - at, len: end - first });
    at += v.len;
  }
  return out;
}

type step = () => Sometime<void>;

/** One after the other; without a promise while none of them sleeps. */
function run_all(steps: readonly step[], from = 0): Sometime<void> {
  for (let i = from; i < steps.length; i++) {
    const p = steps[i]!();
    if (p) return p.then(() => run_all(steps, i + 1));
  }
}

function carry_out(
  ti: dm_target,
  sector: number,
  opf: number,
  vec: bio["bi_io_vec"],
): Sometime<void> {
  if (ti.type.io === "error") throw EIO;
  if (ti.type.io === "map") {
    const { dev, sector: at } = ti.map(sector);
    return submit_bio({ bi_bdev: dev.bdev, bi_opf: opf, bi_sector: at, bi_io_vec: vec });
  }
  if (opf !== REQ_OP_READ) return;
  for (const v of vec) v.bytes.fill(0, v.offset, v.offset + v.len);
}

/** What the bio comes to: a flush of every device of the table, and a bio a piece. */
function split(map: dm_table, b: bio): step[] {
  const steps: step[] = [];
  if (b.bi_opf & REQ_PREFLUSH) {
    const bi_opf = REQ_OP_FLUSH | REQ_PREFLUSH;
    for (const { bdev } of map.devs) {
      steps.push(() => submit_bio({ bi_bdev: bdev, bi_opf, bi_sector: 0, bi_io_vec: [] }));
    }
  }
  const opf = bio_op(b) | (b.bi_opf & REQ_FUA);
  const sectors = bio_bytes(b) / 512;
  for (let done = 0; done < sectors; ) {
    const sector = b.bi_sector + done;
    const ti = dm_table_find_target(map, sector);
    if (ti === null) throw EIO;
    const n = Math.min(sectors - done, max_io_len(ti, sector));
    const vec = slice(b, done * 512, n * 512);
    steps.push(() => carry_out(ti, sector, opf, vec));
    done += n;
  }
  return steps;
}

function io_done(md: mapped_device): void {
  if (--md.in_flight === 0) md.wait.wake_up_all();
}

function map_bio(md: mapped_device, b: bio): Sometime<void> {
  const { map } = md;
  if (map === null) {
    md.kernel.pr_err(`device-mapper: core: dm-${md.minor}: mapping table unavailable, erroring io`);
    throw EIO;
  }
  md.in_flight++;
  let p: Sometime<void>;
  try {
    p = run_all(split(map, b));
  } catch (e) {
    io_done(md);
    throw e;
  }
  if (p) return p.finally(() => io_done(md));
  io_done(md);
}

/** Once the device goes on. */
async function deferred_bio(md: mapped_device, b: bio): Promise<void> {
  while (md.blocked) await md.wait.wait_event(() => !md.blocked);
  await map_bio(md, b);
}

function dm_submit_bio(md: mapped_device, b: bio): Sometime<void> {
  return md.blocked ? deferred_bio(md, b) : map_bio(md, b);
}

// ------------------------------------------------------------------ DAX

const md_of = (dev: dax_device): mapped_device => dev.private_data as mapped_device;

interface dax_place {
  dev: dax_device | null;
  pgoff: number;
  /** Pages to the end of the piece. */
  pages: number;
}

/** Where page `pgoff` of the mapped device is. Throws EIO: nowhere. */
function dax_place_of(md: mapped_device, pgoff: number): dax_place {
  const per_page = md.kernel.PAGE_SIZE / 512;
  const sector = pgoff * per_page;
  const ti = md.map === null ? null : dm_table_find_target(md.map, sector);
  if (ti === null || !ti.type.direct_access || ti.type.io !== "map") throw EIO;
  const pages = Math.floor(max_io_len(ti, sector) / per_page);
  if (pages < 1) throw EIO;
  const { dev, sector: at } = ti.map(sector);
  return {
    dev: dev.dax_dev,
    pgoff: Math.floor((dev.part_off / 512 + at) / per_page),
    pages,
  };
}

/** Runs `fn` while the table stays. */
function with_table<T>(md: mapped_device, fn: () => T): T {
  const idx = md.io_barrier.read_lock();
  try {
    return fn();
  } finally {
    md.io_barrier.read_unlock(idx);
  }
}

function dm_dax_direct_access(
  dev: dax_device,
  pgoff: number,
  nr_pages: number,
  mode: number,
  out: dax_range,
): void {
  const md = md_of(dev);
  with_table(md, () => {
    const at = dax_place_of(md, pgoff);
    dax_direct_access(at.dev, at.pgoff, Math.min(nr_pages, at.pages), mode, out);
  });
}

function dm_dax_zero_page_range(dev: dax_device, pgoff: number, nr_pages: number): Sometime<void> {
  const md = md_of(dev);
  return with_table(md, () => {
    const at = dax_place_of(md, pgoff);
    if (at.dev === null) throw EOPNOTSUPP;
    return dax_zero_page_range(at.dev, at.pgoff, nr_pages);
  });
}

function dm_dax_recovery_write(
  dev: dax_device,
  pgoff: number,
  paddr: number,
  bytes: number,
  iter: iov_iter,
): Sometime<number> {
  const md = md_of(dev);
  return with_table(md, () => {
    const at = dax_place_of(md, pgoff);
    return at.dev === null ? 0 : dax_recovery_write(at.dev, at.pgoff, paddr, bytes, iter);
  });
}

const dm_dax_ops: dax_operations = Object.freeze({
  direct_access: dm_dax_direct_access,
  zero_page_range: dm_dax_zero_page_range,
  recovery_write: dm_dax_recovery_write,
});

/** A failure below is one of ours: each run of it is told to who holds us. Throws as they do. */
async function dm_notify_failure(
  below: dax_device,
  offset: number,
  len: number,
  mf_flags: number,
): Promise<void> {
  const md = below.holder_data as mapped_device;
  const runs = dm_table_rmap(md.map, below, offset, len);
  if (runs.length === 0) throw EOPNOTSUPP;
  for (const r of runs) await dax_holder_notify_failure(md.dax_dev!, r.offset, r.len, mf_flags);
}

const dm_holder_ops = Object.freeze({ notify_failure: dm_notify_failure });

// ------------------------------------------------------------------ life

/** dm_setup_md_queue(): with the first table, still of size 0, /dev/dm-N appears. */
function set_up_disk(md: mapped_device): void {
  const { kernel, minor } = md;
  const name = `dm-${minor}`;
  md.disk = add_disk(kernel, {
    disk_name: name,
    major: DM_MAJOR,
    first_minor: minor,
    capacity: 0,
    submit_bio: (b) => dm_submit_bio(md, b),
    private_data: md,
  });
  md.dax_dev = alloc_dax(kernel, md, dm_dax_ops, 0, name);
  set_dax_nocache(md.dax_dev);
  set_dax_nomc(md.dax_dev);
  dax_add_host(md.dax_dev, md.disk);
}

export const dm_open_count = (md: mapped_device): number => md.disk?.part0.bd_openers ?? 0;

/** What the table makes of a device; an error target alone fits any kind. */
function table_type(md: mapped_device, t: dm_table): "bio" | "dax" {
  return t.supports_dax || (t.devs.length === 0 && md.type === "dax") ? "dax" : "bio";
}

/** A device whose first table had DAX takes no table without; the other way round both go. */
export async function dm_fix_type(md: mapped_device, t: dm_table): Promise<void> {
  const p = md.type_lock.lock();
  if (p) await p;
  try {
    const type = table_type(md, t);
    if (md.type === "dax" && type === "bio") {
      const why = "can't change device type (old=4 vs new=1) after initial table load.";
      md.kernel.pr_err(`device-mapper: ioctl: ${why}`);
      throw EINVAL;
    }
    if (md.type !== "none") return;
    set_up_disk(md);
    md.type = type;
  } finally {
    md.type_lock.unlock();
  }
}

async function locked<T>(md: mapped_device, fn: () => Promise<T>): Promise<T> {
  const p = md.suspend_lock.lock();
  if (p) await p;
  try {
    return await fn();
  } finally {
    md.suspend_lock.unlock();
  }
}

/** `lockfs`: freeze the filesystem on it first. EINVAL: it is suspended. */
export async function dm_suspend(md: mapped_device, lockfs: boolean): Promise<void> {
  await locked(md, async () => {
    if (md.suspended) throw EINVAL;
    if (lockfs && md.disk !== null) {
      await block_state(md.kernel).freeze_ops?.freeze_bdev(md.disk!.part0);
      md.frozen = true;
    }
    md.blocked = true;
    const p = md.io_barrier.synchronize();
    if (p) await p;
    if (md.in_flight > 0) await md.wait.wait_event(() => md.in_flight === 0);
    md.suspended = true;
  });
}

/** What fails now has nobody to tell. */
async function unlock_fs(md: mapped_device): Promise<void> {
  if (!md.frozen) return;
  md.frozen = false;
  try {
    await block_state(md.kernel).freeze_ops?.thaw_bdev(md.disk!.part0);
  } catch (e) {
    if (!is_errno(e)) throw e;
  }
}

/** Lets waiting IO go, then the filesystem. EINVAL: not suspended, or no table. */
export async function dm_resume(md: mapped_device): Promise<void> {
  await locked(md, async () => {
    if (!md.suspended || md.map === null || md.map.size === 0) throw EINVAL;
    md.blocked = false;
    md.wait.wake_up_all();
    await unlock_fs(md);
    md.suspended = false;
  });
}

/** dm_table_set_restrictions(): what the disk says of itself follows from the table. */
function bind(md: mapped_device, t: dm_table): void {
  const disk = md.disk!;
  set_capacity(md.kernel, disk, t.size);
  disk.logical_block_size = t.logical_block_size;
  disk.queue_write_cache = t.devs.some((d) => d.bdev.bd_disk.queue_write_cache);
  disk.queue_dax = t.supports_dax;
  disk.ro = !t.writable;
  disk.part0.bd_read_only = disk.ro;
  if (t.synchronous) set_dax_synchronous(md.dax_dev!);
  if (t.devs.some((d) => d.dax_dev?.write_cache)) dax_write_cache(md.dax_dev!, true);
  md.map = t;
}

/** The old table, to be destroyed. EINVAL: not suspended, or the devices do not fit the table. */
export async function dm_swap_table(md: mapped_device, t: dm_table): Promise<dm_table | null> {
  return locked(md, async () => {
    if (!md.suspended) throw EINVAL;
    dm_table_check_areas(t, `${DM_MAJOR}:${md.minor}`);
    const old = md.map;
    bind(md, t);
    const p = md.io_barrier.synchronize();
    if (p) await p;
    return old;
  });
}

/** EBUSY: somebody has it open. */
export function dm_check_unused(md: mapped_device): void {
  if (dm_open_count(md) > 0) throw EBUSY;
}

/** The device, which nobody has open, goes; its devices are given back. */
export async function dm_destroy(md: mapped_device): Promise<void> {
  const { kernel, map, disk } = md;
  if (disk !== null) {
    dax_remove_host(kernel, disk);
    await kill_dax(md.dax_dev);
    put_dax(md.dax_dev);
    del_gendisk(kernel, disk);
  }
  md.map = null;
  md.blocked = false;
  md.wait.wake_up_all();
  await unlock_fs(md);
  if (map !== null) await dm_table_destroy(map);
}

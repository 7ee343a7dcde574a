/**
 * drivers/dax/holder.ts - who holds a DAX device comes and goes, one access to shared state at a
 * time. Linux: drivers/dax/super.c (fs_dax_get, fs_put_dax).
 *
 * fs_dax_get_by_bdev() and fs_put_dax() of super.ts do the same in one step, which is all the same
 * to a run that is not explored. Here another processor may come in between any two accesses: to
 * explore what it then sees, and for holders that can sleep.
 *
 * Two ways to keep order:
 *  - upstream: the holder is claimed by compare-and-swap inside a read section of dax_srcu, so that
 *    kill_dax() comes before it or waits. A release waits for nobody: when the operations go before
 *    the holder (guard "dax_ops_before_holder"; 6.1 to 6.17 have it the other way round) no
 *    notification begins after it, but one that began before may still be at work. A holder has to
 *    be ready for that.
 *  - seed S3.3 (proposals.dax_holder_rwsem): a rwsem of the device, read by notifications, written
 *    by all else. A release waits for notifications: whoever releases under a lock that its own
 *    handler wants is in a deadlock.
 */
import type { dax_device, dax_holder_operations } from "../../kernel/include/dax.ts";
import type { MaybeWait, srcu_struct } from "../../kernel/include/locks.ts";
import { guarded } from "../../kernel/guards.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { lock_class } from "../../kernel/locking/lock.ts";
import { note_access } from "../../kernel/sched/core.ts";
import { percpu_rwsem } from "../../kernel/locking/locks.ts";

const HOLDER_RWSEM = lock_class("&dax_dev->holder_rwsem");

type device = dax_device & { readonly kernel: Kernel };

/** What tasks read and change without a lock; exploration tells the three apart. */
export type dax_field = "alive" | "holder_data" | "holder_ops";
type mark = { readonly lock_name: string; readonly seq: number };
export type dax_marks = Readonly<Record<dax_field, mark>>;

export function new_dax_marks({ machine }: Kernel, name: string): dax_marks {
  const make = (field: dax_field): mark => ({
    lock_name: `${field} of ${name}`,
    seq: machine.nr_objects++,
  });
  return { alive: make("alive"), holder_data: make("holder_data"), holder_ops: make("holder_ops") };
}

/** Gives the device the seed's lock, for good. Nobody holds or notifies yet. */
export function set_dax_holder_rwsem(dev: dax_device): void {
  const { machine } = (dev as device).kernel;
  dev.holder_rwsem = new percpu_rwsem(machine, HOLDER_RWSEM, dev.name);
}

/** Exploration learns that the step under way reads or changes a field. */
export function dax_touch(dev: dax_device, field: dax_field, write: boolean): void {
  const d = dev as device & { readonly marks: dax_marks };
  note_access(d.kernel, d.marks[field], write);
}

/** Others may go first; then the step under way accesses a field. */
function dax_access(dev: device, field: dax_field, write: boolean): MaybeWait {
  const { sched } = dev.kernel;
  const p = sched.exploring ? sched.sched_point() : undefined;
  if (p) return p.then(() => dax_touch(dev, field, write));
  dax_touch(dev, field, write);
  return undefined;
}

export function dax_read(dev: dax_device, field: dax_field): MaybeWait {
  return dax_access(dev as device, field, false);
}
export function dax_write(dev: dax_device, field: dax_field): MaybeWait {
  return dax_access(dev as device, field, true);
}

/** cmpxchg(&dev->holder_data, from, to): true if it was `from`. */
async function cmpxchg_holder(dev: device, from: unknown, to: unknown): Promise<boolean> {
  const p = dax_read(dev, "holder_data");
  if (p) await p;
  if (dev.holder_data !== from) return false;
  dax_touch(dev, "holder_data", true);
  dev.holder_data = to;
  return true;
}

async function set_holder_ops(dev: device, ops: dax_holder_operations | null): Promise<void> {
  const p = dax_write(dev, "holder_ops");
  if (p) await p;
  dev.holder_ops = ops;
}

async function claim(
  dev: device,
  holder: unknown,
  ops: dax_holder_operations | null,
): Promise<boolean> {
  const p = dax_read(dev, "alive");
  if (p) await p;
  if (!dev.alive || !(await cmpxchg_holder(dev, null, holder))) return false;
  await set_holder_ops(dev, ops);
  return true;
}

/** Claims a device. False: it is dead, or somebody holds it. */
export async function dax_claim_holder(
  dev: dax_device,
  holder: unknown,
  ops: dax_holder_operations | null,
  dax_srcu: srcu_struct,
): Promise<boolean> {
  const { holder_rwsem } = dev;
  const p = holder_rwsem?.down_write();
  if (p) await p;
  const id = holder_rwsem ? 0 : dax_srcu.read_lock();
  try {
    return await claim(dev as device, holder, ops);
  } finally {
    if (holder_rwsem) holder_rwsem.up_write();
    else dax_srcu.read_unlock(id);
  }
}

async function release(dev: device, holder: unknown): Promise<void> {
  if (!guarded(dev.kernel, "dax_ops_before_holder")) {
    if (await cmpxchg_holder(dev, holder, null)) await set_holder_ops(dev, null);
    return;
  }
  // A stranger's release changes nothing; after kill_dax() there is nothing to change.
  const p = dax_read(dev, "holder_data");
  if (p) await p;
  if (dev.holder_data !== holder) return;
  await set_holder_ops(dev, null);
  await cmpxchg_holder(dev, holder, null);
}

/** The holder lets go. */
export async function dax_release_holder(dev: dax_device, holder: unknown): Promise<void> {
  const rwsem = dev.holder_rwsem;
  const p = rwsem?.down_write();
  if (p) await p;
  try {
    await release(dev as device, holder);
  } finally {
    rwsem?.up_write();
  }
}

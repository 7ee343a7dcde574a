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
import { percpu_rwsem } from "../../kernel/locking/locks.ts";

const HOLDER_RWSEM = lock_class("&dax_dev->holder_rwsem");

type device = dax_device & { readonly kernel: Kernel };

/** Gives the device the seed's lock, for good. Nobody holds or notifies yet. */
export function set_dax_holder_rwsem(dev: dax_device): void {
  const { machine } = (dev as device).kernel;
  dev.holder_rwsem = new percpu_rwsem(machine, HOLDER_RWSEM, dev.name);
}

/** Exploration learns that the step under way reads or changes `alive` or the holder. */
export function dax_touch(kernel: Kernel, dev: dax_device, write: boolean): void {
  if (kernel.sched.observer !== null) kernel.sched.observer.touch(dev, write);
}

/** Others may go first, then the step touches the device. */
export function dax_access_point(kernel: Kernel, dev: dax_device, write: boolean): MaybeWait {
  const p = kernel.sched.exploring ? kernel.sched.sched_point() : undefined;
  if (p) return p.then(() => dax_touch(kernel, dev, write));
  dax_touch(kernel, dev, write);
  return undefined;
}

async function claim(
  dev: device,
  holder: unknown,
  ops: dax_holder_operations | null,
): Promise<boolean> {
  const p = dax_access_point(dev.kernel, dev, false);
  if (p) await p;
  if (!dev.alive) return false;
  const q = dax_access_point(dev.kernel, dev, true);
  if (q) await q;
  if (dev.holder_data !== null) return false;
  dev.holder_data = holder;
  const r = dax_access_point(dev.kernel, dev, true);
  if (r) await r;
  dev.holder_ops = ops;
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
  const ops_first = guarded(dev.kernel, "dax_ops_before_holder");
  const p = dax_access_point(dev.kernel, dev, true);
  if (p) await p;
  // A stranger's release changes nothing; after kill_dax() there is nothing to change.
  if (dev.holder_data !== holder) return;
  if (ops_first) dev.holder_ops = null;
  else dev.holder_data = null;
  const q = dax_access_point(dev.kernel, dev, true);
  if (q) await q;
  if (!ops_first) dev.holder_ops = null;
  else if (dev.holder_data === holder) dev.holder_data = null;
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

/**
 * drivers/md/dm-ioctl.ts - mapped devices by name: what dmsetup asks for. Linux:
 * drivers/md/dm-ioctl.c.
 *
 * A device has up to two tables: the live one, and one that has been loaded and takes its place at
 * the next resume. Locks: _hash_lock protects names, minors and loaded tables; it is let go before
 * a device is suspended or destroyed.
 */
import { EBUSY, EINVAL, ENXIO } from "../../kernel/include/errno.ts";
import { MKDEV, S_IFBLK } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { lock_class, rw_semaphore } from "../../kernel/locking/locks.ts";
import { devnode_create, devnode_delete } from "../../kernel/vfs/devnode.ts";
import {
  DM_MAJOR,
  dm_check_unused,
  dm_destroy,
  dm_fix_type,
  dm_resume,
  dm_suspend,
  dm_swap_table,
  mapped_device,
} from "./dm.ts";
import { type dm_table, dm_table_create, dm_table_destroy, type table_line } from "./dm-table.ts";

const HASH_LOCK = lock_class("_hash_lock");

export interface hash_cell {
  name: string; // _hash_lock
  uuid: string; // _hash_lock
  readonly md: mapped_device;
  /** Loaded, not live. */
  new_map: dm_table | null; // _hash_lock
}

export interface dm_state {
  readonly _hash_lock: rw_semaphore;
  /** By name. */
  readonly cells: Map<string, hash_cell>;
}

export function dm_state(kernel: Kernel): dm_state {
  kernel.dm_state ??= {
    _hash_lock: new rw_semaphore(kernel.machine, HASH_LOCK),
    cells: new Map(),
  } satisfies dm_state;
  return kernel.dm_state as dm_state;
}

async function with_hash<T>(kernel: Kernel, fn: (st: dm_state) => T): Promise<T> {
  const st = dm_state(kernel);
  const p = st._hash_lock.down_write();
  if (p) await p;
  try {
    return fn(st);
  } finally {
    st._hash_lock.up_write();
  }
}

/** By name, or "dm-0"'s path. ENXIO: none. */
function find(st: dm_state, name: string): hash_cell {
  const cell = st.cells.get(name);
  if (cell === undefined) throw ENXIO;
  return cell;
}

export function dm_find(kernel: Kernel, name: string): Promise<hash_cell> {
  return with_hash(kernel, (st) => find(st, name));
}

/** Every device, by name. */
export function dm_list(kernel: Kernel): Promise<hash_cell[]> {
  return with_hash(kernel, (st) =>
    [...st.cells.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
  );
}

const node_of = (name: string): string => `mapper/${name}`;

/** DM_DEV_CREATE. EBUSY: the name or the uuid is taken; EINVAL: no name. */
export function dm_dev_create(kernel: Kernel, name: string, uuid: string): Promise<hash_cell> {
  return with_hash(kernel, (st) => {
    if (name === "" || name.includes("/") || name.length > 127) throw EINVAL;
    const taken = [...st.cells.values()];
    if (st.cells.has(name)) throw EBUSY;
    if (uuid !== "" && taken.some((c) => c.uuid === uuid)) throw EBUSY;
    let minor = 0;
    while (taken.some((c) => c.md.minor === minor)) minor++;
    const cell: hash_cell = { name, uuid, md: new mapped_device(kernel, minor), new_map: null };
    st.cells.set(name, cell);
    devnode_create(kernel, node_of(name), S_IFBLK | 0o600, MKDEV(DM_MAJOR, minor));
    return cell;
  });
}

/** DM_TABLE_LOAD: takes the place of what was loaded before. Throws why the table is refused. */
export async function dm_table_load(
  kernel: Kernel,
  name: string,
  lines: readonly table_line[],
  writable: boolean,
): Promise<void> {
  const { md } = await dm_find(kernel, name);
  const t = await dm_table_create(kernel, lines, writable, md.holder);
  if ("why" in t) {
    kernel.pr_err(`device-mapper: table: ${DM_MAJOR}:${md.minor}: ${t.why} (-${t.errno.code})`);
    throw t.errno;
  }
  let old: dm_table | null;
  try {
    await dm_fix_type(md, t);
    old = await with_hash(kernel, (st) => {
      const cell = find(st, name);
      const before = cell.new_map;
      cell.new_map = t;
      return before;
    });
  } catch (e) {
    await dm_table_destroy(t);
    throw e;
  }
  if (old !== null) await dm_table_destroy(old);
}

/** DM_TABLE_CLEAR: forgets what was loaded. */
export async function dm_table_clear(kernel: Kernel, name: string): Promise<void> {
  const old = await with_hash(kernel, (st) => {
    const cell = find(st, name);
    const before = cell.new_map;
    cell.new_map = null;
    return before;
  });
  if (old !== null) await dm_table_destroy(old);
}

export async function dm_dev_suspend(kernel: Kernel, name: string, lockfs: boolean): Promise<void> {
  const { md } = await dm_find(kernel, name);
  if (!md.suspended) await dm_suspend(md, lockfs);
}

/** The loaded table, if there is one, becomes the live one. EINVAL: there is none at all. */
export async function dm_dev_resume(kernel: Kernel, name: string, lockfs: boolean): Promise<void> {
  const [md, table] = await with_hash(kernel, (st) => {
    const cell = find(st, name);
    const loaded = cell.new_map;
    cell.new_map = null;
    return [cell.md, loaded] as const;
  });
  if (table !== null) {
    if (!md.suspended) await dm_suspend(md, lockfs);
    const old = await dm_swap_table(md, table);
    if (old !== null) await dm_table_destroy(old);
  }
  if (md.suspended) await dm_resume(md);
}

/** DM_DEV_RENAME. EBUSY: taken. */
export function dm_dev_rename(kernel: Kernel, name: string, to: string): Promise<void> {
  return with_hash(kernel, (st) => {
    const cell = find(st, name);
    if (to === "" || to.includes("/") || to.length > 127) throw EINVAL;
    if (st.cells.has(to)) throw EBUSY;
    st.cells.delete(name);
    devnode_delete(kernel, node_of(name));
    cell.name = to;
    st.cells.set(to, cell);
    devnode_create(kernel, node_of(to), S_IFBLK | 0o600, MKDEV(DM_MAJOR, cell.md.minor));
  });
}

/** DM_DEV_REMOVE. EBUSY: open, or mounted. */
export async function dm_dev_remove(kernel: Kernel, name: string): Promise<void> {
  const cell = await with_hash(kernel, (st) => {
    const found = find(st, name);
    dm_check_unused(found.md);
    st.cells.delete(name);
    devnode_delete(kernel, node_of(name));
    return found;
  });
  if (cell.new_map !== null) await dm_table_destroy(cell.new_map);
  await dm_destroy(cell.md);
}

/**
 * kernel/locking/order.ts - the lock order of the DAX stack, written once. Linux: the comments at
 * the head of mm/rmap.c and mm/filemap.c, fs/ext4/super.c, fs/xfs/xfs_inode.c, and
 * fs/jbd2/transaction.c.
 *
 * lockdep starts from it, `daxlab locks` prints it, and a test fails on a pair that it does not
 * allow. A pair is allowed if the steps lead from the outer to the inner class. `unseen` locks are
 * those that Linux does not show to its validator.
 */
export interface order_rule {
  readonly outer: string;
  readonly inner: string;
  /** Where the kernel does it. */
  readonly why: string;
}

/** The kernel's old names, and short ones. */
const ALIASES: Readonly<Record<string, string>> = Object.freeze({
  mmap_sem: "&mm->mmap_lock",
  mmap_lock: "&mm->mmap_lock",
  "&mm->mmap_sem": "&mm->mmap_lock",
});

const F_POS = "&f->f_pos_lock";
const RENAME = "&type->s_vfs_rename_key";
const UMOUNT = "&type->s_umount_key";
const WRITERS = "sb_writers";
const PAGEFAULTS = "sb_pagefaults";
const INTERNAL = "sb_internal";
const I_RWSEM = "&inode->i_rwsem";
/** Of an inode that holds an attribute's value (I_MUTEX_XATTR). */
const EA_RWSEM = "&inode->i_rwsem/3";
const MMAP = "&mm->mmap_lock";
const INVALIDATE = "mapping.invalidate_lock";
const I_MMAP = "&mapping->i_mmap_rwsem";
const ANON_VMA = "&anon_vma->rwsem";
const TASKLIST = "tasklist_lock";
const PAGE_TABLE = "&mm->page_table_lock";
const XA_LOCK = "&xa->xa_lock";
const I_LOCK = "&inode->i_lock";
const PAGE = "&page->lock";
const BUFFER = "buffer_head";
const DAX_ENTRY = "dax_entry";
const DAX_SRCU = "dax_srcu";
const MF_MUTEX = "mf_mutex";
const DM_SUSPEND = "&md->suspend_lock";
const DM_BARRIER = "&md->io_barrier";
const FSFREEZE = "&bdev->bd_fsfreeze_mutex";
const HOLDER_RWSEM = "&dax_dev->holder_rwsem";
const DEVICE = "&dev->mutex";
const NVDIMM_BUS = "&nvdimm_bus->reconfig_mutex";
const BADRANGE = "&badrange->lock";
const BADBLOCKS = "&bb->lock";
const PIPE = "&pipe->mutex";
const RECLAIM = "fs_reclaim";
const HANDLE = "jbd2_handle";
const J_STATE = "&journal->j_state_lock";
const BH_STATE = "&jh->b_state_lock";
const J_LIST = "&journal->j_list_lock";
const JH = "bh_journal_head";
const WRITEPAGES = "&sbi->s_writepages_rwsem";
const ORPHAN = "&sbi->s_orphan_lock";
const XATTR = "&ei->xattr_sem";
const I_DATA = "&ei->i_data_sem";
const RAW_LOCK = "&ei->i_raw_lock";
const RESERVATION = "&ei->i_block_reservation_lock";
const XFS_ILOCK = "&xfs_nondir_ilock_class";
const XFS_DIR_ILOCK = "&xfs_dir_ilock_class";

/** Classes of bit locks and of the DAX entry lock: the wait-for graph sees them, lockdep not. */
export const unseen_classes: readonly string[] = Object.freeze([PAGE, BUFFER, DAX_ENTRY]);

/**
 * Only readers that nest hold these for long, and nobody waits for them but a writer that holds
 * nothing: what is taken inside is no order for what was held outside.
 */
export const recursive_classes: readonly string[] = Object.freeze([DAX_SRCU, DM_BARRIER]);

/*
 * XFS takes its transaction inside the DAX entry lock, ext4 outside (see DAX fault). The entry lock
 * is no class of the validator, so the two do not contradict each other in its graph; the table
 * has ext4's.
 */
/** From the outside in; along each line the first word of the next takes over. */
const CHAINS: readonly (readonly [why: string, ...classes: string[]])[] = Object.freeze([
  ["write() and copying from its buffer", WRITERS, I_RWSEM, MMAP],
  ["file position, then the file", F_POS, WRITERS],
  ["read() and getdents() under the position", F_POS, I_RWSEM],
  ["freezing, sync and mounting: level 1 drains before", WRITERS, UMOUNT],
  ["rename between directories", WRITERS, RENAME, I_RWSEM],
  ["sync and umount write inodes and evict them", UMOUNT, I_RWSEM],
  ["write fault", MMAP, PAGEFAULTS, INVALIDATE],
  ["truncate, punch, collapse", I_RWSEM, INVALIDATE],
  ["unmapping a range of a file", INVALIDATE, I_MMAP],
  ["mmap() and fork() link the mapping", MMAP, I_MMAP],
  ["mm/rmap.c", I_MMAP, ANON_VMA, PAGE_TABLE],
  ["memory failure looks for processes", ANON_VMA, TASKLIST, PAGE_TABLE],
  ["zap_pte_range() sets pages dirty; filemap_remove_folio()", PAGE_TABLE, I_LOCK, XA_LOCK],
  ["a page is brought in or dropped", INVALIDATE, PAGE],
  ["unmapping a locked page", PAGE, I_MMAP],
  ["splice() writes a file from a pipe", WRITERS, PIPE, I_RWSEM],
  ["a pipe's pages are copied from or to the user", PIPE, MMAP],
  ["memory failure is outermost", MF_MUTEX, DAX_ENTRY, I_MMAP],
  ["memory failure asks the holder", MF_MUTEX, DAX_SRCU],
  ["memory failure of a page of the page cache", MF_MUTEX, PAGE],
  ["memory failure of anonymous memory", MF_MUTEX, TASKLIST],
  ["from 6.8 on, a holder that hears of a removal freezes itself", DAX_SRCU, UMOUNT],
  ["the seed's lock around the holder: mount and umount", UMOUNT, HOLDER_RWSEM],
  ["the seed's lock around the holder: notification", MF_MUTEX, HOLDER_RWSEM, DAX_ENTRY],
  ["a driver is unbound under the device's lock", DEVICE, HOLDER_RWSEM, DAX_SRCU],
  ["namespaces are changed: the device, then the bus", DEVICE, NVDIMM_BUS],
  ["bad ranges of a bus become those of a disk", NVDIMM_BUS, BADRANGE],
  ["bad ranges of a bus become those of a disk", NVDIMM_BUS, BADBLOCKS],
  ["direct_access() looks whether the range is good", DAX_SRCU, BADBLOCKS],
  ["DAX fault", INVALIDATE, DAX_ENTRY, I_MMAP],
  ["read() and write() of DAX files copy inside it", I_RWSEM, DAX_SRCU, MMAP],
  ["the fault finds the device with its entry locked", DAX_ENTRY, DAX_SRCU],
  ["writeback and zeroing find the device", WRITEPAGES, DAX_SRCU],
  ["suspending a mapped device freezes the filesystem on it", DM_SUSPEND, FSFREEZE, WRITERS],
  ["a mapped device gets another table", DM_SUSPEND, DM_BARRIER],
  ["the table says where the bytes of a DAX device are", DAX_SRCU, DM_BARRIER],
  ["a write that repairs copies inside the table's section", DM_BARRIER, MMAP],
  ["a fault maps blocks with the entry locked", DAX_ENTRY, I_DATA],
  ["a fault maps blocks with the entry locked", DAX_ENTRY, XFS_ILOCK],
  ["ext4 faults: the handle outside the DAX entry", INVALIDATE, HANDLE, DAX_ENTRY],
  ["internal level of freezing around a transaction", INVALIDATE, INTERNAL, HANDLE],
  ["eviction and worker threads", UMOUNT, INTERNAL],
  ["a handle is open while blocks are mapped", HANDLE, PAGE, I_DATA],
  ["attributes and inline data are changed in a handle", HANDLE, XATTR, I_DATA],
  ["the value of an attribute in an inode of its own", XATTR, EA_RWSEM, I_DATA],
  ["a page of inline data is set dirty", XATTR, XA_LOCK],
  ["ext4_read_inline_page(), ext4_write_inline_data_end()", PAGE, XATTR],
  ["the list of orphans is changed in a handle", HANDLE, ORPHAN, BUFFER],
  ["ext4 maps blocks below its own lock", I_DATA, BUFFER],
  ["ext4_map_blocks(): the allocator and the extent status tree", I_DATA, RESERVATION],
  ["ext4_do_update_inode()", BUFFER, RAW_LOCK],
  ["ext4_do_update_inode()", I_DATA, RAW_LOCK],
  ["ext4_writepages()", WRITEPAGES, HANDLE],
  ["ext4: changing the flags of an inode", INVALIDATE, WRITEPAGES],
  ["sync writes data", UMOUNT, WRITEPAGES],
  ["reading an attribute", I_RWSEM, XATTR],
  ["jbd2 spinlocks", HANDLE, J_STATE, BH_STATE, J_LIST, JH],
  ["xfs: block maps", PAGE, XFS_ILOCK],
  ["xfs: readdir copies to the user with the directory locked", XFS_DIR_ILOCK, MMAP],
  ["xfs: block maps of a directory", I_RWSEM, XFS_DIR_ILOCK],
  ["a page is allocated for a fault or a read", INVALIDATE, RECLAIM],
  ["reclaim unmaps pages", RECLAIM, I_MMAP],
  ["reclaim evicts inodes, which frees their blocks", RECLAIM, INTERNAL],
]);

function rules_of(): order_rule[] {
  const out: order_rule[] = [];
  for (const [why, ...classes] of CHAINS) {
    for (let i = 1; i < classes.length; i++) {
      out.push(Object.freeze({ outer: classes[i - 1]!, inner: classes[i]!, why }));
    }
  }
  return out;
}

export const order_rules: readonly order_rule[] = Object.freeze(rules_of());

/** Two locks of one class: allowed with these rules, which lockdep sees as subclasses. */
export const same_class_rules: readonly order_rule[] = Object.freeze(
  [
    { outer: I_RWSEM, inner: I_RWSEM, why: "parent before child; two files by address" },
    { outer: MMAP, inner: MMAP, why: "fork: parent's, then the child's" },
    { outer: PAGE_TABLE, inner: PAGE_TABLE, why: "fork and mremap: source and destination" },
    { outer: PAGE, inner: PAGE, why: "several pages of a file, by rising index" },
    { outer: BUFFER, inner: BUFFER, why: "several blocks" },
    { outer: PIPE, inner: PIPE, why: "splice between two pipes, by address" },
    { outer: INVALIDATE, inner: INVALIDATE, why: "two files, by address" },
    { outer: I_DATA, inner: I_DATA, why: "a file, then its quota file or the other file" },
    { outer: XFS_ILOCK, inner: XFS_ILOCK, why: "two inodes, by number" },
  ].map((r) => Object.freeze(r)),
);

/** The class as the table names it: without subclass, old names resolved. */
export function order_name(name: string): string {
  if (name === EA_RWSEM) return name;
  const at = name.lastIndexOf("/");
  const base = at > 0 && /^\d+$/.test(name.slice(at + 1)) ? name.slice(0, at) : name;
  return ALIASES[base] ?? base;
}

type reach = ReadonlyMap<string, ReadonlyMap<string, string>>;

function closure(rules: readonly order_rule[], backwards: boolean): reach {
  const next = new Map<string, order_rule[]>();
  for (const r of rules) {
    const from = backwards ? r.inner : r.outer;
    const list = next.get(from);
    if (list === undefined) next.set(from, [r]);
    else list.push(r);
  }
  const names = [...new Set(rules.flatMap((r) => [r.outer, r.inner]))];
  const reached = (start: string): Map<string, string> => {
    const out = new Map<string, string>();
    const queue = [start];
    for (const at of queue) {
      for (const r of next.get(at) ?? []) {
        const to = backwards ? r.outer : r.inner;
        if (out.has(to)) continue;
        out.set(to, at === start ? r.why : `${out.get(at)}; ${r.why}`);
        if (!recursive_classes.includes(to)) queue.push(to);
      }
    }
    return out;
  };
  return new Map(names.map((n) => [n, reached(n)]));
}

const AFTER = closure(order_rules, false);
const BEFORE = closure(order_rules, true);

/** Classes that may be taken while `name` is held, each with its reason; null: not in the table. */
export function known_after(name: string): ReadonlyMap<string, string> | null {
  return AFTER.get(order_name(name)) ?? null;
}

/** Classes that may be held while `name` is taken. */
export function known_before(name: string): ReadonlyMap<string, string> | null {
  return BEFORE.get(order_name(name)) ?? null;
}

/** The classes of the table. */
export function known_classes(): string[] {
  return [...AFTER.keys()];
}

/** "allowed", "forbidden", or "unknown" if the table lacks one of the two. */
export function order_verdict(outer: string, inner: string): "allowed" | "forbidden" | "unknown" {
  const a = order_name(outer);
  const b = order_name(inner);
  const after = AFTER.get(a);
  if (after === undefined || !AFTER.has(b)) return "unknown";
  if (a === b) return same_class_rules.some((r) => r.outer === a) ? "allowed" : "forbidden";
  return after.has(b) ? "allowed" : "forbidden";
}

/**
 * Rules that no path of other rules implies: what a drawing needs. The table must have no circle.
 */
export function order_skeleton(): order_rule[] {
  const seen = new Set<string>();
  const passes = (mid: string): boolean => !recursive_classes.includes(mid);
  return order_rules.filter((r) => {
    const key = `${r.outer}\n${r.inner}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return ![...AFTER.get(r.outer)!.keys()].some(
      (mid) => mid !== r.inner && passes(mid) && AFTER.get(mid)!.has(r.inner),
    );
  });
}

/**
 * mm/mmap.ts - mapping and unmapping. Linux: mm/mmap.c, mm/util.c (vm_mmap_pgoff),
 * arch/x86/kernel/sys_x86_64.c.
 *
 * Reading order: sys_mmap() -> do_mmap() (checks) -> mmap_region() (makes the vma);
 * sys_munmap() -> do_munmap(). What a mapping's file reference keeps alive is dropped after
 * mmap_lock.
 * Locks: mmap_lock for writing around everything; i_mmap_rwsem inside (vma.ts).
 */
import {
  EACCES,
  EAGAIN,
  EBADF,
  EEXIST,
  EINVAL,
  ENODEV,
  ENOMEM,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  ETXTBSY,
} from "../kernel/include/errno.ts";
import {
  FMODE_READ,
  FMODE_WRITE,
  MNT_NOEXEC,
  SB_I_NOEXEC,
  S_APPEND,
  S_DAX,
  S_SWAPFILE,
} from "../kernel/include/fs.ts";
import type { file } from "../kernel/include/fs.ts";
import { CAP_IPC_LOCK, CAP_SYS_RAWIO } from "../kernel/include/cred.ts";
import {
  LEGACY_MAP_MASK,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_SYNC,
  MAP_TYPE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from "../kernel/include/mman.ts";
import {
  VM_ACCOUNT,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_LOCKED,
  VM_LOCKONFAULT,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_NORESERVE,
  VM_READ,
  VM_SHARED,
  VM_SOFTDIRTY,
  VM_SYNC,
  VM_WRITE,
} from "../kernel/include/mm_types.ts";
import type { mm_struct, vm_area_struct } from "../kernel/include/mm_types.ts";
import { S_ISBLK, S_ISREG } from "../kernel/include/stat.ts";
import { capable } from "../kernel/cred.ts";
import { behaves } from "../kernel/release.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { fput, get_file } from "../kernel/vfs/file.ts";
import { mm_populate } from "./gup.ts";
import { vma_adjust_trans_huge, zap_page_range_single } from "./memory/zap.ts";
import { MMAP_MIN_ADDR } from "./mm_init.ts";
import { free_pgtables, geometry } from "./pgtable.ts";
import { task_rlimit } from "./rlimit.ts";
import { shmem_zero_setup } from "./shmem.ts";
import { get_unmapped_area } from "./unmapped_area.ts";
import {
  MAX_MAP_COUNT,
  VM_SPECIAL,
  find_vma,
  find_vma_index,
  find_vma_intersection,
  split_vma,
  vm_area_alloc,
  vma_link,
  vma_merge,
  vma_pages,
  vma_set_page_prot,
  vma_unlink_file,
  vmas_in,
} from "./vma.ts";
import type { vma_kind } from "./vma.ts";

/** The task's address space; a kernel thread has none. */
export function task_mm(task: task_struct): mm_struct {
  if (task.mm === null) throw EINVAL;
  return task.mm;
}

/** A negative number as the unsigned 64-bit one it stands for (to 53 bits). */
export function u64(n: number): number {
  return n < 0 ? n + 2 ** 64 : n;
}

export function page_align(mm: mm_struct, n: number): number {
  const { page_size } = geometry(mm);
  return Math.ceil(n / page_size) * page_size;
}

export function page_aligned(mm: mm_struct, n: number): boolean {
  return n % geometry(mm).page_size === 0;
}

function calc_vm_prot_bits(prot: number): number {
  return (
    (prot & PROT_READ ? VM_READ : 0) |
    (prot & PROT_WRITE ? VM_WRITE : 0) |
    (prot & PROT_EXEC ? VM_EXEC : 0)
  );
}

function calc_vm_flag_bits(flags: number): number {
  return (
    (flags & MAP_GROWSDOWN ? VM_GROWSDOWN : 0) |
    (flags & MAP_LOCKED ? VM_LOCKED : 0) |
    (flags & MAP_SYNC ? VM_SYNC : 0)
  );
}

function path_noexec(file: file): boolean {
  const { mnt } = file.f_path;
  return (mnt.mnt_flags & MNT_NOEXEC) !== 0 || (mnt.mnt_sb.s_iflags & SB_I_NOEXEC) !== 0;
}

/** Files have a size limit; offsets of devices are whatever they like, but positive. */
function file_mmap_ok(mm: mm_struct, file: file, pgoff: number, len: number): boolean {
  const inode = file.f_inode;
  const { page_size } = geometry(mm);
  const pages = len / page_size;
  const limited = S_ISREG(inode.i_mode) || S_ISBLK(inode.i_mode);
  const maxsize = limited ? inode.i_sb.s_maxbytes : 2 ** 64;
  return pages <= maxsize / page_size && pgoff <= maxsize / page_size - pages;
}

/** vm_flags for the file and the type of sharing; throws what the checks find. */
function file_vm_flags(file: file, prot: number, flags: number, vm_flags: number): number {
  const inode = file.f_inode;
  const type = flags & MAP_TYPE;
  const validate = type === MAP_SHARED_VALIDATE && behaves(inode.kernel, "map_sync");
  if (type === MAP_SHARED || validate) {
    // Plain MAP_SHARED never refused unknown flags, so it cannot begin to: it forgets them.
    if (type === MAP_SHARED) flags &= LEGACY_MAP_MASK;
    if (flags & ~(LEGACY_MAP_MASK | (file.f_op.mmap_supported_flags ?? 0))) throw EOPNOTSUPP;
    if (prot & PROT_WRITE) {
      if (!(file.f_mode & FMODE_WRITE)) throw EACCES;
      if (file.f_mapping.host.i_flags & S_SWAPFILE) throw ETXTBSY;
    }
    if (inode.i_flags & S_APPEND && file.f_mode & FMODE_WRITE) throw EACCES;
    vm_flags |= VM_SHARED | VM_MAYSHARE;
    if (!(file.f_mode & FMODE_WRITE)) vm_flags &= ~(VM_MAYWRITE | VM_SHARED);
  } else if (type !== MAP_PRIVATE) throw EINVAL;
  if (!(file.f_mode & FMODE_READ)) throw EACCES;
  if (path_noexec(file)) {
    if (vm_flags & VM_EXEC) throw EPERM;
    vm_flags &= ~VM_MAYEXEC;
  }
  if (!file.f_op.mmap) throw ENODEV;
  if (vm_flags & VM_GROWSDOWN) throw EINVAL;
  return vm_flags;
}

/** May this much more be locked? Throws EAGAIN. */
function mlock_future_check(task: task_struct, mm: mm_struct, vm_flags: number, len: number): void {
  if (!(vm_flags & VM_LOCKED)) return;
  const { page_size } = geometry(mm);
  const locked = mm.locked_vm * page_size + len;
  if (locked > task_rlimit(task, "MEMLOCK") && !capable(mm.kernel, CAP_IPC_LOCK)) throw EAGAIN;
}

export function can_do_mlock(task: task_struct): boolean {
  return task_rlimit(task, "MEMLOCK") !== 0 || capable(task.kernel, CAP_IPC_LOCK);
}

/** Where to map, how many bytes to populate then, and files whose last use has ended. */
interface mmap_result {
  addr: number;
  populate: number;
  put: file[];
}

async function do_mmap(
  task: task_struct,
  file: file | null,
  addr: number,
  len: number,
  prot: number,
  flags: number,
  pgoff: number,
): Promise<mmap_result> {
  const mm = task_mm(task);
  const { page_size } = geometry(mm);
  if (len === 0) throw EINVAL;
  if (flags & MAP_FIXED_NOREPLACE) flags |= MAP_FIXED;
  if (!(flags & MAP_FIXED)) {
    addr = Math.floor(addr / page_size) * page_size;
    if (addr !== 0 && addr < MMAP_MIN_ADDR) addr = MMAP_MIN_ADDR;
  }
  len = page_align(mm, len);
  if (len >= 2 ** 64 || len === 0) throw ENOMEM;
  if (pgoff + len / page_size >= 2 ** 64) throw EOVERFLOW;
  if (mm.mmap.length > MAX_MAP_COUNT) throw ENOMEM;
  addr = get_unmapped_area(mm, file, addr, len, pgoff, flags);
  if (addr < MMAP_MIN_ADDR && !capable(mm.kernel, CAP_SYS_RAWIO)) throw EPERM;
  if (flags & MAP_FIXED_NOREPLACE && find_vma_intersection(mm, addr, addr + len)) throw EEXIST;
  let vm_flags =
    calc_vm_prot_bits(prot) |
    calc_vm_flag_bits(flags) |
    mm.def_flags |
    (VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC);
  if (flags & MAP_LOCKED && !can_do_mlock(task)) throw EPERM;
  mlock_future_check(task, mm, vm_flags, len);
  if (file) {
    if (!file_mmap_ok(mm, file, pgoff, len)) throw EOVERFLOW;
    vm_flags = file_vm_flags(file, prot, flags, vm_flags);
  } else if ((flags & MAP_TYPE) === MAP_SHARED) {
    if (vm_flags & VM_GROWSDOWN) throw EINVAL;
    pgoff = 0;
    vm_flags |= VM_SHARED | VM_MAYSHARE;
  } else if ((flags & MAP_TYPE) === MAP_PRIVATE) pgoff = addr / page_size;
  else throw EINVAL;
  if (flags & MAP_NORESERVE) vm_flags |= VM_NORESERVE;
  const put: file[] = [];
  await mmap_region(task, mm, file, addr, len, vm_flags, pgoff, put);
  const wanted = (flags & (MAP_POPULATE | MAP_NONBLOCK)) === MAP_POPULATE;
  return { addr, populate: vm_flags & VM_LOCKED || wanted ? len : 0, put };
}

/** Address space limit. */
export function may_expand_vm(task: task_struct, mm: mm_struct, pages: number): boolean {
  const { page_size } = geometry(mm);
  return mm.total_vm + pages <= task_rlimit(task, "AS") / page_size;
}

function count_pages_in(mm: mm_struct, start: number, end: number): number {
  let pages = 0;
  for (const v of vmas_in(mm, start, end)) {
    pages += Math.min(v.vm_end, end) - Math.max(v.vm_start, start);
  }
  return pages / geometry(mm).page_size;
}

async function mmap_region(
  task: task_struct,
  mm: mm_struct,
  file: file | null,
  addr: number,
  len: number,
  vm_flags: number,
  pgoff: number,
  put: file[],
): Promise<void> {
  const pages = len / geometry(mm).page_size;
  const end = addr + len;
  if (!may_expand_vm(task, mm, pages - count_pages_in(mm, addr, end))) throw ENOMEM;
  await do_munmap(mm, addr, len, put);
  if (!(vm_flags & VM_SHARED) && vm_flags & VM_WRITE && !(vm_flags & VM_NORESERVE)) {
    vm_flags |= VM_ACCOUNT;
  }
  const kind: vma_kind = { vm_flags, file, anon_vma: null, vm_ops: null, private_data: null };
  const alone = file === null && (vm_flags & VM_SHARED) !== 0;
  let vma = alone ? null : await vma_merge(mm, addr, end, pgoff, kind, null);
  if (vma === null) vma = await new_vma(mm, file, addr, end, vm_flags, pgoff);
  mm.total_vm += pages;
  if (vma.vm_flags & VM_LOCKED) {
    if (vma.vm_flags & VM_SPECIAL || (vma.vm_file && vma.vm_file.f_mapping.host.i_flags & S_DAX)) {
      vma.vm_flags &= ~(VM_LOCKED | VM_LOCKONFAULT);
    } else mm.locked_vm += pages;
  }
  vma.vm_flags |= VM_SOFTDIRTY;
  vma_set_page_prot(vma);
}

async function new_vma(
  mm: mm_struct,
  file: file | null,
  addr: number,
  end: number,
  vm_flags: number,
  pgoff: number,
): Promise<vm_area_struct> {
  const vma = vm_area_alloc(mm, addr, end, vm_flags, pgoff);
  vma_set_page_prot(vma);
  if (file) {
    if (vm_flags & VM_SHARED) {
      if (file.f_mapping.i_mmap_writable < 0) throw EPERM;
    }
    vma.vm_file = get_file(file);
    try {
      await file.f_op.mmap!(file, vma);
    } catch (e) {
      vma.vm_file = null;
      await fput(file);
      throw e;
    }
    if (vm_flags !== vma.vm_flags) {
      // The file changed the flags (DAX adds VM_HUGEPAGE): now a neighbour may be alike.
      const { vm_ops, vm_private_data } = vma;
      const kind = { vm_flags: vma.vm_flags, file, anon_vma: null, vm_ops };
      const k: vma_kind = { ...kind, private_data: vm_private_data };
      const merged = await vma_merge(mm, addr, end, vma.vm_pgoff, k, null);
      if (merged) {
        await fput(file);
        return merged;
      }
    }
  } else if (vm_flags & VM_SHARED) shmem_zero_setup(vma);
  await vma_link(mm, vma);
  return vma;
}

/**
 * mmap(2). `file` is what the caller's descriptor stands for: null without MAP_ANONYMOUS is EBADF.
 * `offset` in bytes. Returns the address.
 */
export async function sys_mmap(
  task: task_struct,
  addr: number,
  len: number,
  prot: number,
  flags: number,
  file: file | null,
  offset: number,
): Promise<number> {
  const mm = task_mm(task);
  addr = u64(addr);
  len = u64(len);
  offset = u64(offset);
  if (!page_aligned(mm, offset)) throw EINVAL;
  if (flags & MAP_ANONYMOUS) file = null;
  else if (file === null) throw EBADF;
  if (flags & MAP_HUGETLB) throw file ? EINVAL : ENOMEM;
  const p = mm.mmap_lock.down_write();
  if (p) await p;
  let r: mmap_result;
  try {
    r = await do_mmap(task, file, addr, len, prot, flags, offset / geometry(mm).page_size);
  } finally {
    mm.mmap_lock.up_write();
  }
  for (const f of r.put) await fput(f);
  if (r.populate > 0) await mm_populate(mm, r.addr, r.populate, true);
  return r.addr;
}

/**
 * Removes what is mapped in [start, start + len), mmap_lock held for writing. Files whose reference
 * is to be dropped (after the lock) are added to `put`.
 */
export async function do_munmap(
  mm: mm_struct,
  start: number,
  len: number,
  put: file[],
): Promise<void> {
  if (!page_aligned(mm, start) || start > mm.task_size || len > mm.task_size - start) throw EINVAL;
  len = page_align(mm, len);
  if (len === 0) throw EINVAL;
  const end = start + len;
  const first = find_vma(mm, start);
  if (first === null || first.vm_start >= end) return;
  if (start > first.vm_start) {
    if (end < first.vm_end && mm.mmap.length >= MAX_MAP_COUNT) throw ENOMEM;
    await split_vma(mm, first, start, false, vma_adjust_trans_huge);
  }
  const last = find_vma(mm, end);
  if (last !== null && last.vm_start < end) {
    await split_vma(mm, last, end, true, vma_adjust_trans_huge);
  }
  const gone = vmas_in(mm, start, end);
  const i = find_vma_index(mm, start);
  mm.mmap.splice(i, gone.length);
  await unmap_region(mm, gone, mm.mmap[i - 1] ?? null, mm.mmap[i] ?? null);
  for (const v of gone) {
    if (v.vm_flags & VM_LOCKED) mm.locked_vm -= vma_pages(v);
    mm.total_vm -= vma_pages(v);
    v.vm_ops?.close?.(v);
    if (v.vm_file) put.push(v.vm_file);
  }
}

/** Zaps the vmas, takes them off their files and frees the page tables that only they used. */
export async function unmap_region(
  mm: mm_struct,
  gone: readonly vm_area_struct[],
  prev: vm_area_struct | null,
  next: vm_area_struct | null,
): Promise<void> {
  if (gone.length === 0) return;
  for (const v of gone) zap_page_range_single(v, v.vm_start, v.vm_end, true);
  for (const v of gone) await vma_unlink_file(v);
  const from = gone[0]!.vm_start;
  const to = gone.at(-1)!.vm_end;
  mm.page_table_lock.lock();
  free_pgtables(mm, from, to, prev?.vm_end ?? 0, next?.vm_start ?? Number.MAX_SAFE_INTEGER);
  mm.page_table_lock.unlock();
}

/** munmap(2). */
export async function sys_munmap(task: task_struct, addr: number, len: number): Promise<void> {
  const mm = task_mm(task);
  const put: file[] = [];
  const p = mm.mmap_lock.down_write();
  if (p) await p;
  try {
    await do_munmap(mm, u64(addr), u64(len), put);
  } finally {
    mm.mmap_lock.up_write();
  }
  for (const f of put) await fput(f);
}

/** The end of an address space, when its last user has gone. */
export async function exit_mmap(mm: mm_struct): Promise<void> {
  const p = mm.mmap_lock.down_write();
  if (p) await p;
  const gone = mm.mmap.splice(0);
  await unmap_region(mm, gone, null, null);
  mm.total_vm = 0;
  mm.locked_vm = 0;
  mm.mmap_lock.up_write();
  for (const v of gone) {
    v.vm_ops?.close?.(v);
    if (v.vm_file) await fput(v.vm_file);
  }
}

/** Drops a task's use of its address space. */
export async function mmput(mm: mm_struct): Promise<void> {
  mm.mm_users--;
  if (mm.mm_users === 0) await exit_mmap(mm);
}

/**
 * mm/madvise.ts - madvise(2). Linux: mm/madvise.c. Differs: no reclaim, so COLD, PAGEOUT and KSM
 * advice change nothing (but for what 6.1 does to 2 MiB entries of devices).
 */
import { EACCES, EBADF, EINVAL, ENOMEM } from "../kernel/include/errno.ts";
import type { file } from "../kernel/include/fs.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../kernel/include/fcntl.ts";
import * as M from "../kernel/include/mman.ts";
import * as V from "../kernel/include/mm_types.ts";
import type { mm_struct, vm_area_struct } from "../kernel/include/mm_types.ts";
import { behaves } from "../kernel/release.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { fput, get_file } from "../kernel/vfs/file.ts";
import { faultin_page_range } from "./gup.ts";
import { madvise_inject_error } from "./memory-failure.ts";
import { vma_is_dax } from "./memory/fault.ts";
import { zap_page_range_single } from "./memory/zap.ts";
import { mm_state } from "./mm_state.ts";
import { page_align, page_aligned, task_mm, u64 } from "./mmap.ts";
import { vma_modify_flags } from "./mprotect.ts";
import { geometry, is_huge_zero, walk_page_range } from "./pgtable.ts";
import { force_page_cache_readahead } from "./readahead.ts";
import { shmem_punch, vma_is_shmem } from "./shmem.ts";
import { VM_SPECIAL, find_vma, linear_page_index, vma_is_anonymous } from "./vma.ts";

/** Advice that only changes vm_flags: [set, clear]. */
const FLAG_ADVICE: Readonly<Record<number, readonly [number, number]>> = Object.freeze({
  [M.MADV_NORMAL]: [0, V.VM_RAND_READ | V.VM_SEQ_READ],
  [M.MADV_SEQUENTIAL]: [V.VM_SEQ_READ, V.VM_RAND_READ],
  [M.MADV_RANDOM]: [V.VM_RAND_READ, V.VM_SEQ_READ],
  [M.MADV_DONTFORK]: [V.VM_DONTCOPY, 0],
  [M.MADV_DOFORK]: [0, V.VM_DONTCOPY],
  [M.MADV_WIPEONFORK]: [V.VM_WIPEONFORK, 0],
  [M.MADV_KEEPONFORK]: [0, V.VM_WIPEONFORK],
  [M.MADV_DONTDUMP]: [V.VM_DONTDUMP, 0],
  [M.MADV_DODUMP]: [0, V.VM_DONTDUMP],
  [M.MADV_HUGEPAGE]: [V.VM_HUGEPAGE, V.VM_NOHUGEPAGE],
  [M.MADV_NOHUGEPAGE]: [V.VM_NOHUGEPAGE, V.VM_HUGEPAGE],
});

const OTHER_ADVICE: readonly number[] = Object.freeze([
  M.MADV_WILLNEED,
  M.MADV_DONTNEED,
  M.MADV_DONTNEED_LOCKED,
  M.MADV_FREE,
  M.MADV_REMOVE,
  M.MADV_MERGEABLE,
  M.MADV_UNMERGEABLE,
  M.MADV_COLD,
  M.MADV_PAGEOUT,
  M.MADV_POPULATE_READ,
  M.MADV_POPULATE_WRITE,
  M.MADV_COLLAPSE,
  M.MADV_HWPOISON,
  M.MADV_SOFT_OFFLINE,
]);

function check_flag_advice(vma: vm_area_struct, advice: number): void {
  if (advice === M.MADV_DOFORK && vma.vm_flags & V.VM_IO) throw EINVAL;
  const shared_or_file = vma.vm_file !== null || (vma.vm_flags & V.VM_SHARED) !== 0;
  if (advice === M.MADV_WIPEONFORK && shared_or_file) throw EINVAL;
  if (advice === M.MADV_KEEPONFORK && vma.vm_flags & V.VM_DONTCOPY) throw EINVAL;
  if (advice === M.MADV_DODUMP && vma.vm_flags & VM_SPECIAL) throw EINVAL;
}

/** What an advice does to one vma. Returns true when mmap_lock was dropped on the way. */
type vma_action = (vma: vm_area_struct, start: number, end: number) => Promise<boolean>;

function dontneed(advice: number): vma_action {
  return async (vma, start, end) => {
    if (vma.vm_flags & V.VM_PFNMAP) throw EINVAL;
    if (advice !== M.MADV_DONTNEED_LOCKED && vma.vm_flags & V.VM_LOCKED) throw EINVAL;
    if (advice === M.MADV_FREE && !vma_is_anonymous(vma)) throw EINVAL;
    zap_page_range_single(vma, start, end, true);
    return false;
  };
}

async function willneed(vma: vm_area_struct, start: number, end: number): Promise<boolean> {
  const file = vma.vm_file;
  if (file === null) {
    if (vma_is_anonymous(vma) || vma_is_shmem(vma)) return false;
    throw EBADF;
  }
  if (vma_is_dax(vma)) return false;
  const first = linear_page_index(vma, start);
  const nr = (end - start) / geometry(vma.vm_mm).page_size;
  return unlocked(vma.vm_mm, file, () =>
    force_page_cache_readahead(file.f_mapping, file, first, nr),
  );
}

/** Runs `fn` without mmap_lock (held for reading on entry and not on return), the file held. */
async function unlocked(mm: mm_struct, f: file, fn: () => unknown): Promise<boolean> {
  get_file(f);
  mm.mmap_lock.up_read();
  try {
    await fn();
  } finally {
    await fput(f);
    const p = mm.mmap_lock.down_read();
    if (p) await p;
  }
  return true;
}

async function remove(vma: vm_area_struct, start: number, end: number): Promise<boolean> {
  if (vma.vm_flags & V.VM_LOCKED) throw EINVAL;
  const f = vma.vm_file;
  const { page_size } = geometry(vma.vm_mm);
  if (f === null) {
    if (!vma_is_shmem(vma)) throw EINVAL;
    shmem_punch(vma, linear_page_index(vma, start), (end - start) / page_size);
    return false;
  }
  const may_write = V.VM_SHARED | V.VM_MAYWRITE;
  if ((vma.vm_flags & may_write) !== may_write) throw EACCES;
  const offset = start - vma.vm_start + vma.vm_pgoff * page_size;
  const { mm_ops } = mm_state(vma.vm_mm.kernel);
  return unlocked(vma.vm_mm, f, () =>
    mm_ops.vfs_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, end - start),
  );
}

/** Before 6.5 a 2 MiB entry of a device is taken for a damaged table here, and cleared. */
async function cold(vma: vm_area_struct, start: number, end: number): Promise<boolean> {
  if (vma.vm_flags & (V.VM_LOCKED | V.VM_PFNMAP)) throw EINVAL;
  const mm = vma.vm_mm;
  if (!vma_is_dax(vma) || behaves(mm.kernel, "madvise_knows_device_pmds")) return false;
  const { pmd_size } = geometry(mm);
  walk_page_range(mm, start, end, {
    pte: () => undefined,
    huge(leaf, i, addr, size) {
      const e = leaf[i]!;
      if (size !== pmd_size || is_huge_zero(mm, e)) return;
      mm.kernel.pr_err(`mm/pgtable-generic.c: bad pmd ${e.toString(16)}`);
      zap_page_range_single(vma, addr, addr + size, true);
    },
  });
  return false;
}

function action(advice: number): vma_action | null {
  switch (advice) {
    case M.MADV_DONTNEED:
    case M.MADV_DONTNEED_LOCKED:
    case M.MADV_FREE:
      return dontneed(advice);
    case M.MADV_WILLNEED:
      return willneed;
    case M.MADV_REMOVE:
      return remove;
    case M.MADV_COLD:
    case M.MADV_PAGEOUT:
      return cold;
    case M.MADV_MERGEABLE:
    case M.MADV_UNMERGEABLE:
      return async () => false;
    default:
      return null;
  }
}

/** madvise(2). Holes are skipped and reported as ENOMEM at the end. */
export async function sys_madvise(
  task: task_struct,
  start: number,
  len: number,
  advice: number,
): Promise<void> {
  const mm = task_mm(task);
  start = u64(start);
  len = u64(len);
  if (!FLAG_ADVICE[advice] && !OTHER_ADVICE.includes(advice)) throw EINVAL;
  if (!page_aligned(mm, start)) throw EINVAL;
  const end = start + page_align(mm, len);
  if (end >= 2 ** 64) throw EINVAL;
  if (end === start) return;
  if (advice === M.MADV_HWPOISON || advice === M.MADV_SOFT_OFFLINE) {
    return madvise_inject_error(task, start, end, advice === M.MADV_SOFT_OFFLINE);
  }
  if (advice === M.MADV_POPULATE_READ || advice === M.MADV_POPULATE_WRITE) {
    await faultin_page_range(mm, start, end, advice === M.MADV_POPULATE_WRITE);
    return;
  }
  if (advice === M.MADV_COLLAPSE) throw EINVAL;
  const flags = FLAG_ADVICE[advice];
  const act = action(advice);
  const write = flags !== undefined;
  const p = write ? mm.mmap_lock.down_write() : mm.mmap_lock.down_read();
  if (p) await p;
  try {
    if (flags) await walk_flags(mm, start, end, advice, flags);
    else await walk(mm, start, end, act!);
  } finally {
    if (write) mm.mmap_lock.up_write();
    else mm.mmap_lock.up_read();
  }
}

async function walk_flags(
  mm: mm_struct,
  start: number,
  end: number,
  advice: number,
  [set, clear]: readonly [number, number],
): Promise<void> {
  await walk(mm, start, end, async (vma, from, to) => {
    check_flag_advice(vma, advice);
    const newflags = (vma.vm_flags | set) & ~clear;
    if (newflags === vma.vm_flags) return false;
    const v = await vma_modify_flags(mm, vma, from, to, newflags);
    v.vm_flags = newflags;
    return false;
  });
}

async function walk(mm: mm_struct, start: number, end: number, act: vma_action): Promise<void> {
  let hole = false;
  for (let at = start; at < end; ) {
    const vma = find_vma(mm, at);
    if (vma === null || vma.vm_start >= end) {
      hole = true;
      break;
    }
    if (at < vma.vm_start) {
      hole = true;
      at = vma.vm_start;
    }
    const to = Math.min(vma.vm_end, end);
    await act(vma, at, to);
    at = to;
  }
  if (hole) throw ENOMEM;
}

/** mm/msync.ts - msync(2). Linux: mm/msync.c. */
import { EBUSY, EINVAL, ENOMEM } from "../kernel/include/errno.ts";
import type { file } from "../kernel/include/fs.ts";
import { MS_ASYNC, MS_INVALIDATE, MS_SYNC } from "../kernel/include/mman.ts";
import { VM_LOCKED, VM_SHARED } from "../kernel/include/mm_types.ts";
import type { mm_struct } from "../kernel/include/mm_types.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { fput, get_file } from "../kernel/vfs/file.ts";
import { page_align, page_aligned, task_mm, u64 } from "./mmap.ts";
import { geometry } from "./pgtable.ts";
import { find_vma } from "./vma.ts";

/** One piece to be synced: bytes [start, end] of a file, and where to go on in memory. */
interface piece {
  file: file;
  start: number;
  /** Inclusive. */
  end: number;
  next: number;
}

/** Next file piece at or above `at`, with the file held; null when [at, end) is done. */
function next_piece(
  mm: mm_struct,
  at: number,
  end: number,
  flags: number,
  hole: { seen: boolean },
): piece | null {
  const { page_size } = geometry(mm);
  while (at < end) {
    const vma = find_vma(mm, at);
    if (vma === null) {
      hole.seen = true;
      return null;
    }
    if (at < vma.vm_start) {
      if (vma.vm_start >= end) {
        hole.seen = true;
        return null;
      }
      hole.seen = true;
      at = vma.vm_start;
    }
    if (flags & MS_INVALIDATE && vma.vm_flags & VM_LOCKED) throw EBUSY;
    const to = Math.min(end, vma.vm_end);
    if (flags & MS_SYNC && vma.vm_file && vma.vm_flags & VM_SHARED) {
      const start = at - vma.vm_start + vma.vm_pgoff * page_size;
      return { file: get_file(vma.vm_file), start, end: start + (to - at) - 1, next: to };
    }
    at = to;
  }
  return null;
}

/**
 * msync(2): writes back shared file pieces; a hole in the range is ENOMEM, after the rest is done.
 */
export async function sys_msync(
  task: task_struct,
  start: number,
  len: number,
  flags: number,
): Promise<void> {
  const mm = task_mm(task);
  start = u64(start);
  len = u64(len);
  if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) throw EINVAL;
  if (!page_aligned(mm, start)) throw EINVAL;
  if (flags & MS_ASYNC && flags & MS_SYNC) throw EINVAL;
  const end = start + page_align(mm, len);
  if (end >= 2 ** 64) throw ENOMEM;
  const hole = { seen: false };
  let at = start;
  while (at < end) {
    const p = mm.mmap_lock.down_read();
    if (p) await p;
    let piece: piece | null;
    try {
      piece = next_piece(mm, at, end, flags, hole);
    } finally {
      mm.mmap_lock.up_read();
    }
    if (piece === null) break;
    // Without mmap_lock: writing back takes i_mmap_rwsem and may wait long.
    const { fsync } = piece.file.f_op;
    try {
      if (!fsync) throw EINVAL;
      await fsync(piece.file, piece.start, piece.end, true);
    } finally {
      await fput(piece.file);
    }
    at = piece.next;
  }
  if (hole.seen) throw ENOMEM;
}

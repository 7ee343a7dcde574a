/**
 * fs/ext4/file.ts - regular files: reading, mapping, seeking. Linux: fs/ext4/file.c. Writing:
 * file_write.ts.
 *
 * A file is read in one of three ways: DAX (straight from persistent memory), direct IO, or through
 * the page cache. The DAX way makes no promise unless a lock is contended or the block map has to
 * be read.
 *
 * Locks: i_rwsem (shared) for DAX and direct reads; faults: freeze level 2, invalidate_lock
 * (shared), handle, then fs/dax.ts's entry lock.
 */
import {
  EAGAIN,
  EINVAL,
  EIO,
  ENXIO,
  EOPNOTSUPP,
  ENOSPC,
  is_errno,
} from "../../kernel/include/errno.ts";
import { SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET } from "../../kernel/include/fcntl.ts";
import {
  type file,
  type file_operations,
  FMODE_CAN_ODIRECT,
  FMODE_NOWAIT,
  type inode,
  type inode_operations,
  IOCB_DIRECT,
  IOCB_NOWAIT,
  type kiocb,
  S_DAX,
  S_ENCRYPTED,
  type Sometime,
} from "../../kernel/include/fs.ts";
import { MAP_SYNC } from "../../kernel/include/mman.ts";
import {
  FAULT_FLAG_WRITE,
  VM_FAULT_ERROR,
  VM_FAULT_NEEDDSYNC,
  VM_FAULT_SIGBUS,
  VM_HUGEPAGE,
  VM_SHARED,
  VM_SYNC,
  type vm_area_struct,
  type vm_fault,
  type vm_operations_struct,
} from "../../kernel/include/mm_types.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import {
  inode_lock_shared,
  inode_trylock_shared,
  inode_unlock_shared,
} from "../../kernel/vfs/inode.ts";
import { sb_end_pagefault, sb_start_pagefault } from "../../kernel/vfs/super.ts";
import { dax_synchronous } from "../../drivers/dax/super.ts";
import { filemap_fault, filemap_map_pages, filemap_read } from "../../mm/filemap.ts";
import { thp_get_unmapped_area } from "../../mm/unmapped_area.ts";
import { fault_update_time, file_accessed } from "../atime.ts";
import {
  type dax_fault_result,
  dax_finish_sync_fault,
  dax_iomap_fault,
  dax_iomap_rw,
} from "../dax.ts";
import { iomap_dio_rw, iomap_seek_data, iomap_seek_hole } from "../iomap.ts";
import { EXT4_SB, ext4_forced_shutdown, ext4_warning_inode } from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_WRITE_PAGE,
  ext4_journal_start_sb,
  ext4_journal_stop,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_fiemap } from "./fiemap.ts";
import {
  ext4_dio_alignment,
  ext4_file_getattr,
  ext4_fileattr_get,
  ext4_getattr,
} from "./getattr.ts";
import { ext4_get_maxbytes } from "./inode.ts";
import { ext4_ioctl } from "./ioctl.ts";
import { ext4_iomap_ops, ext4_iomap_report_ops } from "./iomap.ts";
import * as W from "./write_side.ts";
import { ext4_listxattr } from "./xattr.ts";

// --- reading ------------------------------------------------------------------------------------

const is_promise = <T>(x: T | Promise<T>): x is Promise<T> =>
  typeof x === "object" && x instanceof Promise;

const after = (p: Promise<void>, n: number): Promise<number> => p.then(() => n);

/** After the data: lock off, access time. */
function dax_read_done(iocb: kiocb, inode: inode, n: number): Sometime<number> {
  inode_unlock_shared(inode);
  const p = file_accessed(iocb.ki_filp);
  return p ? after(p, n) : n;
}

async function dax_read_rest(iocb: kiocb, inode: inode, p: Promise<number>): Promise<number> {
  let n: number;
  try {
    n = await p;
  } catch (e) {
    inode_unlock_shared(inode);
    throw e;
  }
  return dax_read_done(iocb, inode, n);
}

function dax_read_locked(iocb: kiocb, to: iov_iter, inode: inode): Sometime<number> {
  if (!(inode.i_flags & S_DAX)) {
    inode_unlock_shared(inode);
    return filemap_read(iocb, to);
  }
  let n: Sometime<number>;
  try {
    n = dax_iomap_rw(iocb, to, ext4_iomap_ops);
  } catch (e) {
    inode_unlock_shared(inode);
    throw e;
  }
  return typeof n === "number" ? dax_read_done(iocb, inode, n) : dax_read_rest(iocb, inode, n);
}

async function dax_read_when_locked(
  p: Promise<void>,
  iocb: kiocb,
  to: iov_iter,
  inode: inode,
): Promise<number> {
  await p;
  return dax_read_locked(iocb, to, inode);
}

function ext4_dax_read_iter(iocb: kiocb, to: iov_iter, inode: inode): Sometime<number> {
  if (iocb.ki_flags & IOCB_NOWAIT) {
    if (!inode_trylock_shared(inode)) throw EAGAIN;
  } else {
    const p = inode_lock_shared(inode);
    if (p) return dax_read_when_locked(p, iocb, to, inode);
  }
  return dax_read_locked(iocb, to, inode);
}

async function ext4_dio_read_iter(iocb: kiocb, to: iov_iter, inode: inode): Promise<number> {
  if (iocb.ki_flags & IOCB_NOWAIT) {
    if (!inode_trylock_shared(inode)) throw EAGAIN;
  } else {
    const p = inode_lock_shared(inode);
    if (p) await p;
  }
  if (ext4_dio_alignment(inode) === 0) {
    inode_unlock_shared(inode);
    iocb.ki_flags &= ~IOCB_DIRECT;
    return filemap_read(iocb, to);
  }
  let n: number;
  try {
    n = await iomap_dio_rw(iocb, to, ext4_iomap_ops);
  } finally {
    inode_unlock_shared(inode);
  }
  await file_accessed(iocb.ki_filp);
  return n;
}

/** Reads at ki_pos into `to`. Bytes read, short at the end of the file. */
function ext4_file_read_iter(iocb: kiocb, to: iov_iter): Sometime<number> {
  const inode = iocb.ki_filp.f_inode;
  if (ext4_forced_shutdown(EXT4_SB(inode.i_sb))) throw EIO;
  if (to.count === 0) return 0;
  if (inode.i_flags & S_DAX) return ext4_dax_read_iter(iocb, to, inode);
  if (iocb.ki_flags & IOCB_DIRECT) return ext4_dio_read_iter(iocb, to, inode);
  return filemap_read(iocb, to);
}

// --- seeking ------------------------------------------------------------------------------------

async function seek_in_map(file: file, offset: number, data: boolean): Promise<number> {
  const inode = file.f_inode;
  const p = inode_lock_shared(inode);
  if (p) await p;
  let pos: number;
  try {
    pos = data
      ? await iomap_seek_data(inode, offset, ext4_iomap_report_ops)
      : await iomap_seek_hole(inode, offset, ext4_iomap_report_ops);
  } finally {
    inode_unlock_shared(inode);
  }
  return set_pos(file, pos, ext4_get_maxbytes(inode));
}

function set_pos(file: file, pos: number, max: number): number {
  if (pos < 0 || pos > max) throw EINVAL;
  file.f_pos = pos;
  return pos;
}

function ext4_llseek(file: file, offset: number, whence: number): Sometime<number> {
  const inode = file.f_inode;
  const max = ext4_get_maxbytes(inode);
  switch (whence) {
    case SEEK_SET:
      return set_pos(file, offset, max);
    case SEEK_CUR:
      return set_pos(file, file.f_pos + offset, max);
    case SEEK_END:
      return set_pos(file, inode.i_size + offset, max);
    case SEEK_DATA:
    case SEEK_HOLE:
      if (offset < 0 || offset >= inode.i_size) throw ENXIO;
      return seek_in_map(file, offset, whence === SEEK_DATA);
    default:
      throw EINVAL;
  }
}

// --- mapping ------------------------------------------------------------------------------------

/** A fault that may write: handle open around the DAX fault, retried once space was freed. */
async function dax_write_fault(vmf: vm_fault, order: number): Promise<number> {
  const file = vmf.vma.vm_file!;
  const mapping = file.f_mapping;
  const sb = mapping.host.i_sb;
  const frozen = sb_start_pagefault(sb);
  if (frozen) await frozen;
  try {
    await fault_update_time(file);
    const p = mapping.invalidate_lock.down_read();
    if (p) await p;
    try {
      return await dax_write_fault_locked(vmf, order);
    } finally {
      mapping.invalidate_lock.up_read();
    }
  } finally {
    sb_end_pagefault(sb);
  }
}

async function dax_write_fault_locked(vmf: vm_fault, order: number): Promise<number> {
  const sb = vmf.vma.vm_file!.f_mapping.host.i_sb;
  const result: dax_fault_result = { pfn: 0, error: null };
  for (let retries = 0; ; ) {
    let handle: handle_t;
    try {
      handle = await ext4_journal_start_sb(sb, EXT4_HT_WRITE_PAGE, EXT4_DATA_TRANS_BLOCKS);
    } catch (e) {
      if (!is_errno(e)) throw e;
      return VM_FAULT_SIGBUS;
    }
    let ret: number;
    try {
      ret = await dax_iomap_fault(vmf, order, ext4_iomap_ops, result);
    } finally {
      ext4_journal_stop(handle);
    }
    if (ret & VM_FAULT_ERROR && result.error === ENOSPC) {
      if (await W.ext4_should_retry_alloc(sb, retries++)) continue;
    }
    if (ret & VM_FAULT_NEEDDSYNC) return dax_finish_sync_fault(vmf, order, result.pfn);
    return ret;
  }
}

function dax_read_fault(vmf: vm_fault, order: number): Sometime<number> {
  const lock = vmf.vma.vm_file!.f_mapping.invalidate_lock;
  const p = lock.down_read();
  if (p) return p.then(() => dax_read_fault_locked(vmf, order));
  return dax_read_fault_locked(vmf, order);
}

function dax_read_fault_locked(vmf: vm_fault, order: number): Sometime<number> {
  const lock = vmf.vma.vm_file!.f_mapping.invalidate_lock;
  let ret: Sometime<number>;
  try {
    ret = dax_iomap_fault(vmf, order, ext4_iomap_ops);
  } catch (e) {
    lock.up_read();
    throw e;
  }
  if (is_promise(ret)) return ret.finally(() => lock.up_read());
  lock.up_read();
  return ret;
}

/** A private copy is made without touching the file: no handle, also on a read-only mount. */
function ext4_dax_huge_fault(vmf: vm_fault, order: number): Sometime<number> {
  const write = vmf.flags & FAULT_FLAG_WRITE && vmf.vma.vm_flags & VM_SHARED;
  return write ? dax_write_fault(vmf, order) : dax_read_fault(vmf, order);
}
const ext4_dax_fault = (vmf: vm_fault): Sometime<number> => ext4_dax_huge_fault(vmf, 0);

export const ext4_dax_vm_ops: vm_operations_struct = Object.freeze({
  name: "ext4_dax_vm_ops",
  fault: ext4_dax_fault,
  huge_fault: ext4_dax_huge_fault,
  page_mkwrite: ext4_dax_fault,
  pfn_mkwrite: ext4_dax_fault,
});

export const ext4_file_vm_ops: vm_operations_struct = Object.freeze({
  name: "ext4_file_vm_ops",
  fault: filemap_fault,
  map_pages: filemap_map_pages,
  page_mkwrite: W.ext4_page_mkwrite,
});

function ext4_file_mmap(file: file, vma: vm_area_struct): Sometime<void> {
  const inode = file.f_mapping.host;
  const sbi = EXT4_SB(inode.i_sb);
  if (ext4_forced_shutdown(sbi)) throw EIO;
  const dax = (inode.i_flags & S_DAX) !== 0;
  // MAP_SYNC promises that a write fault makes its metadata durable: only DAX can keep that
  if (vma.vm_flags & VM_SYNC && !(dax && sbi.s_daxdev && dax_synchronous(sbi.s_daxdev))) {
    throw EOPNOTSUPP;
  }
  if (dax) {
    vma.vm_ops = ext4_dax_vm_ops;
    vma.vm_flags |= VM_HUGEPAGE;
  } else {
    vma.vm_ops = ext4_file_vm_ops;
  }
  return file_accessed(file);
}

// --- opening ------------------------------------------------------------------------------------

function ext4_file_open(inode: inode, file: file): Sometime<void> {
  if (ext4_forced_shutdown(EXT4_SB(inode.i_sb))) throw EIO;
  if (inode.i_flags & S_ENCRYPTED) {
    ext4_warning_inode(inode, "ext4_file_open", "encrypted file, no encryption support");
    throw EINVAL;
  }
  file.f_mode |= FMODE_NOWAIT | FMODE_CAN_ODIRECT;
  return W.ext4_file_open_write(inode, file);
}

export const ext4_file_operations: file_operations = Object.freeze({
  name: "ext4_file_operations",
  mmap_supported_flags: MAP_SYNC,
  llseek: ext4_llseek,
  read_iter: ext4_file_read_iter,
  write_iter: W.ext4_file_write_iter,
  unlocked_ioctl: ext4_ioctl,
  mmap: ext4_file_mmap,
  get_unmapped_area: thp_get_unmapped_area,
  open: ext4_file_open,
  release: W.ext4_release_file,
  fsync: W.ext4_sync_file,
  fallocate: W.ext4_fallocate,
});

export const ext4_file_inode_operations: inode_operations = Object.freeze({
  setattr: W.ext4_setattr,
  getattr: ext4_file_getattr,
  listxattr: ext4_listxattr,
  fiemap: ext4_fiemap,
  fileattr_get: ext4_fileattr_get,
  fileattr_set: W.ext4_fileattr_set,
});

/** Devices, pipes and sockets. */
export const ext4_special_inode_operations: inode_operations = Object.freeze({
  setattr: W.ext4_setattr,
  getattr: ext4_getattr,
  listxattr: ext4_listxattr,
});

/**
 * tests/fs/testfs.ts - the smallest filesystem that DAX and iomap can run on: files whose extents
 * are an array, over a real pmem device. It has no names and no metadata; blocks are taken in
 * order.
 */
import type { dax_device } from "../../kernel/include/dax.ts";
import { ENOSPC } from "../../kernel/include/errno.ts";
import { FMODE_READ, FMODE_WRITE, S_DAX } from "../../kernel/include/fs.ts";
import type { Sometime, file, inode, kiocb, super_block } from "../../kernel/include/fs.ts";
import {
  IOMAP_F_DIRTY,
  IOMAP_F_NEW,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
} from "../../kernel/include/iomap.ts";
import type { iomap, iomap_ops } from "../../kernel/include/iomap.ts";
import { PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import { VM_FAULT_NEEDDSYNC, VM_HUGEPAGE, VM_MIXEDMAP } from "../../kernel/include/mm_types.ts";
import type {
  vm_area_struct,
  vm_fault,
  vm_operations_struct,
} from "../../kernel/include/mm_types.ts";
import { S_IFREG } from "../../kernel/include/stat.ts";
import { init_cred } from "../../kernel/cred.ts";
import { Kernel } from "../../kernel/kernel.ts";
import type { KernelOptions } from "../../kernel/kernel.ts";
import { Machine } from "../../kernel/machine.ts";
import type { MachineOptions } from "../../kernel/machine.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { alloc_file } from "../../kernel/vfs/file.ts";
import { inode_lock, inode_unlock, insert_inode_hash, new_inode } from "../../kernel/vfs/inode.ts";
import { init_pseudo } from "../../kernel/vfs/super.ts";
import { new_iov_iter_bytes } from "../../mm/iov_iter.ts";
import { init_mm, mm_alloc } from "../../mm/mm_init.ts";
import { sys_mmap } from "../../mm/mmap.ts";
import { truncate_setsize } from "../../mm/truncate.ts";
import { user_load, user_store } from "../../mm/uaccess.ts";
import { attach_pmem } from "../../drivers/nvdimm/pmem.ts";
import type { pmem_device, pmem_options } from "../../drivers/nvdimm/pmem.ts";
import { init_buffer } from "../../fs/buffer.ts";
import {
  dax_finish_sync_fault,
  dax_iomap_fault,
  dax_iomap_rw,
  dax_writeback_mapping_range,
  init_dax,
} from "../../fs/dax.ts";
import type { dax_fault_result } from "../../fs/dax.ts";
import { file_write_and_wait_range } from "../../mm/filemap.ts";

export const MIB = 1024 * 1024;
export const PAGE = 4096;

/** Bytes in the file, on the device (-1: none yet). */
export interface extent {
  offset: number;
  length: number;
  addr: number;
  type: number;
}

export interface test_file {
  extents: extent[];
  /** Metadata that an fsync would have to write. */
  dirty_metadata: boolean;
  /** What iomap_begin and iomap_end were called with, if recording. */
  log: string[] | null;
  /** Sleep in iomap_begin: makes the filesystem answer with a promise. */
  begin_hook: (() => Promise<void> | undefined) | null;
  fsyncs: number;
}
export const FILE = (inode: inode): test_file => inode.i_fs as test_file;

export interface testfs {
  machine: Machine;
  kernel: Kernel;
  pmem: pmem_device;
  dev: dax_device;
  sb: super_block;
  /** Next free byte of the device. */
  next: number;
  shared: boolean;
}

export interface testfs_options {
  kernel?: KernelOptions;
  machine?: MachineOptions;
  pmem?: pmem_options;
}

export function make_testfs(o: testfs_options = {}): testfs {
  const machine = new Machine(o.machine);
  const kernel = new Kernel(machine, o.kernel);
  kernel.vfs_ops.__fput = () => undefined;
  init_mm(kernel, { dram_bytes: 64 * MIB });
  init_buffer(kernel);
  init_dax(kernel);
  const pmem = attach_pmem(kernel, { size: 64 * MIB, mode: "fsdax", map: "mem", ...o.pmem });
  const sb = init_pseudo(kernel, "testfs", 0x7e57);
  sb.s_id = "pmem0";
  sb.s_bdev = pmem.disk.part0;
  sb.s_blocksize = kernel.PAGE_SIZE;
  sb.s_blocksize_bits = kernel.PAGE_SHIFT;
  return { machine, kernel, pmem, dev: pmem.dax_dev, sb, next: 0, shared: false };
}

export function allocate(fs: testfs, length: number, align = fs.kernel.PAGE_SIZE): number {
  const addr = Math.ceil(fs.next / align) * align;
  if (addr + length > fs.pmem.disk.capacity * 512) throw ENOSPC;
  fs.next = addr + length;
  return addr;
}

/** The extent at `pos`, a made-up hole where there is none. */
export function find_extent(inode: inode, pos: number): extent {
  let end = Number.MAX_SAFE_INTEGER;
  for (const e of FILE(inode).extents) {
    if (pos >= e.offset && pos < e.offset + e.length) return e;
    if (e.offset > pos) end = Math.min(end, e.offset);
  }
  return { offset: pos, length: end - pos, addr: -1, type: IOMAP_HOLE };
}

function allocate_hole(fs: testfs, inode: inode, pos: number, length: number): extent {
  const size = fs.kernel.PAGE_SIZE;
  const offset = pos - (pos % size);
  const end = Math.ceil((pos + length) / size) * size;
  const hole = find_extent(inode, offset);
  const len = Math.min(end - offset, hole.length);
  const addr = allocate(fs, len, len % (2 * MIB) === 0 ? 2 * MIB : size);
  const e = { offset, length: len, addr, type: IOMAP_MAPPED };
  fs.kernel.phys.zero(fs.dev.base_pfn * size + addr, len);
  FILE(inode).extents.push(e);
  FILE(inode).extents.sort((a, b) => a.offset - b.offset);
  FILE(inode).dirty_metadata = true;
  return e;
}

function fill(fs: testfs, inode: inode, e: extent, m: iomap, flags: number): void {
  m.offset = e.offset;
  m.length = e.length;
  m.type = e.type;
  m.addr = e.type === IOMAP_HOLE ? IOMAP_NULL_ADDR : e.addr;
  m.flags = flags | (FILE(inode).dirty_metadata ? IOMAP_F_DIRTY : 0);
  m.dax_dev = fs.dev;
  m.bdev = fs.sb.s_bdev;
}

export function test_iomap_ops(fs: testfs): iomap_ops {
  const begin = (inode: inode, pos: number, len: number, flags: number, m: iomap): void => {
    let e = find_extent(inode, pos);
    let f = 0;
    if (flags & IOMAP_WRITE && e.type === IOMAP_HOLE) {
      e = allocate_hole(fs, inode, pos, len);
      f = IOMAP_F_NEW;
    } else if (flags & IOMAP_WRITE && e.type === IOMAP_UNWRITTEN) {
      fs.kernel.phys.zero(fs.dev.base_pfn * fs.kernel.PAGE_SIZE + e.addr, e.length);
      e.type = IOMAP_MAPPED;
      FILE(inode).dirty_metadata = true;
      f = IOMAP_F_NEW;
    }
    fill(fs, inode, e, m, f);
    FILE(inode).log?.push(`begin ${pos}+${len} -> ${m.offset}+${m.length} type ${m.type}`);
  };
  return {
    iomap_begin(inode, pos, len, flags, m): Sometime<void> {
      const p = FILE(inode).begin_hook?.();
      if (p) return p.then(() => begin(inode, pos, len, flags, m));
      begin(inode, pos, len, flags, m);
      return undefined;
    },
    iomap_end(inode, pos, len, written) {
      FILE(inode).log?.push(`end ${pos}+${len} written ${written}`);
    },
  };
}

function vm_ops(ops: iomap_ops): vm_operations_struct {
  const result: dax_fault_result = { pfn: 0, error: null };
  const huge_fault = async (vmf: vm_fault, order: number): Promise<number> => {
    const mapping = vmf.vma.vm_file!.f_mapping;
    const p = mapping.invalidate_lock.down_read();
    if (p) await p;
    try {
      const ret = await dax_iomap_fault(vmf, order, ops, result);
      if (ret & VM_FAULT_NEEDDSYNC) return await dax_finish_sync_fault(vmf, order, result.pfn);
      return ret;
    } finally {
      mapping.invalidate_lock.up_read();
    }
  };
  const fault = (vmf: vm_fault) => huge_fault(vmf, 0);
  return { name: "testfs", fault, huge_fault, page_mkwrite: fault, pfn_mkwrite: fault };
}

/** A DAX file of `size` bytes with no blocks, open for reading and writing. */
export function make_file(fs: testfs, size = 0): file {
  const { kernel } = fs;
  const inode = new_inode(fs.sb);
  (inode as { i_ino: number }).i_ino = fs.sb.s_inodes.size + 11;
  inode.i_mode = S_IFREG | 0o644;
  inode.i_flags |= S_DAX;
  inode.i_size = size;
  inode.i_fs = {
    extents: [],
    dirty_metadata: false,
    log: null,
    begin_hook: null,
    fsyncs: 0,
  } satisfies test_file;
  insert_inode_hash(inode);
  const ops = test_iomap_ops(fs);
  inode.i_mapping.a_ops = {
    name: "testfs_aops",
    writepages: (mapping, wbc) => dax_writeback_mapping_range(mapping, fs.dev, wbc),
  };
  const vops = vm_ops(ops);
  inode.i_fop = {
    name: "testfs_fops",
    mmap_supported_flags: 0x80000,
    mmap(_file: file, vma: vm_area_struct) {
      vma.vm_ops = vops;
      vma.vm_flags |= VM_MIXEDMAP | VM_HUGEPAGE;
    },
    async fsync(f, start, end) {
      await file_write_and_wait_range(f, start, end);
      FILE(f.f_inode).dirty_metadata = false;
      FILE(f.f_inode).fsyncs++;
      kernel.phys.sfence();
    },
  };
  const path = {
    mnt: { mnt_flags: 0, mnt_sb: fs.sb },
    dentry: { d_sb: fs.sb, d_inode: inode },
  } as never;
  const f = alloc_file(kernel, path, inode, 2, init_cred);
  f.f_mode = FMODE_READ | FMODE_WRITE;
  return f;
}

/** Gives the file an extent by hand. */
export function add_extent(
  fs: testfs,
  f: file,
  offset: number,
  length: number,
  type: number = IOMAP_MAPPED,
  align?: number,
): extent {
  const e = { offset, length, addr: allocate(fs, length, align), type };
  FILE(f.f_inode).extents.push(e);
  FILE(f.f_inode).extents.sort((a, b) => a.offset - b.offset);
  return e;
}

// ---- what a task does

/** A user task with an address space. */
export function make_task(fs: testfs, name = "user"): task_struct {
  const t = fs.machine.new_thread(fs.kernel, name);
  t.mm = mm_alloc(fs.kernel);
  return t;
}

/** Runs `fn` as a user task of its own. */
export async function as_user<T>(
  fs: testfs,
  fn: (t: task_struct) => Promise<T> | T,
  name = "user",
): Promise<T> {
  return await fs.machine.in_task(fs.kernel, name, (t) => {
    t.mm = mm_alloc(fs.kernel);
    return fn(t);
  });
}

const iocb_of = (f: file, pos: number): kiocb => ({ ki_filp: f, ki_pos: pos, ki_flags: 0 });

export async function read(fs: testfs, f: file, pos: number, len: number): Promise<Uint8Array> {
  const buf = new Uint8Array(len);
  const { i_rwsem } = f.f_inode;
  const p = i_rwsem.down_read();
  if (p) await p;
  try {
    const n = await dax_iomap_rw(
      iocb_of(f, pos),
      new_iov_iter_bytes(fs.kernel, false, [buf]),
      test_iomap_ops(fs),
    );
    return buf.subarray(0, n);
  } finally {
    i_rwsem.up_read();
  }
}

export async function write(fs: testfs, f: file, pos: number, data: Uint8Array): Promise<number> {
  const inode = f.f_inode;
  const p = inode_lock(inode);
  if (p) await p;
  try {
    const iocb = iocb_of(f, pos);
    const n = await dax_iomap_rw(
      iocb,
      new_iov_iter_bytes(fs.kernel, true, [data]),
      test_iomap_ops(fs),
    );
    if (iocb.ki_pos > inode.i_size) inode.i_size = iocb.ki_pos;
    return n;
  } finally {
    inode_unlock(inode);
  }
}

/** Frees the blocks behind `size` after unmapping, as truncate does. */
export async function truncate(fs: testfs, f: file, size: number): Promise<void> {
  const inode = f.f_inode;
  const p = inode_lock(inode);
  if (p) await p;
  const q = inode.i_mapping.invalidate_lock.down_write();
  if (q) await q;
  await truncate_setsize(inode, size);
  const end = Math.ceil(size / fs.kernel.PAGE_SIZE) * fs.kernel.PAGE_SIZE;
  const st = FILE(inode);
  st.extents = st.extents.filter((e) => e.offset < end);
  for (const e of st.extents) e.length = Math.min(e.length, end - e.offset);
  inode.i_mapping.invalidate_lock.up_write();
  inode_unlock(inode);
}

export function mmap(
  t: task_struct,
  f: file,
  len: number,
  flags: number,
  addr = 0,
  offset = 0,
  prot = PROT_READ | PROT_WRITE,
): Promise<number> {
  return sys_mmap(t, addr, len, prot, flags, f, offset);
}

export async function load(t: task_struct, addr: number, len: number): Promise<Uint8Array> {
  const b = new Uint8Array(len);
  const p = user_load(t, addr, b);
  if (p) await p;
  return b;
}

export async function store(t: task_struct, addr: number, bytes: Uint8Array): Promise<void> {
  const p = user_store(t, addr, bytes);
  if (p) await p;
}

export const fill_bytes = (value: number, len: number): Uint8Array =>
  new Uint8Array(len).fill(value);
export const text = (s: string): Uint8Array => new Uint8Array([...s].map((c) => c.charCodeAt(0)));

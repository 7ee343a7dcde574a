/**
 * tests/mm/lib/fake.ts - a kernel with mm and two kinds of file: one in the page cache, one like
 * DAX over a pmem region.
 */
import { init_cred } from "../../../kernel/cred.ts";
import {
  FMODE_READ,
  FMODE_WRITE,
  S_DAX,
  type file,
  type file_operations,
  type inode,
  type kiocb,
  type path,
  type super_block,
} from "../../../kernel/include/fs.ts";
import {
  type address_space_operations,
  FAULT_FLAG_WRITE,
  PMD_ORDER,
  type page,
  VM_FAULT_DONE_COW,
  VM_FAULT_FALLBACK,
  VM_FAULT_NOPAGE,
  VM_FAULT_SIGBUS,
  VM_HUGEPAGE,
  VM_SHARED,
  type vm_area_struct,
  type vm_fault,
} from "../../../kernel/include/mm_types.ts";
import { S_IFREG } from "../../../kernel/include/stat.ts";
import type { phys_region } from "../../../kernel/include/phys.ts";
import { Kernel, type KernelOptions } from "../../../kernel/kernel.ts";
import { Machine } from "../../../kernel/machine.ts";
import type { task_struct } from "../../../kernel/sched/task.ts";
import { signal_struct } from "../../../kernel/signal.ts";
import { alloc_file } from "../../../kernel/vfs/file.ts";
import { new_inode } from "../../../kernel/vfs/inode.ts";
import { alloc_super, vfs_registry } from "../../../kernel/vfs/super.ts";
import { exec_mm } from "../../../mm/exec.ts";
import {
  filemap_dirty_folio,
  generic_file_mmap,
  grab_cache_page_write_begin,
  write_cache_pages,
} from "../../../mm/filemap.ts";
import {
  FAULT,
  finish_fault,
  set_huge_zero_page,
  unmap_mapping_pages,
  vmf_insert_mixed,
  vmf_insert_mixed_mkwrite,
  vmf_insert_pfn_pmd,
  zero_pfn,
} from "../../../mm/memory.ts";
import { init_mm } from "../../../mm/mm_init.ts";
import {
  SetPageUptodate,
  memremap_pages,
  page_address,
  put_page,
  unlock_page,
} from "../../../mm/page.ts";
import { end_page_writeback, set_page_dirty, set_page_writeback } from "../../../mm/page_dirty.ts";
import { thp_get_unmapped_area } from "../../../mm/unmapped_area.ts";

export const PAGE = 4096;
export const PMD = 2 << 20;
export const MAP_SYNC = 0x80000;

export interface world {
  machine: Machine;
  kernel: Kernel;
  sb: super_block;
  /** Runs `fn` as a process with an address space of its own. */
  run<T>(fn: (task: task_struct) => Promise<T> | T): Promise<T>;
}

function count_times(f: file): void {
  (f.private_data as { times: number }).times++;
}

export function boot(opts: KernelOptions = {}, mm_opts: Parameters<typeof init_mm>[1] = {}): world {
  const machine = new Machine();
  const kernel = new Kernel(machine, opts);
  kernel.vfs_state ??= new vfs_registry();
  init_mm(kernel, mm_opts);
  Object.assign(kernel.vfs_ops, {
    file_accessed() {},
    file_update_time: count_times,
    fault_update_time: count_times,
    file_remove_privs() {},
    __fput(f: file) {
      (f.private_data as { closed: boolean }).closed = true;
    },
  });
  const type = { name: "fake", fs_flags: 0, mount: no, kill_sb: no };
  const sb = alloc_super(kernel, type, 0);
  sb.s_maxbytes = 2 ** 44;
  return {
    machine,
    kernel,
    sb,
    async run(fn) {
      return machine.in_task(kernel, "test", (task) => {
        task.mm = exec_mm(kernel);
        task.signal = new signal_struct();
        return fn(task);
      });
    },
  };
}

async function no(): Promise<never> {
  throw new Error("not in this test");
}

function fake_path(sb: super_block): path {
  const mnt = { mnt_flags: 0, mnt_sb: sb } as path["mnt"];
  return { mnt, dentry: { d_name: "file" } as path["dentry"] };
}

export interface fake_file extends file {
  private_data: { times: number; closed: boolean };
}

function open_fake(w: world, ino: inode, mode: number): fake_file {
  const f = alloc_file(w.kernel, fake_path(w.sb), ino, 0, init_cred);
  f.f_mode = mode;
  f.private_data = { times: 0, closed: false };
  return f as fake_file;
}

/** Another open of the same file. */
export function reopen(w: world, f: file, mode = FMODE_READ | FMODE_WRITE): fake_file {
  return open_fake(w, f.f_inode, mode);
}

// ---- a file in the page cache over an array

export interface disk_file {
  file: fake_file;
  /** What is on the disk. */
  disk: Uint8Array;
  /** Page indices read and written, in order. */
  log: string[];
  /** Set: reads and writes fail with it. */
  fail: { read: unknown; write: unknown };
}

export function cached_file(w: world, size: number, capacity = 1 << 20): disk_file {
  const d: disk_file = {
    file: null as never,
    disk: new Uint8Array(capacity),
    log: [],
    fail: { read: null, write: null },
  };
  const fill = (p: page) => {
    d.log.push(`r${p.index}`);
    if (d.fail.read === null) {
      page_address(p).set(d.disk.subarray(p.index * PAGE, (p.index + 1) * PAGE));
      SetPageUptodate(p);
    }
    unlock_page(p);
  };
  const aops: address_space_operations = {
    async read_folio(_f, p) {
      fill(p);
    },
    async writepages(mapping, wbc) {
      await write_cache_pages(mapping, wbc, (p) => {
        d.log.push(`w${p.index}`);
        set_page_writeback(p);
        unlock_page(p);
        if (d.fail.write === null) d.disk.set(page_address(p), p.index * PAGE);
        end_page_writeback(p);
        if (d.fail.write !== null) throw d.fail.write;
      });
    },
    dirty_folio: filemap_dirty_folio,
    async write_begin(_f, mapping, pos, _len, ctx) {
      const p = await grab_cache_page_write_begin(mapping, Math.floor(pos / PAGE));
      if (!(p.flags & 1)) {
        page_address(p).set(d.disk.subarray(p.index * PAGE, (p.index + 1) * PAGE));
        SetPageUptodate(p);
      }
      ctx.page = p;
    },
    write_end(_f, mapping, pos, _len, copied, ctx) {
      const p = ctx.page!;
      if (copied > 0) set_page_dirty(p);
      if (pos + copied > mapping.host.i_size) mapping.host.i_size = pos + copied;
      unlock_page(p);
      put_page(p);
      return copied;
    },
  };
  const fops: file_operations = { mmap: generic_file_mmap, async fsync() {} };
  const ino = new_inode(w.sb);
  ino.i_mode = S_IFREG | 0o644;
  ino.i_size = size;
  ino.i_blkbits = 12;
  ino.i_fop = fops;
  ino.i_mapping.a_ops = aops;
  d.file = open_fake(w, ino, FMODE_READ | FMODE_WRITE);
  return d;
}

// ---- a file like DAX: page i of the file is frame base + i; pages not in `blocks` are holes

export interface dax_file {
  file: fake_file;
  region: phys_region;
  base_pfn: number;
  blocks: Set<number>;
  /** One line a handler call: "pte W MKWRITE 3 -> NOPAGE". */
  log: string[];
  /** Whether 2 MiB pieces are offered when all their blocks are there. */
  huge: boolean;
}

const FLAG_NAMES: readonly [number, string][] = [
  [1 << 0, "WRITE"],
  [1 << 1, "MKWRITE"],
  [1 << 2, "ALLOW_RETRY"],
  [1 << 4, "KILLABLE"],
  [1 << 5, "TRIED"],
  [1 << 6, "USER"],
  [1 << 9, "INTERRUPTIBLE"],
  [1 << 11, "ORIG_PTE_VALID"],
];

export function flag_names(flags: number): string {
  return FLAG_NAMES.filter(([bit]) => flags & bit)
    .map(([, name]) => name)
    .join("|");
}

export function dax_file(w: world, size: number, opts: { hole?: boolean; huge?: boolean } = {}) {
  const nr = Math.ceil(size / PMD) * 512;
  const region = w.kernel.phys.add_region({ name: "pmem", kind: "pmem", size: nr * PAGE });
  const base_pfn = region.start / PAGE;
  memremap_pages(w.kernel, { start_pfn: base_pfn, nr, type: "fs_dax", owner: null });
  const d: dax_file = {
    file: null as never,
    region,
    base_pfn,
    blocks: new Set(opts.hole ? [] : Array.from({ length: nr }, (_, i) => i)),
    log: [],
    huge: opts.huge ?? true,
  };
  const note = (what: string, vmf: vm_fault, ret: number) => {
    d.log.push(`${what} ${flag_names(vmf.flags)} @${vmf.pgoff}`);
    return ret;
  };
  const pte = (vmf: vm_fault): number => {
    const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
    if (vmf.pgoff * PAGE >= d.file.f_inode.i_size) return VM_FAULT_SIGBUS;
    if (write && !(vmf.vma.vm_flags & VM_SHARED)) {
      const to = page_address(vmf.cow_page!);
      if (d.blocks.has(vmf.pgoff)) {
        w.kernel.phys.copy_from((base_pfn + vmf.pgoff) * PAGE, to, 0, PAGE);
      }
      return finish_fault(FAULT(vmf)) || VM_FAULT_DONE_COW;
    }
    if (write) {
      // A page of zeros that stands for the hole must go, or the new frame cannot be put there.
      if (!d.blocks.has(vmf.pgoff)) {
        void unmap_mapping_pages(d.file.f_mapping, vmf.pgoff, 1, false);
        d.blocks.add(vmf.pgoff);
      }
      return vmf_insert_mixed_mkwrite(vmf.vma, vmf.address, base_pfn + vmf.pgoff);
    }
    const pfn = d.blocks.has(vmf.pgoff) ? base_pfn + vmf.pgoff : zero_pfn(vmf.vma);
    return vmf_insert_mixed(vmf.vma, vmf.address, pfn);
  };
  const pmd = (vmf: vm_fault): number => {
    const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
    const first = vmf.pgoff - (Math.floor(vmf.address / PAGE) % 512);
    const start = Math.floor(vmf.address / PMD) * PMD;
    if (!d.huge || first % 512 !== 0 || first < 0) return VM_FAULT_FALLBACK;
    if (start < vmf.vma.vm_start || start + PMD > vmf.vma.vm_end) return VM_FAULT_FALLBACK;
    if (write && !(vmf.vma.vm_flags & VM_SHARED)) return VM_FAULT_FALLBACK;
    const all = [...Array(512).keys()].every((i) => d.blocks.has(first + i));
    if (all) return vmf_insert_pfn_pmd(vmf, base_pfn + first, write);
    const none = [...Array(512).keys()].every((i) => !d.blocks.has(first + i));
    return none && !write ? set_huge_zero_page(vmf) : VM_FAULT_FALLBACK;
  };
  const vm_ops = {
    name: "fake_dax_vm_ops",
    fault: (vmf: vm_fault) => note("pte", vmf, pte(vmf)),
    huge_fault: (vmf: vm_fault, order: number) =>
      order === PMD_ORDER ? note("pmd", vmf, pmd(vmf)) : VM_FAULT_FALLBACK,
    pfn_mkwrite: (vmf: vm_fault) => {
      d.log.push(`mkwrite ${flag_names(vmf.flags)} @${vmf.pgoff}`);
      return pte(vmf);
    },
  };
  const fops: file_operations = {
    mmap_supported_flags: MAP_SYNC,
    mmap(_f: file, vma: vm_area_struct) {
      vma.vm_ops = vm_ops;
      vma.vm_flags |= VM_HUGEPAGE;
    },
    get_unmapped_area: thp_get_unmapped_area,
    async fsync(_f, start, end, datasync) {
      d.log.push(`fsync ${start}..${end}${datasync ? " datasync" : ""}`);
    },
    async fallocate(_f, mode, offset, len) {
      d.log.push(`fallocate ${mode} ${offset}+${len}`);
    },
  };
  const ino = new_inode(w.sb);
  ino.i_mode = S_IFREG | 0o644;
  ino.i_flags |= S_DAX;
  ino.i_size = size;
  ino.i_blkbits = 12;
  ino.i_fop = fops;
  ino.i_mapping.a_ops = { name: "fake_dax_aops", async writepages() {} };
  d.file = open_fake(w, ino, FMODE_READ | FMODE_WRITE);
  return d;
}

export function bytes_of(text: string): Uint8Array {
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

export function text_of(b: Uint8Array): string {
  return String.fromCharCode(...b);
}

/** A read or write at a position. */
export function iocb(f: file, pos: number): kiocb {
  return { ki_filp: f, ki_pos: pos, ki_flags: 0 };
}

export { VM_FAULT_NOPAGE };

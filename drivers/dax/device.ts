/**
 * drivers/dax/device.ts - device-dax: a range of memory as a character device that can only be
 * mapped. Linux: drivers/dax/device.c, drivers/dax/bus.c (kill_dev_dax).
 *
 * Reading order: dev_dax_probe() -> dax_open(), dax_mmap() -> dev_dax_huge_fault() ->
 * kill_dev_dax().
 *
 * No filesystem, no page cache, no block map: page N of the file is page N of the range. All
 * mappings are made of entries of one size, the device's alignment, so a mapping has to start, end
 * and be split there.
 *
 * Locks: a fault looks at `alive` and enters its entry inside dax_read_lock(); kill_dax() waits for
 * such sections, so after it nothing new is mapped, and unmapping what is there takes everything
 * away.
 */
import type { dax_device } from "../../kernel/include/dax.ts";
import { EINVAL, ENXIO } from "../../kernel/include/errno.ts";
import { S_DAX, type file, type file_operations, type inode } from "../../kernel/include/fs.ts";
import { MAP_SYNC } from "../../kernel/include/mman.ts";
import {
  FAULT_FLAG_WRITE,
  VM_FAULT_FALLBACK,
  VM_FAULT_SIGBUS,
  VM_HUGEPAGE,
  VM_MAYSHARE,
} from "../../kernel/include/mm_types.ts";
import type {
  dev_pagemap,
  vm_area_struct,
  vm_fault,
  vm_operations_struct,
} from "../../kernel/include/mm_types.ts";
import { S_IFCHR } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import {
  devnode_create,
  devnode_delete,
  register_chrdev,
  unregister_chrdev,
} from "../../kernel/vfs/devnode.ts";
import { init_special_inode, new_inode } from "../../kernel/vfs/inode.ts";
import { init_pseudo } from "../../kernel/vfs/super.ts";
import {
  unmap_mapping_range,
  vma_is_dax,
  vmf_insert_mixed,
  vmf_insert_pfn_pmd,
  vmf_insert_pfn_pud,
} from "../../mm/memory.ts";
import { compound_head, memremap_pages, memunmap_pages, pfn_to_page } from "../../mm/page.ts";
import { mm_get_unmapped_area } from "../../mm/unmapped_area.ts";
import {
  alloc_dax,
  dax_alive,
  dax_read_lock,
  dax_read_unlock,
  dax_state,
  kill_dax,
  put_dax,
} from "./super.ts";

const DAXFS_MAGIC = 0x64646178;

/** A range of memory as a character device. Immutable but for what `dax_dev` says. */
export interface dev_dax {
  readonly kernel: Kernel;
  /** "dax0.0", also its node below /dev. */
  readonly name: string;
  /** Number of the node: MKDEV. */
  readonly dev: number;
  /** Physical address and bytes. */
  readonly start: number;
  readonly size: number;
  /** Bytes of one entry: a page, 2 MiB or 1 GiB. */
  readonly align: number;
  readonly dax_dev: dax_device;
  readonly pgmap: dev_pagemap;
  /** Whose mapping all open files share: it finds every process that has the device mapped. */
  inode: inode | null;
}

function dev_dax_of(f: file): dev_dax {
  return f.private_data as dev_dax;
}

/** Made at the first open: the pseudo filesystem needs the VFS, which boots after the drivers. */
function dax_inode(d: dev_dax): inode {
  if (d.inode !== null) return d.inode;
  const st = dax_state(d.kernel);
  st.dax_sb ??= init_pseudo(d.kernel, "dax", DAXFS_MAGIC);
  const inode = new_inode(st.dax_sb);
  init_special_inode(inode, S_IFCHR, d.dev);
  inode.i_flags = S_DAX;
  d.inode = inode;
  return inode;
}

/** May this be mapped, or still be used? Throws ENXIO (device gone), EINVAL. */
function check_vma(d: dev_dax, vma: vm_area_struct, who: string): void {
  if (!dax_alive(d.dax_dev)) throw ENXIO;
  const refuse = (why: string): never => {
    d.kernel.pr_info(`dax ${d.name}: ${d.kernel.current.comm}: ${who}: fail, ${why}`);
    throw EINVAL;
  };
  if ((vma.vm_flags & VM_MAYSHARE) === 0) refuse("attempted private mapping");
  if (vma.vm_start % d.align !== 0 || vma.vm_end % d.align !== 0) {
    const hex = (n: number): string => `0x${n.toString(16)}`;
    refuse(`unaligned vma (${hex(vma.vm_start)} - ${hex(vma.vm_end)}, ${hex(d.align - 1)})`);
  }
  if (!vma_is_dax(vma)) refuse("vma is not DAX capable");
}

/** Where `size` bytes at page `pgoff` are, or -1: not wholly in the range. */
function dax_pgoff_to_phys(d: dev_dax, pgoff: number, size: number): number {
  const off = pgoff * d.kernel.PAGE_SIZE;
  return off + size <= d.size ? d.start + off : -1;
}

/** Memory failure comes from the frame and looks here for the processes that have it mapped. */
function dax_set_mapping(vmf: vm_fault, pfn: number, pgoff: number): void {
  const { kernel } = vmf.vma.vm_mm;
  const found = pfn_to_page(kernel, pfn);
  if (found === null) return;
  const page = compound_head(found);
  if (page.mapping !== null) return;
  page.mapping = vmf.vma.vm_file!.f_mapping;
  page.index = pgoff;
}

function fault_in(d: dev_dax, vmf: vm_fault, order: number): number {
  const { vma } = vmf;
  const { PAGE_SIZE } = d.kernel;
  const size = PAGE_SIZE * 2 ** order;
  try {
    check_vma(d, vma, "fault");
  } catch {
    return VM_FAULT_SIGBUS;
  }
  if (size < d.align) return VM_FAULT_SIGBUS;
  if (size > d.align) return order === 0 ? VM_FAULT_SIGBUS : VM_FAULT_FALLBACK;
  const base = vmf.address - (vmf.address % size);
  if (base < vma.vm_start || base + size > vma.vm_end) return VM_FAULT_SIGBUS;
  const pgoff = vma.vm_pgoff + (base - vma.vm_start) / PAGE_SIZE;
  const phys = dax_pgoff_to_phys(d, pgoff, size);
  if (phys < 0) return VM_FAULT_SIGBUS;
  const pfn = phys / PAGE_SIZE;
  dax_set_mapping(vmf, pfn, pgoff);
  if (order === 0) return vmf_insert_mixed(vma, vmf.address, pfn);
  const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
  const pud = size > PAGE_SIZE * (PAGE_SIZE / 8);
  return pud ? vmf_insert_pfn_pud(vmf, pfn, write) : vmf_insert_pfn_pmd(vmf, pfn, write);
}

function dev_dax_huge_fault(vmf: vm_fault, order: number): number {
  const d = dev_dax_of(vmf.vma.vm_file!);
  const id = dax_read_lock(d.kernel);
  const ret = fault_in(d, vmf, order);
  dax_read_unlock(d.kernel, id);
  return ret;
}

export const dev_dax_vm_ops: vm_operations_struct = Object.freeze({
  name: "dax_vm_ops",
  fault: (vmf: vm_fault) => dev_dax_huge_fault(vmf, 0),
  huge_fault: dev_dax_huge_fault,
  may_split(vma: vm_area_struct, addr: number): void {
    if (addr % dev_dax_of(vma.vm_file!).align !== 0) throw EINVAL;
  },
  pagesize: (vma: vm_area_struct) => dev_dax_of(vma.vm_file!).align,
});

function dax_mmap(f: file, vma: vm_area_struct): void {
  const d = dev_dax_of(f);
  const id = dax_read_lock(d.kernel);
  try {
    check_vma(d, vma, "dax_mmap");
  } finally {
    dax_read_unlock(d.kernel, id);
  }
  vma.vm_ops = dev_dax_vm_ops;
  vma.vm_flags |= VM_HUGEPAGE;
}

/** Without a hint: a place congruent to the offset, if a whole entry fits into the mapping. */
function dax_get_unmapped_area(
  f: file,
  addr: number,
  len: number,
  pgoff: number,
  flags: number,
): number {
  const { align, kernel } = dev_dax_of(f);
  const mm = kernel.current.mm!;
  const off = pgoff * kernel.PAGE_SIZE;
  const aligned = Math.ceil(off / align) * align;
  const holds_one = off + len - aligned >= align;
  if (addr !== 0 || !holds_one) return mm_get_unmapped_area(mm, addr, len, flags);
  const at = mm_get_unmapped_area(mm, addr, len + align, flags);
  return at + ((((off - at) % align) + align) % align);
}

/** The node's number leads here: one table of operations a device, so that open() knows which. */
function dax_fops(d: dev_dax): file_operations {
  return Object.freeze({
    name: "dax_fops",
    mmap_supported_flags: MAP_SYNC,
    llseek: (f: file) => f.f_pos,
    open(node: inode, f: file): void {
      f.f_mapping = dax_inode(d).i_mapping;
      f.private_data = d;
      node.i_flags = S_DAX;
    },
    mmap: dax_mmap,
    get_unmapped_area: dax_get_unmapped_area,
  });
}

export interface dev_dax_options {
  name: string;
  dev: number;
  start: number;
  size: number;
  align: number;
}

/** Binds the driver: descriptors for the memory, a node below /dev. */
export function dev_dax_probe(kernel: Kernel, o: dev_dax_options): dev_dax {
  const start_pfn = o.start / kernel.PAGE_SIZE;
  const pgmap: dev_pagemap = {
    start_pfn,
    nr: o.size / kernel.PAGE_SIZE,
    type: "generic",
    vmemmap_shift: Math.log2(o.align / kernel.PAGE_SIZE),
    owner: o.name,
  };
  const dax_dev = alloc_dax(kernel, null, null, start_pfn, o.name);
  const d: dev_dax = { kernel, ...o, dax_dev, pgmap, inode: null };
  memremap_pages(kernel, pgmap);
  register_chrdev(kernel, o.dev, dax_fops(d));
  devnode_create(kernel, o.name, S_IFCHR | 0o600, o.dev);
  return d;
}

/**
 * Unbinds: nobody can map it any more, and every mapping is emptied, so accesses get SIGBUS. Pages
 * that are pinned are not waited for.
 */
export async function kill_dev_dax(d: dev_dax): Promise<void> {
  await kill_dax(d.dax_dev);
  if (d.inode !== null) {
    const p = unmap_mapping_range(d.inode.i_mapping, 0, 0, true);
    if (p) await p;
  }
  devnode_delete(d.kernel, d.name);
  unregister_chrdev(d.kernel, d.dev);
  const q = memunmap_pages(d.kernel, d.pgmap);
  if (q) await q;
  put_dax(d.dax_dev);
}

/**
 * drivers/dax/device.ts - device-dax: memory as a character device that can only be mapped. Linux:
 * drivers/dax/device.c.
 *
 * Reading order: dev_dax_probe() -> dax_open() -> dax_mmap() -> dev_dax_huge_fault() ->
 * dev_dax_remove().
 *
 * There is no file system: page n of the file is page n of the range, for ever. So a fault needs no
 * block map and no entry lock, and a store that is flushed is durable; fsync and msync have nothing
 * to do and are refused. In return everything is done in one size: mappings of shared memory only,
 * whose ends are multiples of the alignment (4 KiB, 2 MiB, 1 GiB), filled by pages of exactly that
 * size. A fault that would need another size is a SIGBUS.
 *
 * Locks: a fault, and the check at mmap, is in a dax_read_lock() section: after kill_dax() none
 * finds the device alive.
 * Invariant: all files of a device share one mapping (that of the DAX device's inode, whichever
 * node was opened), so that unmap_mapping_range() reaches all of them.
 */
import { EINVAL, ENOMEM, ENXIO } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { S_DAX } from "../../kernel/include/fs.ts";
import type { file, file_operations, inode } from "../../kernel/include/fs.ts";
import { MAP_SYNC } from "../../kernel/include/mman.ts";
import {
  FAULT_FLAG_WRITE,
  VM_FAULT_FALLBACK,
  VM_FAULT_SIGBUS,
  VM_HUGEPAGE,
  VM_MAYSHARE,
} from "../../kernel/include/mm_types.ts";
import type {
  address_space_operations,
  vm_area_struct,
  vm_fault,
  vm_operations_struct,
} from "../../kernel/include/mm_types.ts";
import { register_chrdev, unregister_chrdev } from "../../kernel/vfs/devnode.ts";
import {
  FAULT,
  vma_is_dax,
  vmf_insert_mixed,
  vmf_insert_pfn_pmd,
  vmf_insert_pfn_pud,
} from "../../mm/memory.ts";
import { compound_head, memremap_pages, memunmap_pages, pfn_to_page } from "../../mm/page.ts";
import { mm_get_unmapped_area } from "../../mm/unmapped_area.ts";
import { linear_page_index } from "../../mm/vma.ts";
import type { dax_device_driver, dev_dax } from "./bus.ts";
import { kill_dev_dax } from "./bus.ts";
import { dax_get, dax_inode, dax_read_lock, dax_read_unlock, put_dax, run_dax } from "./super.ts";

const dev_dax_of = (f: file): dev_dax => f.private_data as dev_dax;

/** Is the vma one that this device maps? The error, or null. In a read section. */
function check_vma(dev_dax: dev_dax, vma: vm_area_struct, func: string): Errno | null {
  const { kernel, align } = dev_dax;
  if (!dev_dax.dax_dev.alive) return ENXIO;
  let why = "";
  if (!(vma.vm_flags & VM_MAYSHARE)) why = "attempted private mapping";
  else if (vma.vm_start % align !== 0 || vma.vm_end % align !== 0) {
    const [start, end, mask] = [vma.vm_start, vma.vm_end, align - 1].map((n) => n.toString(16));
    why = `unaligned vma (0x${start} - 0x${end}, 0x${mask})`;
  } else if (!vma_is_dax(vma)) why = "vma is not DAX capable";
  if (why === "") return null;
  kernel.pr_info(`device_dax ${dev_dax.name}: ${kernel.current.comm}: ${func}: fail, ${why}`);
  return EINVAL;
}

/** Physical address of `size` bytes at page `pgoff` of the file; -1: not all of them are there. */
function dax_pgoff_to_phys(dev_dax: dev_dax, pgoff: number, size: number): number {
  const off = pgoff * dev_dax.kernel.PAGE_SIZE;
  return off + size <= dev_dax.size ? dev_dax.start + off : -1;
}

/** Tells the page where it is mapped, once: what memory_failure() goes by. */
function dax_set_mapping(vmf: vm_fault, pfn: number, pgoff: number): void {
  const f = vmf.vma.vm_file!;
  const page = compound_head(pfn_to_page(f.kernel, pfn)!);
  if (page.mapping) return;
  page.mapping = f.f_mapping;
  page.index = pgoff;
}

/** Puts an entry of 2^order pages in place, if that is the device's size. */
function fault_of_order(dev_dax: dev_dax, vmf: vm_fault, order: number): number {
  const { PAGE_SIZE } = dev_dax.kernel;
  const { vma } = vmf;
  const size = PAGE_SIZE * 2 ** order;
  if (check_vma(dev_dax, vma, "dev_dax_huge_fault")) return VM_FAULT_SIGBUS;
  if (size < dev_dax.align) return VM_FAULT_SIGBUS;
  if (size > dev_dax.align) return VM_FAULT_FALLBACK;
  const addr = vmf.address - (vmf.address % size);
  if (addr < vma.vm_start || addr + size > vma.vm_end) return VM_FAULT_SIGBUS;
  const pgoff = linear_page_index(vma, addr);
  const phys = dax_pgoff_to_phys(dev_dax, pgoff, size);
  if (phys < 0) return VM_FAULT_SIGBUS;
  const pfn = phys / PAGE_SIZE;
  // A file offset that is not a multiple of the alignment is taken, and then has no effect: a huge
  // entry begins where a huge page does.
  dax_set_mapping(vmf, pfn, pgoff);
  const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0;
  if (order === 0) return vmf_insert_mixed(vma, addr, pfn);
  if (order === FAULT(vmf).g.pmd_order) return vmf_insert_pfn_pmd(vmf, pfn, write);
  return vmf_insert_pfn_pud(vmf, pfn, write);
}

function dev_dax_huge_fault(vmf: vm_fault, order: number): number {
  const dev_dax = dev_dax_of(vmf.vma.vm_file!);
  const id = dax_read_lock(dev_dax.kernel);
  const ret = fault_of_order(dev_dax, vmf, order);
  dax_read_unlock(dev_dax.kernel, id);
  return ret;
}

const dax_vm_ops: vm_operations_struct = Object.freeze({
  name: "dax_vm_ops",
  fault: (vmf: vm_fault) => dev_dax_huge_fault(vmf, 0),
  huge_fault: dev_dax_huge_fault,
  may_split(vma: vm_area_struct, addr: number): void {
    if (addr % dev_dax_of(vma.vm_file!).align !== 0) throw EINVAL;
  },
  pagesize: (vma: vm_area_struct) => dev_dax_of(vma.vm_file!).align,
});

function dax_mmap(f: file, vma: vm_area_struct): void {
  const dev_dax = dev_dax_of(f);
  const id = dax_read_lock(dev_dax.kernel);
  const err = check_vma(dev_dax, vma, "dax_mmap");
  dax_read_unlock(dev_dax.kernel, id);
  if (err) throw err;
  vma.vm_ops = dax_vm_ops;
  vma.vm_flags |= VM_HUGEPAGE;
}

/**
 * An address that is congruent to the file offset modulo the alignment, for a mapping that holds at
 * least one aligned piece. A hint is the caller's business.
 */
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
  const first = Math.ceil(off / align) * align;
  if (addr === 0 && off + len - first >= align) {
    const at = roomy_area(f, len + align, flags);
    if (at !== null) return at + ((((off - at) % align) + align) % align);
  }
  return mm_get_unmapped_area(mm, addr, len, flags);
}

function roomy_area(f: file, len: number, flags: number): number | null {
  try {
    return mm_get_unmapped_area(f.kernel.current.mm!, 0, len, flags);
  } catch (e) {
    if (e !== ENOMEM) throw e;
    return null;
  }
}

/** Nothing is ever written back: stores are durable by themselves once flushed. */
const dev_dax_aops: address_space_operations = Object.freeze({
  name: "dev_dax_aops",
  dirty_folio: () => false,
});

/** Neither read nor write nor fsync: the callers of what is not here get EINVAL or ENODEV. */
function make_fops(dev_dax: dev_dax): file_operations {
  return Object.freeze({
    name: "dax_fops",
    llseek: (f: file) => f.f_pos,
    open(node: inode, f: file): void {
      const { i_mapping } = dax_inode(dev_dax.dax_dev);
      i_mapping.a_ops = dev_dax_aops;
      node.i_mapping = i_mapping;
      node.i_flags = S_DAX;
      f.f_mapping = i_mapping;
      f.private_data = dev_dax;
      dax_get(dev_dax.dax_dev);
    },
    release: () => put_dax(dev_dax.dax_dev),
    get_unmapped_area: dax_get_unmapped_area,
    mmap: dax_mmap,
    mmap_supported_flags: MAP_SYNC,
  });
}

function dev_dax_probe(dev_dax: dev_dax): void {
  const { kernel, align, start, size } = dev_dax;
  const { PAGE_SIZE } = kernel;
  dev_dax.pgmap = {
    start_pfn: start / PAGE_SIZE,
    nr: size / PAGE_SIZE,
    type: "devdax",
    vmemmap_shift: Math.log2(align / PAGE_SIZE),
    media_error: (_map, paddr) => dev_dax.region.media_error?.(paddr),
    owner: dev_dax,
  };
  memremap_pages(kernel, dev_dax.pgmap);
  register_chrdev(kernel, dev_dax.dev, make_fops(dev_dax));
  run_dax(dev_dax.dax_dev);
}

async function dev_dax_remove(dev_dax: dev_dax): Promise<void> {
  await kill_dev_dax(dev_dax);
  unregister_chrdev(dev_dax.kernel, dev_dax.dev);
  const p = memunmap_pages(dev_dax.kernel, dev_dax.pgmap!);
  if (p) await p;
  dev_dax.pgmap = null;
}

export const device_dax_driver: dax_device_driver = Object.freeze({
  name: "device_dax",
  probe: dev_dax_probe,
  remove: dev_dax_remove,
});

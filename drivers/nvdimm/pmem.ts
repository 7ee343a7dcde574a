/**
 * drivers/nvdimm/pmem.ts - persistent memory as a block device and as a DAX device.
 * Linux: drivers/nvdimm/pmem.c. Differs: a namespace is a whole region (labels come with the bus).
 *
 * Reading order: attach_pmem() -> pmem_direct_access(), pmem_submit_bio() -> detach_pmem()
 *
 * Nothing here sleeps: media access is memory access. Two offsets matter: `data_offset`, from the
 * start of the region to sector 0 of the disk (behind the info block and page map of an fsdax
 * namespace), and `pfn_pad`, what is left unused at the ends.
 *
 * Invariant: a sector in `bb` is neither read nor handed out by direct_access, but for
 * DAX_RECOVERY_WRITE. It leaves `bb` when the device could clear it (`clear_poison`); the recorded
 * machine's device never can, so there writing to it fails.
 */
import { assert } from "../../kernel/assert.ts";
import { REQ_FUA, REQ_OP_READ, REQ_OP_WRITE, REQ_PREFLUSH } from "../../kernel/include/blkdev.ts";
import type { bio, gendisk } from "../../kernel/include/blkdev.ts";
import { DAX_RECOVERY_WRITE } from "../../kernel/include/dax.ts";
import type { dax_device, dax_operations, dax_range } from "../../kernel/include/dax.ts";
import { EINVAL, EIO, ENODEV } from "../../kernel/include/errno.ts";
import { PG_hwpoison } from "../../kernel/include/mm_types.ts";
import type { dev_pagemap } from "../../kernel/include/mm_types.ts";
import type { phys_region } from "../../kernel/include/phys.ts";
import type { Sometime } from "../../kernel/include/fs.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { clear_media_error, readable_bytes } from "../../mm/memory-failure/media.ts";
import { memremap_pages, memunmap_pages, pfn_to_page } from "../../mm/page.ts";
import { host_flush } from "../../mm/phys.ts";
import { badblocks } from "../block/badblocks.ts";
import { bio_op } from "../block/bio.ts";
import { bdev_disk_changed } from "../block/partitions.ts";
import { add_disk, block_state, del_gendisk } from "../block/genhd.ts";
import {
  alloc_dax,
  dax_add_host,
  dax_holder_notify_failure,
  dax_remove_host,
  dax_state,
  dax_write_cache,
  kill_dax,
  put_dax,
  set_dax_nocache,
  set_dax_nomc,
  set_dax_synchronous,
} from "../dax/super.ts";
import { nfit_handle_mce, nvdimm_badblocks_populate, nvdimm_clear_poison } from "./badrange.ts";
import type { nd_region } from "./nd.ts";
import { PFN_SB_OFFSET, PFN_SB_SIZE, nd_pfn_layout } from "./pfn.ts";
import { nd_pfn_make_block, nd_pfn_validate } from "./pfn.ts";
import type { nd_pfn_info } from "./pfn.ts";

const REGION_ALIGN = 16 * 1024 * 1024;

export interface pmem_options {
  /** Take this region of physical memory as it is. */
  region?: phys_region;
  /** Or make a region of so many bytes; default: the length of `image`. */
  size?: number;
  /** What is on it: bytes (used copy-on-write) or a media image of mm/phys. */
  image?: unknown;
  /**
   * "fsdax": with an info block, the one found or else a new one. "raw": the whole region. Default:
   * as found, raw when there is no info block.
   */
  mode?: "raw" | "fsdax";
  /** The info block the caller has found or made; null: raw. Default: looked for. */
  info?: nd_pfn_info | null;
  /** Where a new fsdax namespace has its page map; default "dev". */
  map?: "dev" | "mem";
  /** Bytes to put at the start of a new namespace's data: a filesystem image, for example. */
  contents?: Uint8Array;
  /** A raw namespace with page descriptors, so with DAX (memmap=, virtio-pmem); default false. */
  pages?: boolean;
  domain?: "adr" | "eadr" | "none";
  /** MAP_SYNC may be had; default true unless domain is "none". */
  synchronous?: boolean;
  /** The device can repair bad sectors when they are written; default: what the bus can. */
  clear_poison?: boolean;
  /** The region of an nvdimm bus that the memory is of: its list of bad memory counts. */
  nd_region?: nd_region;
  ro?: boolean;
  /** Default: pmem0, pmem1 ... */
  name?: string;
}

export interface pmem_device {
  readonly kernel: Kernel;
  readonly region: phys_region;
  readonly mode: "raw" | "fsdax";
  readonly info: nd_pfn_info | null;
  /** Bytes from the region's start to sector 0. */
  readonly data_offset: number;
  /** Bytes at the end that are not used. */
  readonly pfn_pad: number;
  /** Whole pages of data. */
  readonly nr_pages: number;
  readonly bb: badblocks;
  readonly clear_poison: boolean;
  readonly nd_region: nd_region | null;
  readonly disk: gendisk;
  readonly dax_dev: dax_device;
  readonly pgmap: dev_pagemap | null;
}

/** Is any of `len` bytes at disk sector `sector` bad? */
function is_bad_pmem(bb: badblocks, sector: number, len: number): boolean {
  return bb.count > 0 && bb.check(sector, Math.ceil(len / 512)) !== null;
}

function phys_of_sector(pmem: pmem_device, sector: number): number {
  return pmem.region.start + pmem.data_offset + sector * 512;
}

/** Repairs bad sectors in the range or throws EIO. */
function pmem_clear_poison(pmem: pmem_device, sector: number, len: number): void {
  if (!pmem.clear_poison) throw EIO;
  if (!hwpoison_clear(pmem, sector, len)) throw EIO;
}

/**
 * Has the device repair the range: neither it nor its pages are bad any more. False: it did not.
 */
function hwpoison_clear(pmem: pmem_device, sector: number, len: number): boolean {
  const { kernel, nd_region } = pmem;
  const start = phys_of_sector(pmem, sector);
  if (nd_region?.bus.ars && nvdimm_clear_poison(nd_region.bus, start, len) < len) return false;
  pmem.bb.clear(sector, Math.ceil(len / 512));
  clear_media_error(kernel, start, len);
  for (let at = start; at < start + len; at += kernel.PAGE_SIZE) {
    const page = pfn_to_page(kernel, Math.floor(at / kernel.PAGE_SIZE));
    if (page) page.flags &= ~PG_hwpoison;
  }
  return true;
}

/** A line at `paddr` could not be read: its sector is bad from now on. */
function pmem_media_error(pmem: pmem_device, paddr: number): void {
  if (pmem.nd_region) nfit_handle_mce(pmem.nd_region, paddr);
  const off = paddr - pmem.region.start - pmem.data_offset;
  if (off >= 0 && off < pmem.disk.capacity * 512) pmem.bb.set(Math.floor(off / 512), 1);
}

function pmem_do_read(
  pmem: pmem_device,
  dst: Uint8Array,
  off: number,
  sector: number,
  len: number,
): void {
  if (is_bad_pmem(pmem.bb, sector, len)) throw EIO;
  const start = phys_of_sector(pmem, sector);
  const good = readable_bytes(pmem.kernel, start, len);
  if (good < len) {
    pmem_media_error(pmem, start + good);
    throw EIO;
  }
  pmem.kernel.phys.copy_from(phys_of_sector(pmem, sector), dst, off, len);
}

function pmem_do_write(
  pmem: pmem_device,
  src: Uint8Array,
  off: number,
  sector: number,
  len: number,
): void {
  if (is_bad_pmem(pmem.bb, sector, len)) pmem_clear_poison(pmem, sector, len);
  pmem.kernel.phys.memcpy_flushcache(phys_of_sector(pmem, sector), src, off, len);
}

/** Without a persistence domain (virtio-pmem) the host has to write its file. */
function nvdimm_flush(pmem: pmem_device): void {
  const { phys } = pmem.kernel;
  phys.sfence();
  const memory = pmem.region.domain === "none" ? phys.region_of(pmem.region.start) : undefined;
  if (memory) host_flush(memory);
}

function pmem_submit_bio(pmem: pmem_device, bio: bio): void {
  if (bio.bi_opf & REQ_PREFLUSH) nvdimm_flush(pmem);
  const op = bio_op(bio);
  let sector = bio.bi_sector;
  for (const v of bio.bi_io_vec) {
    if (op === REQ_OP_WRITE) pmem_do_write(pmem, v.bytes, v.offset, sector, v.len);
    else if (op === REQ_OP_READ) pmem_do_read(pmem, v.bytes, v.offset, sector, v.len);
    sector += v.len / 512;
  }
  if (bio.bi_opf & REQ_FUA) nvdimm_flush(pmem);
}

function pmem_of(dev: dax_device): pmem_device {
  return dev.private_data as pmem_device;
}

function pmem_direct_access(
  dev: dax_device,
  pgoff: number,
  nr_pages: number,
  mode: number,
  out: dax_range,
): void {
  const pmem = pmem_of(dev);
  const page_size = pmem.kernel.PAGE_SIZE;
  out.paddr = pmem.region.start + pmem.data_offset + pgoff * page_size;
  out.pfn = dev.base_pfn + pgoff;
  out.nr_pages = pmem.nr_pages - pgoff; // none or less: the caller answers ERANGE
  if (pmem.bb.count !== 0) pmem_access_among_bad(pmem, pgoff, nr_pages, mode, out);
}

/** Cuts the range found to what is good. EIO when it begins with a bad sector. */
function pmem_access_among_bad(
  pmem: pmem_device,
  pgoff: number,
  nr_pages: number,
  mode: number,
  out: dax_range,
): void {
  const page_size = pmem.kernel.PAGE_SIZE;
  const sector = (pgoff * page_size) / 512;
  const hit = pmem.bb.check(sector, (nr_pages * page_size) / 512);
  if (!hit) {
    // Beyond what was asked for nothing is known to be good.
    out.nr_pages = Math.min(out.nr_pages, nr_pages);
    return;
  }
  if (mode !== DAX_RECOVERY_WRITE) throw EIO;
  // As far as it is good, else one page: what devices clear in one go.
  out.nr_pages = Math.max(1, Math.ceil(((hit.first_bad - sector) * 512) / page_size));
}

function pmem_zero_page_range(dev: dax_device, pgoff: number, nr_pages: number): void {
  const pmem = pmem_of(dev);
  const { phys, PAGE_SIZE } = pmem.kernel;
  const sector = (pgoff * PAGE_SIZE) / 512;
  const len = nr_pages * PAGE_SIZE;
  if (is_bad_pmem(pmem.bb, sector, len)) pmem_clear_poison(pmem, sector, len);
  const paddr = phys_of_sector(pmem, sector);
  phys.zero(paddr, len);
  phys.clwb(paddr, len);
}

function pmem_recovery_write(
  dev: dax_device,
  pgoff: number,
  paddr: number,
  bytes: number,
  iter: iov_iter,
): Sometime<number> {
  const pmem = pmem_of(dev);
  const page_size = pmem.kernel.PAGE_SIZE;
  const off = paddr % page_size;
  const len = Math.ceil((off + bytes) / page_size) * page_size;
  const sector = (pgoff * page_size) / 512;
  if (!is_bad_pmem(pmem.bb, sector, len)) return iter.copy_iter_to_phys(paddr, bytes, true);
  if (off !== 0 || bytes % page_size !== 0 || !pmem.clear_poison) return 0;
  const n = iter.copy_iter_to_phys(paddr, bytes, true);
  // Only now: until the new data is there, readers must keep failing.
  const done = (copied: number): number => {
    hwpoison_clear(pmem, sector, len);
    return copied;
  };
  return typeof n === "number" ? done(n) : n.then(done);
}

const pmem_dax_ops: dax_operations = Object.freeze({
  direct_access: pmem_direct_access,
  zero_page_range: pmem_zero_page_range,
  recovery_write: pmem_recovery_write,
});

function make_region(kernel: Kernel, o: pmem_options, name: string): phys_region {
  if (o.region) return o.region;
  const bytes = o.image instanceof Uint8Array ? o.image.length : undefined;
  const size = o.size ?? bytes;
  assert(size !== undefined, "attach_pmem: region, size or image");
  if (size <= 0 || size % kernel.PAGE_SIZE !== 0) throw EINVAL;
  return kernel.phys.add_region({
    name,
    kind: "pmem",
    size,
    domain: o.domain ?? "adr",
    align: Math.max(REGION_ALIGN, 2 ** 30),
    ...(o.image === undefined ? {} : { image: o.image }),
  });
}

/**
 * The valid info block on the region, or null. Throws what nd_pfn_validate does, but for ENODEV.
 */
export function nd_pfn_probe(kernel: Kernel, region: phys_region): nd_pfn_info | null {
  if (region.size < PFN_SB_OFFSET + PFN_SB_SIZE) return null;
  const block = new Uint8Array(PFN_SB_SIZE);
  kernel.phys.copy_from(region.start + PFN_SB_OFFSET, block, 0, PFN_SB_SIZE);
  try {
    return nd_pfn_validate(block, region.start, region.size, kernel.PAGE_SIZE);
  } catch (err) {
    if (err !== ENODEV) throw err;
    return null;
  }
}

function new_pfn_info(kernel: Kernel, region: phys_region, o: pmem_options): nd_pfn_info {
  const info = nd_pfn_layout(region.start, region.size, o.map ?? "dev");
  const uuid = kernel.machine.random.bytes(16);
  uuid[6] = (uuid[6]! & 0x0f) | 0x40;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  const block = nd_pfn_make_block(info, uuid, new Uint8Array(16));
  kernel.phys.memcpy_flushcache(region.start + PFN_SB_OFFSET, block, 0, PFN_SB_SIZE);
  kernel.phys.sfence();
  return info;
}

function choose_info(kernel: Kernel, region: phys_region, o: pmem_options): nd_pfn_info | null {
  if (o.info !== undefined) return o.info;
  if (o.mode === "raw") return null;
  const found = nd_pfn_probe(kernel, region);
  if (found) return found;
  return o.mode === "fsdax" ? new_pfn_info(kernel, region, o) : null;
}

function free_name(kernel: Kernel): string {
  const { disks } = block_state(kernel);
  let n = 0;
  while (disks.has(`pmem${n}`)) n++;
  return `pmem${n}`;
}

/**
 * Makes a pmem disk and its DAX device. A raw namespace has no page descriptors, hence no DAX,
 * unless `pages` says so: as on Linux.
 */
export function attach_pmem(kernel: Kernel, o: pmem_options): pmem_device {
  const name = o.name ?? free_name(kernel);
  const region = make_region(kernel, o, name);
  const info = choose_info(kernel, region, o);
  const data_offset = info ? info.start_pad + info.dataoff : 0;
  const pfn_pad = info ? info.end_trunc : 0;
  const data_size = region.size - data_offset - pfn_pad;
  const has_pages = info !== null || o.pages === true;
  const base_pfn = (region.start + data_offset) / kernel.PAGE_SIZE;
  if (o.contents) {
    if (o.contents.length > data_size) throw EINVAL;
    kernel.phys.copy_to(region.start + data_offset, o.contents, 0, o.contents.length);
  }
  // Half-built on purpose: disk and DAX device get the object before it has them.
  const pmem = {
    kernel,
    region,
    mode: info ? "fsdax" : "raw",
    info,
    data_offset,
    pfn_pad,
    nr_pages: Math.floor(data_size / kernel.PAGE_SIZE),
    bb: new badblocks(),
    clear_poison: o.clear_poison ?? (o.nd_region !== undefined && o.nd_region.bus.ars !== null),
    nd_region: o.nd_region ?? null,
  } as { -readonly [K in keyof pmem_device]: pmem_device[K] };
  pmem.dax_dev = alloc_dax(kernel, pmem, pmem_dax_ops, base_pfn, name);
  set_dax_nocache(pmem.dax_dev);
  set_dax_nomc(pmem.dax_dev);
  if (o.synchronous ?? region.domain !== "none") set_dax_synchronous(pmem.dax_dev);
  dax_write_cache(pmem.dax_dev, region.domain !== "eadr");
  pmem.disk = add_disk(kernel, {
    disk_name: name,
    capacity: data_size / 512,
    ro: o.ro ?? false,
    dax_dev: null,
    queue_dax: has_pages,
    queue_write_cache: true,
    submit_bio: (bio) => pmem_submit_bio(pmem, bio),
    private_data: pmem,
  });
  dax_add_host(pmem.dax_dev, pmem.disk);
  pmem.pgmap = has_pages ? make_pagemap(pmem, data_size / kernel.PAGE_SIZE) : null;
  if (pmem.pgmap) memremap_pages(kernel, pmem.pgmap);
  if (o.nd_region) {
    nvdimm_badblocks_populate(o.nd_region.bus, pmem.bb, region.start + data_offset, data_size);
  }
  bdev_disk_changed(kernel, pmem.disk);
  return pmem;
}

function make_pagemap(pmem: pmem_device, nr: number): dev_pagemap {
  const { PAGE_SIZE } = pmem.kernel;
  const start_pfn = pmem.dax_dev.base_pfn;
  return {
    start_pfn,
    nr,
    type: "fs_dax",
    owner: pmem,
    page_idle: (page) => dax_state(pmem.kernel).page_idle?.(page),
    memory_failure: (_map, pfn, n, mf_flags) =>
      dax_holder_notify_failure(
        pmem.dax_dev,
        (pfn - start_pfn) * PAGE_SIZE,
        n * PAGE_SIZE,
        mf_flags,
      ),
    media_error: (_map, paddr) => pmem_media_error(pmem, paddr),
  };
}

/**
 * Unbinds the driver: the DAX device dies (its holder is told), the disk goes, then the page map,
 * when no memory failure works on one of its pages. The region stays.
 */
export async function detach_pmem(pmem: pmem_device): Promise<void> {
  dax_remove_host(pmem.kernel, pmem.disk);
  await kill_dax(pmem.dax_dev);
  put_dax(pmem.dax_dev);
  del_gendisk(pmem.kernel, pmem.disk);
  const p = pmem.pgmap ? memunmap_pages(pmem.kernel, pmem.pgmap) : undefined;
  if (p) await p;
}

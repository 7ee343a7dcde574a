/**
 * mm/phys.ts - physical memory of one Kernel: regions of DRAM and persistent memory.
 * Linux: arch/x86/lib (memcpy_flushcache, clwb), include/linux/memremap.h; the rest is hardware.
 *
 * The only code that touches chunks. A load or store is a chunk copy; a range may cross chunks but
 * never regions. `hooked` is set on a region only while an undo log or persistence tracking is on:
 * otherwise a store tests one boolean and that is all.
 *
 * Persistence (mm/persist.ts): a store is visible at once; with tracking on, what is durable is
 * known for each 64-byte line and every event goes to a sink.
 */
import { assert } from "../kernel/assert.ts";
import { ENOMEM } from "../kernel/include/errno.ts";
import type { phys_memory, phys_region } from "../kernel/include/phys.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { Machine } from "../kernel/machine.ts";
import { CHUNK_SIZE, image_of_bytes, is_media_image, media } from "./chunks.ts";
import type { media_image } from "./chunks.ts";
import { persistence } from "./persist.ts";
import type { pmem_event } from "./persist.ts";

export { image_of_bytes } from "./chunks.ts";
export type { media_image } from "./chunks.ts";
export type { pmem_event } from "./persist.ts";

const GIB = 2 ** 30;
/** Below this many bytes a loop beats a view and set(). */
const SHORT_COPY = 48;
/** The method found once: V8 looks it up at every call of a typed array. */
const { set } = Uint8Array.prototype;

export class region implements phys_region {
  readonly name: string;
  readonly kind: "dram" | "pmem";
  readonly start: number;
  readonly end: number;
  readonly size: number;
  readonly domain: "adr" | "eadr" | "none";
  readonly media: media;
  /** True while stores must be announced (undo log, tracking). */
  hooked = false;
  persist: persistence | null = null;

  constructor(
    name: string,
    kind: "dram" | "pmem",
    start: number,
    domain: "adr" | "eadr" | "none",
    m: media,
  ) {
    this.name = name;
    this.kind = kind;
    this.start = start;
    this.size = m.size;
    this.end = start + m.size;
    this.domain = domain;
    this.media = m;
  }
}

export interface region_options {
  name: string;
  kind: "dram" | "pmem";
  /** Bytes. */
  size: number;
  domain?: "adr" | "eadr" | "none";
  /** Alignment of the start address; default 2 MiB for DRAM, 1 GiB for pmem. */
  align?: number;
  /** Uint8Array (shared, copied where it is written) or media_image. */
  image?: unknown;
}

function to_image(x: unknown): media_image | undefined {
  if (x === undefined || x === null) return undefined;
  if (is_media_image(x)) return x;
  assert(x instanceof Uint8Array, "an image is a Uint8Array or a media_image");
  return image_of_bytes(x);
}

class physical_memory implements phys_memory {
  readonly page_shift: number;
  readonly regions: region[] = [];
  /** Where the last access went: most go there again. */
  #last: region | null = null;
  #top = 0;
  #dram: region | null = null;
  /** Frames never handed out yet start here (pfn). */
  #next_frame = 0;
  readonly #free: number[] = [];
  /** Frames in use, for leak checks. */
  nr_allocated = 0;

  constructor(page_shift: number) {
    this.page_shift = page_shift;
  }

  add_region(o: region_options): region {
    const image = to_image(o.image);
    assert(o.size > 0 && o.size % (1 << this.page_shift) === 0, "region size in whole pages");
    const align = o.align ?? (o.kind === "dram" ? CHUNK_SIZE : GIB);
    const start = Math.ceil(this.#top / align) * align;
    const r = new region(o.name, o.kind, start, o.domain ?? "adr", new media(o.size, image));
    this.regions.push(r);
    this.#top = Math.ceil(r.end / CHUNK_SIZE) * CHUNK_SIZE;
    if (o.kind === "dram" && this.#dram === null) {
      this.#dram = r;
      // Frame 0 is never handed out: pfn 0 in an entry would look like nothing.
      this.#next_frame = start / (1 << this.page_shift) + 1;
    }
    return r;
  }

  remove_region(r: phys_region): void {
    const i = this.regions.indexOf(r as region);
    assert(i >= 0, "region is not there");
    this.regions.splice(i, 1);
    if (this.#last === r) this.#last = null;
  }

  region_of(paddr: number): region | undefined {
    const l = this.#last;
    if (l !== null && paddr >= l.start && paddr < l.end) return l;
    for (const r of this.regions) {
      if (paddr >= r.start && paddr < r.end) {
        this.#last = r;
        return r;
      }
    }
    return undefined;
  }

  #region(paddr: number, len: number): region {
    let r = this.#last;
    if (r === null || paddr < r.start || paddr >= r.end) r = this.region_of(paddr) ?? null;
    assert(r !== null && paddr + len <= r.end, "physical address outside every region");
    return r;
  }

  alloc_page(): number {
    const d = this.#dram;
    assert(d !== null, "no DRAM");
    this.nr_allocated++;
    const pfn = this.#free.pop();
    if (pfn !== undefined) {
      this.page_view(pfn).fill(0);
      return pfn;
    }
    if ((this.#next_frame + 1) * 2 ** this.page_shift > d.end) {
      this.nr_allocated--;
      throw ENOMEM;
    }
    return this.#next_frame++;
  }

  free_page(pfn: number): void {
    this.nr_allocated--;
    this.#free.push(pfn);
  }

  page_view(pfn: number): Uint8Array {
    const size = 1 << this.page_shift;
    const paddr = pfn * size;
    const r = this.#region(paddr, size);
    assert(r.kind === "dram", "page_view of media");
    const off = paddr - r.start;
    const i = Math.floor(off / CHUNK_SIZE);
    const c = r.media.wr[i] ?? r.media.privatize(i);
    const o = off - i * CHUNK_SIZE;
    return c.subarray(o, o + size);
  }

  read_u8(paddr: number): number {
    const r = this.#region(paddr, 1);
    const off = paddr - r.start;
    const i = Math.floor(off / CHUNK_SIZE);
    return r.media.rd[i]![off - i * CHUNK_SIZE]!;
  }

  read_u32(paddr: number): number {
    const b0 = this.read_u8(paddr);
    const b1 = this.read_u8(paddr + 1);
    const b2 = this.read_u8(paddr + 2);
    return (b0 | (b1 << 8) | (b2 << 16) | (this.read_u8(paddr + 3) << 24)) >>> 0;
  }

  write_u8(paddr: number, v: number): void {
    const r = this.#region(paddr, 1);
    const off = paddr - r.start;
    const i = Math.floor(off / CHUNK_SIZE);
    const o = off - i * CHUNK_SIZE;
    if (r.hooked) this.#before(r, i, o, 1);
    const c = r.media.wr[i] ?? r.media.privatize(i);
    c[o] = v;
    if (r.hooked) r.persist?.stored(off, 1, false);
  }

  write_u32(paddr: number, v: number): void {
    const bytes = new Uint8Array([v, v >>> 8, v >>> 16, v >>> 24]);
    this.copy_to(paddr, bytes, 0, 4);
  }

  copy_to(paddr: number, src: Uint8Array, off: number, len: number): void {
    this.#store(paddr, src, off, len, false);
  }

  memcpy_flushcache(paddr: number, src: Uint8Array, off: number, len: number): void {
    this.#store(paddr, src, off, len, true);
  }

  #store(paddr: number, src: Uint8Array, off: number, len: number, flush: boolean): void {
    const r = this.#region(paddr, len);
    let at = paddr - r.start;
    while (len > 0) {
      const i = Math.floor(at / CHUNK_SIZE);
      const o = at - i * CHUNK_SIZE;
      const n = len < CHUNK_SIZE - o ? len : CHUNK_SIZE - o;
      if (r.hooked) this.#before(r, i, o, n);
      const c = r.media.wr[i] ?? r.media.privatize(i);
      if (n < SHORT_COPY) for (let k = 0; k < n; k++) c[o + k] = src[off + k]!;
      else set.call(c, off === 0 && n === src.length ? src : src.subarray(off, off + n), o);
      if (r.hooked) r.persist?.stored(at, n, flush);
      at += n;
      off += n;
      len -= n;
    }
  }

  copy_from(paddr: number, dst: Uint8Array, off: number, len: number): void {
    const r = this.#region(paddr, len);
    let at = paddr - r.start;
    while (len > 0) {
      const i = Math.floor(at / CHUNK_SIZE);
      const o = at - i * CHUNK_SIZE;
      const n = len < CHUNK_SIZE - o ? len : CHUNK_SIZE - o;
      if (n < SHORT_COPY) {
        const c = r.media.rd[i]!;
        for (let k = 0; k < n; k++) dst[off + k] = c[o + k]!;
      } else {
        const { rd_buffer, rd_offset } = r.media;
        set.call(dst, new Uint8Array(rd_buffer[i]!, rd_offset[i]! + o, n), off);
      }
      at += n;
      off += n;
      len -= n;
    }
  }

  copy(dst_paddr: number, src_paddr: number, len: number): void {
    const r = this.#region(src_paddr, len);
    let at = src_paddr - r.start;
    while (len > 0) {
      const i = Math.floor(at / CHUNK_SIZE);
      const o = at - i * CHUNK_SIZE;
      const n = len < CHUNK_SIZE - o ? len : CHUNK_SIZE - o;
      // The view is taken before the store; a store that makes this very chunk private leaves the
      // old bytes in place, and overlapping sets behave as memmove.
      this.copy_to(dst_paddr, r.media.rd[i]!.subarray(o, o + n), 0, n);
      at += n;
      dst_paddr += n;
      len -= n;
    }
  }

  zero(paddr: number, len: number): void {
    const r = this.#region(paddr, len);
    let at = paddr - r.start;
    while (len > 0) {
      const i = Math.floor(at / CHUNK_SIZE);
      const o = at - i * CHUNK_SIZE;
      const n = len < CHUNK_SIZE - o ? len : CHUNK_SIZE - o;
      if (r.hooked) this.#before(r, i, o, n);
      if (r.media.rd[i] !== r.media.zeros) {
        (r.media.wr[i] ?? r.media.privatize(i)).fill(0, o, o + n);
      }
      if (r.hooked) r.persist?.stored(at, n, false);
      at += n;
      len -= n;
    }
  }

  clwb(paddr: number, len: number): void {
    const r = this.#region(paddr, len);
    if (r.hooked) r.persist?.clwb(paddr - r.start, len);
  }

  sfence(): void {
    for (const r of this.regions) if (r.hooked) r.persist?.sfence();
  }

  is_zero(paddr: number, len: number): boolean {
    const r = this.#region(paddr, len);
    let at = paddr - r.start;
    while (len > 0) {
      const i = Math.floor(at / CHUNK_SIZE);
      const o = at - i * CHUNK_SIZE;
      const n = len < CHUNK_SIZE - o ? len : CHUNK_SIZE - o;
      const c = r.media.rd[i]!;
      if (c !== r.media.zeros && !all_zero(c, o, n)) return false;
      at += n;
      len -= n;
    }
    return true;
  }

  #before(r: region, index: number, o: number, n: number): void {
    r.media.log_store(index, o, n);
    r.persist?.will_store(index * CHUNK_SIZE + o, n);
  }
}

function all_zero(c: Uint8Array, o: number, n: number): boolean {
  let at = o;
  const end = o + n;
  while (at < end && (c.byteOffset + at) % 4 !== 0) if (c[at++] !== 0) return false;
  const words = new Uint32Array(c.buffer, c.byteOffset + at, (end - at) >>> 2);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  for (at += words.length * 4; at < end; at++) if (c[at] !== 0) return false;
  return true;
}

/** Gives the kernel its memory: one DRAM region at address 0. `dram_bytes` default 1 GiB. */
export function init_phys(kernel: Kernel, opts: { dram_bytes?: number } = {}): phys_memory {
  const phys = new physical_memory(kernel.PAGE_SHIFT);
  phys.add_region({ name: "dram", kind: "dram", size: opts.dram_bytes ?? GIB });
  kernel.phys = phys;
  return phys;
}

/** Physical memory without a Kernel, for tools and tests. */
export function new_phys(page_shift = 12): phys_memory {
  return new physical_memory(page_shift);
}

function region_class(r: phys_region): region {
  return r as region;
}

/** Frames of DRAM in use; for leak checks. */
export function nr_allocated_pages(kernel: Kernel): number {
  return (kernel.phys as physical_memory).nr_allocated;
}

// ---- media: what a power cut leaves

/** The persistent regions of every kernel of a Machine, by kernel and name. */
export interface media_snapshot_t {
  readonly regions: readonly {
    readonly kernel: number;
    readonly name: string;
    readonly size: number;
    readonly domain: "adr" | "eadr" | "none";
    readonly image: media_image;
  }[];
}

export interface snapshot_options {
  /** As a power cut leaves it: lines known to be not durable get their durable contents. */
  lose?: boolean;
  /**
   * With `lose`: true for a line (byte offset in the region) that made it to the media all the
   * same, as it is now. So every subset of volatile_lines() is a state that a power cut may leave.
   */
  keep?: (r: phys_region, off: number) => boolean;
}

/** Bytes of every pmem region, copy-on-write: costs an array a region. */
export function media_snapshot(machine: Machine, opts: snapshot_options = {}): media_snapshot_t {
  const regions: media_snapshot_t["regions"][number][] = [];
  machine.kernels.forEach((k, kernel) => {
    for (const r of k.phys.regions) {
      if (r.kind !== "pmem") continue;
      const image = snapshot_region(r, opts);
      regions.push({ kernel, name: r.name, size: r.size, domain: r.domain, image });
    }
  });
  return { regions };
}

/** One region as an image; see media_snapshot. */
export function snapshot_region(r: phys_region, opts: snapshot_options = {}): media_image {
  const rr = region_class(r);
  const image = rr.media.snapshot();
  if (!opts.lose || rr.persist === null) return image;
  const copy = new media(image.size, image);
  rr.persist.each_volatile((off, durable) => {
    if (opts.keep?.(r, off)) return;
    const i = Math.floor(off / CHUNK_SIZE);
    (copy.wr[i] ?? copy.privatize(i)).set(durable, off - i * CHUNK_SIZE);
  });
  return copy.snapshot();
}

/** Plain bytes of a region, for writing an image file. */
export function region_bytes(r: phys_region): Uint8Array {
  const out = new Uint8Array(r.size);
  const rr = region_class(r);
  rr.media.rd.forEach((c, i) => {
    const at = i * CHUNK_SIZE;
    if (c !== rr.media.zeros) out.set(c.subarray(0, Math.min(CHUNK_SIZE, r.size - at)), at);
  });
  return out;
}

/** Boot from a snapshot: adds its regions for kernel number `index` and returns them. */
export function attach_snapshot(
  phys: phys_memory,
  snap: media_snapshot_t,
  index: number,
): phys_region[] {
  const mine = snap.regions.filter((r) => r.kernel === index);
  return mine.map(({ name, size, domain, image }) =>
    phys.add_region({ name, kind: "pmem", size, domain, image }),
  );
}

// ---- undo and tracking, per region

export function begin_undo(r: phys_region): void {
  region_class(r).media.begin_undo();
  region_class(r).hooked = true;
}

/** Back to begin_undo(); logging goes on. Returns how many lines were put back. */
export function rollback(r: phys_region): number {
  region_class(r).persist?.forget();
  return region_class(r).media.rollback();
}

export function end_undo(r: phys_region): void {
  const rr = region_class(r);
  rr.media.end_undo();
  rr.hooked = rr.persist !== null;
}

/** Starts to follow what is durable; every event goes to `sink` with addresses in the region. */
export function track_persistence(r: phys_region, sink: ((e: pmem_event) => void) | null): void {
  const rr = region_class(r);
  assert(rr.kind === "pmem", "tracking is for pmem");
  rr.persist = new persistence(rr.media, rr.domain, sink);
  rr.hooked = true;
}

export function untrack_persistence(r: phys_region): void {
  const rr = region_class(r);
  rr.persist = null;
  rr.hooked = rr.media.undo_active;
}

/** Lines that a power cut now could lose. */
export function nr_volatile_lines(r: phys_region): number {
  return region_class(r).persist?.nr_volatile ?? 0;
}

/** Their byte offsets in the region, lowest first. */
export function volatile_lines(r: phys_region): number[] {
  const out: number[] = [];
  region_class(r).persist?.each_volatile((off) => out.push(off));
  return out.sort((a, b) => a - b);
}

/** Where the 64-byte line at `off` of a region stands; null while persistence is not tracked. */
export function line_state(r: phys_region, off: number): "dirty" | "pending" | "durable" | null {
  return region_class(r).persist?.line_at(off) ?? null;
}

/** The host's flush of a region whose domain is "none" (virtio-pmem): all becomes durable. */
export function host_flush(r: phys_region): void {
  region_class(r).persist?.host_flush();
}

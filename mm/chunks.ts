/**
 * mm/chunks.ts - the bytes behind physical memory: sparse, copy-on-write, with a way back.
 * Linux: none (this is the hardware's part).
 *
 * A `media` is an array of chunks. A chunk never written is one shared chunk of zeros; a chunk
 * that came with an image or a snapshot is shared and copied before its first store. Chunks
 * of a snapshot are frozen by agreement: nobody stores to them again, so a snapshot costs one
 * array.
 *
 * `begin_undo()` starts a log of the old contents of each 64-byte line stored to; `rollback()` puts
 * them back, so that the price of going back is what was changed, not what there is.
 *
 * Chunks are small because a fresh filesystem is a few kilobytes here and there: with chunks of
 * 2 MiB, half of the time of a short scenario went into zeroing memory that nobody looked at. Loads
 * and stores of a page cost the same with both.
 *
 * Only mm/phys.ts uses this file.
 */
import { assert } from "../kernel/assert.ts";

export const CHUNK_SIZE = 1 << 18;
export const LINE_SIZE = 64;
/** Chunks are cut from larger pieces: fewer for the collector to look after. */
const SLAB_SIZE = 1 << 20;
const NO_SLAB = new ArrayBuffer(0);
const LINES_PER_CHUNK = CHUNK_SIZE / LINE_SIZE;
/** What was never written reads as this. Never stored to. */
const ZEROS = new Uint8Array(CHUNK_SIZE);

/** Bytes of a device that several Machines may share; never stored to. `null`: a chunk of zeros. */
export interface media_image {
  readonly is_media_image: true;
  /** Bytes. */
  readonly size: number;
  readonly chunks: readonly (Uint8Array | null)[];
}

/** Splits bytes into chunks without copying them (except the last, when it is not a whole one). */
export function image_of_bytes(bytes: Uint8Array): media_image {
  const chunks: (Uint8Array | null)[] = [];
  for (let at = 0; at < bytes.length; at += CHUNK_SIZE) {
    const part = bytes.subarray(at, at + CHUNK_SIZE);
    if (part.length === CHUNK_SIZE) chunks.push(part);
    else {
      const last = new Uint8Array(CHUNK_SIZE);
      last.set(part);
      chunks.push(last);
    }
  }
  return { is_media_image: true, size: bytes.length, chunks };
}

export function is_media_image(x: unknown): x is media_image {
  return typeof x === "object" && x !== null && "is_media_image" in x;
}

interface undo_line {
  readonly chunk: number;
  /** Line number in the chunk. */
  readonly line: number;
  readonly old: Uint8Array;
}

/** Old contents since begin_undo(). */
interface undo_log {
  readonly lines: undo_line[];
  /** One bit a line, per chunk stored to. */
  readonly seen: (Uint32Array | undefined)[];
  /** What rd/wr held before a chunk was made private. */
  readonly chunks: { index: number; rd: Uint8Array }[];
}

export class media {
  readonly size: number;
  /** For loads: always there. */
  readonly rd: Uint8Array[];
  /**
   * rd[i].buffer and .byteOffset, which take long to ask for: with them a view on a part of a chunk
   * is made in half of the time.
   */
  readonly rd_buffer: ArrayBufferLike[];
  readonly rd_offset: number[];
  /** For stores: undefined when the chunk is shared or was never written. */
  readonly wr: (Uint8Array | undefined)[];
  /** The chunk of zeros, for comparing with. Never stored to. */
  readonly zeros: Uint8Array;
  #undo: undo_log | null = null;
  /** Where the next chunks come from. */
  #slab: ArrayBuffer = NO_SLAB;
  #slab_used = SLAB_SIZE;

  constructor(size: number, image?: media_image) {
    this.size = size;
    this.zeros = ZEROS;
    const n = Math.ceil(size / CHUNK_SIZE);
    this.rd = new Array<Uint8Array>(n).fill(this.zeros);
    this.rd_buffer = new Array<ArrayBufferLike>(n).fill(this.zeros.buffer);
    this.rd_offset = new Array<number>(n).fill(0);
    this.wr = new Array<Uint8Array | undefined>(n).fill(undefined);
    if (!image) return;
    assert(image.size <= size, "image larger than its region");
    for (let i = 0; i < image.chunks.length; i++) this.#set_rd(i, image.chunks[i] ?? this.zeros);
  }

  #set_rd(index: number, chunk: Uint8Array): void {
    this.rd[index] = chunk;
    this.rd_buffer[index] = chunk.buffer;
    this.rd_offset[index] = chunk.byteOffset;
  }

  /** A chunk of zeros of its own. */
  #fresh(): Uint8Array {
    if (this.#slab_used === SLAB_SIZE) {
      this.#slab = new ArrayBuffer(SLAB_SIZE);
      this.#slab_used = 0;
    }
    const c = new Uint8Array(this.#slab, this.#slab_used, CHUNK_SIZE);
    this.#slab_used += CHUNK_SIZE;
    return c;
  }

  /** Makes chunk `index` storable and returns it. */
  privatize(index: number): Uint8Array {
    const old = this.rd[index]!;
    this.#undo?.chunks.push({ index, rd: old });
    const fresh = this.#fresh();
    if (old !== this.zeros) fresh.set(old);
    this.#set_rd(index, fresh);
    this.wr[index] = fresh;
    return fresh;
  }

  /** The bytes as they are now; the chunks become shared. */
  snapshot(): media_image {
    this.wr.fill(undefined);
    const chunks = this.rd.map((c) => (c === this.zeros ? null : c));
    return { is_media_image: true, size: this.size, chunks };
  }

  get undo_active(): boolean {
    return this.#undo !== null;
  }

  begin_undo(): void {
    assert(this.#undo === null, "undo log already open");
    this.#undo = { lines: [], seen: [], chunks: [] };
  }

  /** Before a store: keeps the lines it will touch. The range lies in one chunk. */
  log_store(index: number, off: number, len: number): void {
    const u = this.#undo;
    if (u === null) return;
    // A chunk that will be, or was, made private since the mark is restored as a whole.
    if (this.wr[index] === undefined || u.chunks.some((c) => c.index === index)) return;
    u.seen[index] ??= new Uint32Array(LINES_PER_CHUNK / 32);
    const seen = u.seen[index]!;
    const chunk = this.rd[index]!;
    const last = (off + len - 1) >>> 6;
    for (let line = off >>> 6; line <= last; line++) {
      const word = line >>> 5;
      const bit = 1 << (line & 31);
      if (seen[word]! & bit) continue;
      seen[word]! |= bit;
      u.lines.push({
        chunk: index,
        line,
        old: chunk.slice(line * LINE_SIZE, (line + 1) * LINE_SIZE),
      });
    }
  }

  /** Puts back what begin_undo() saw; the log stays open, empty. Returns lines restored. */
  rollback(): number {
    const u = this.#undo;
    assert(u !== null, "no undo log");
    for (const l of u.lines) this.rd[l.chunk]!.set(l.old, l.line * LINE_SIZE);
    for (const c of u.chunks) {
      this.#set_rd(c.index, c.rd);
      this.wr[c.index] = undefined;
    }
    const n = u.lines.length;
    this.#undo = { lines: [], seen: [], chunks: [] };
    return n;
  }

  end_undo(): void {
    this.#undo = null;
  }
}

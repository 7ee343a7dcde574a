/**
 * kernel/include/iomap.ts - the block map as the filesystem tells it. Linux: include/linux/iomap.h.
 */
import type { block_device } from "./blkdev.ts";
import type { dax_device } from "./dax.ts";
import type { Sometime, inode } from "./fs.ts";

export const IOMAP_HOLE = 0;
export const IOMAP_DELALLOC = 1;
export const IOMAP_MAPPED = 2;
export const IOMAP_UNWRITTEN = 3;
export const IOMAP_INLINE = 4;

export const IOMAP_F_NEW = 1 << 0;
export const IOMAP_F_DIRTY = 1 << 1;
export const IOMAP_F_SHARED = 1 << 2;
export const IOMAP_F_MERGED = 1 << 3;
export const IOMAP_F_BUFFER_HEAD = 1 << 4;
export const IOMAP_F_ZONE_APPEND = 1 << 5;
export const IOMAP_F_SIZE_CHANGED = 1 << 8;
export const IOMAP_F_STALE = 1 << 9;

export const IOMAP_WRITE = 1 << 0;
export const IOMAP_ZERO = 1 << 1;
export const IOMAP_REPORT = 1 << 2;
export const IOMAP_FAULT = 1 << 3;
export const IOMAP_DIRECT = 1 << 4;
export const IOMAP_NOWAIT = 1 << 5;
export const IOMAP_OVERWRITE_ONLY = 1 << 6;
export const IOMAP_UNSHARE = 1 << 7;
export const IOMAP_DAX = 1 << 8;

export const IOMAP_NULL_ADDR = -1;

export interface iomap {
  /** Byte address on bdev / dax_dev, or IOMAP_NULL_ADDR. */
  addr: number;
  offset: number; // bytes in the file
  length: number; // bytes
  type: number;
  flags: number;
  bdev: block_device | null;
  dax_dev: dax_device | null;
  inline_data: Uint8Array | null;
  private: unknown;
}

/** Sync-or-promise: a block map already in memory must answer without a promise. */
export interface iomap_ops {
  iomap_begin(
    inode: inode,
    pos: number,
    length: number,
    flags: number,
    iomap: iomap,
    srcmap: iomap,
  ): Sometime<void>;
  iomap_end?(
    inode: inode,
    pos: number,
    length: number,
    written: number,
    flags: number,
    iomap: iomap,
  ): Sometime<void>;
}

/**
 * fs/iomap/iter.ts - walk a byte range of a file along the filesystem's block map.
 * Linux: fs/iomap/iter.c, include/linux/iomap.h (iomap_iter). Differs: an actor reports an error in
 * `error` instead of a negative `processed`, and iomap_iter() throws it.
 *
 *   const iter = iomap_iter_get(inode, pos, len, flags);
 *   for (let more = iomap_iter(iter, ops); ...) iter.processed = actor(iter);
 *   iomap_iter_put(iter);
 *
 * Each step ends the previous mapping (iomap_end with what was processed), then asks for the next.
 * Leaving `processed` 0, or setting `error`, ends the walk after iomap_end. Nothing is allocated
 * while the filesystem answers at once: iterators are pooled per kernel, and a promise appears only
 * where the filesystem made one (closures over it are in functions of their own: a function that
 * has one allocates its variables at every call).
 */
import type { Errno } from "../../kernel/include/errno.ts";
import { EIO } from "../../kernel/include/errno.ts";
import type { Sometime, inode } from "../../kernel/include/fs.ts";
import { IOMAP_F_STALE, IOMAP_HOLE, IOMAP_NULL_ADDR } from "../../kernel/include/iomap.ts";
import type { iomap, iomap_ops } from "../../kernel/include/iomap.ts";
import { assert } from "../../kernel/assert.ts";
import { fs_state } from "../fs_state.ts";

export interface iomap_iter {
  inode: inode;
  /** Bytes: where the walk is and how much is left. */
  pos: number;
  len: number;
  /** What the actor did of the current mapping, bytes. */
  processed: number;
  error: Errno | null;
  flags: number; // IOMAP_*
  readonly iomap: iomap;
  /** Where data comes from when it is not where it goes to (copy on write); type HOLE: no such. */
  readonly srcmap: iomap;
}

function new_iomap(): iomap {
  return {
    addr: IOMAP_NULL_ADDR,
    offset: 0,
    length: 0,
    type: IOMAP_HOLE,
    flags: 0,
    bdev: null,
    dax_dev: null,
    inline_data: null,
    private: null,
  };
}

function clear_iomap(m: iomap): void {
  m.addr = IOMAP_NULL_ADDR;
  m.offset = 0;
  m.length = 0;
  m.type = IOMAP_HOLE;
  m.flags = 0;
  m.bdev = null;
  m.dax_dev = null;
  m.inline_data = null;
  m.private = null;
}

/** An iterator over [pos, pos + len) from the kernel's pool. Give it back with iomap_iter_put(). */
export function iomap_iter_get(inode: inode, pos: number, len: number, flags: number): iomap_iter {
  const pool = fs_state(inode.kernel).iomap_iters;
  const iter = pool.pop() ?? {
    inode,
    pos: 0,
    len: 0,
    processed: 0,
    error: null,
    flags: 0,
    iomap: new_iomap(),
    srcmap: new_iomap(),
  };
  iter.inode = inode;
  iter.pos = pos;
  iter.len = len;
  iter.processed = 0;
  iter.error = null;
  iter.flags = flags;
  return iter;
}

export function iomap_iter_put(iter: iomap_iter): void {
  clear_iomap(iter.iomap);
  // most filesystems never touch it
  if (iter.srcmap.length !== 0) clear_iomap(iter.srcmap);
  fs_state(iter.inode.kernel).iomap_iters.push(iter);
}

/** Bytes of the current mapping from pos on, within the range walked. */
export function iomap_length(iter: iomap_iter): number {
  const end = iter.iomap.offset + iter.iomap.length;
  return Math.min(iter.len, end - iter.pos);
}

/** Where data is read from. */
export function iomap_iter_srcmap(iter: iomap_iter): iomap {
  return iter.srcmap.type !== IOMAP_HOLE ? iter.srcmap : iter.iomap;
}

/** The device byte of file position `pos`. */
export function iomap_addr(m: iomap, pos: number): number {
  return m.addr + pos - m.offset;
}

/** Takes account of what was processed. False: the walk is over. */
function iomap_iter_advance(iter: iomap_iter): boolean {
  const done = iter.processed;
  if (iter.error !== null) throw iter.error;
  if (done === 0 && (iter.iomap.flags & IOMAP_F_STALE) === 0) return false;
  if (done > iomap_length(iter)) throw EIO;
  iter.pos += done;
  iter.len -= done;
  if (iter.len === 0) return false;
  iter.processed = 0;
  clear_iomap(iter.iomap);
  clear_iomap(iter.srcmap);
  return true;
}

function check_mapping(iter: iomap_iter): true {
  const m = iter.iomap;
  const covers = m.offset <= iter.pos && m.offset + m.length > iter.pos;
  if (!covers || (m.flags & IOMAP_F_STALE) !== 0) misses_the_position();
  return true;
}

const misses_the_position = (): void =>
  assert(false, "iomap_begin: the mapping misses the position");

const check_later = (iter: iomap_iter, p: Promise<void>): Promise<boolean> =>
  p.then(() => check_mapping(iter));

/** The maps are clean: a new iterator's are as they were put back. */
function iomap_iter_begin(iter: iomap_iter, ops: iomap_ops): Sometime<boolean> {
  const p = ops.iomap_begin(iter.inode, iter.pos, iter.len, iter.flags, iter.iomap, iter.srcmap);
  return p === undefined ? check_mapping(iter) : check_later(iter, p);
}

/** An error of iomap_end counts only when nothing was done and nothing else went wrong. */
function end_error_hidden(iter: iomap_iter): boolean {
  return iter.processed > 0 || iter.error !== null;
}

async function iomap_iter_after_end(
  iter: iomap_iter,
  ops: iomap_ops,
  ending: Promise<void>,
): Promise<boolean> {
  try {
    await ending;
  } catch (err) {
    if (!end_error_hidden(iter)) throw err;
  }
  return iomap_iter_advance(iter) ? iomap_iter_begin(iter, ops) : false;
}

/**
 * Goes to the next mapping. True: there is one, process it; false: done. Throws the error of the
 * actor, of iomap_begin or of iomap_end; the mapping has been ended then, too.
 */
export function iomap_iter(iter: iomap_iter, ops: iomap_ops): Sometime<boolean> {
  if (iter.iomap.length === 0) return iomap_iter_begin(iter, ops);
  if (ops.iomap_end !== undefined) {
    const p = iomap_iter_end(iter, ops.iomap_end);
    if (p) return iomap_iter_after_end(iter, ops, p);
  }
  return iomap_iter_advance(iter) ? iomap_iter_begin(iter, ops) : false;
}

function iomap_iter_end(
  iter: iomap_iter,
  iomap_end: NonNullable<iomap_ops["iomap_end"]>,
): Sometime<void> {
  const done = iter.error === null ? iter.processed : 0;
  try {
    return iomap_end(iter.inode, iter.pos, iomap_length(iter), done, iter.flags, iter.iomap);
  } catch (err) {
    if (!end_error_hidden(iter)) throw err;
    return undefined;
  }
}

/**
 * Runs `actor` over the whole range, for callers on cold paths. It returns the bytes it processed
 * of the current mapping (0 ends the walk). Returns the position where the walk ended.
 */
export async function iomap_walk(
  inode: inode,
  pos: number,
  len: number,
  flags: number,
  ops: iomap_ops,
  actor: (iter: iomap_iter) => Sometime<number>,
): Promise<number> {
  const iter = iomap_iter_get(inode, pos, len, flags);
  try {
    while (await iomap_iter(iter, ops)) {
      try {
        iter.processed = await actor(iter);
      } catch (err) {
        // Not thrown here: iomap_end must hear of it first.
        iter.error = err as Errno;
      }
    }
    return iter.pos;
  } finally {
    iomap_iter_put(iter);
  }
}

/**
 * mm/iov_iter.ts - the two kinds of iterator a read or write moves bytes through. Linux:
 * lib/iov_iter.c.
 *
 * `bytes`: arrays outside the Machine, which never fault: every copy is one chunk copy per segment.
 * `user`: addresses of the running task's mm; a copy may fault and sleep, and is short when the
 * fault fails. `_atomic` copies what is present without sleeping.
 * Position: segment number and offset in it; advance and revert walk over segment borders.
 */
import { assert } from "../kernel/assert.ts";
import type { Sometime } from "../kernel/include/fs.ts";
import type { mm_struct } from "../kernel/include/mm_types.ts";
import type { phys_memory } from "../kernel/include/phys.ts";
import type { iov_iter } from "../kernel/include/uio.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { machine_check, readable_bytes } from "./memory-failure/media.ts";
import { then } from "./sometime.ts";
import { copy_user, user_fault, user_paddr } from "./uaccess.ts";

/** Position in a list of segments; what both kinds share. */
abstract class iter_base {
  data_source: boolean;
  count: number;
  protected seg = 0;
  protected seg_off = 0;
  protected readonly kernel: Kernel;
  protected readonly phys: phys_memory;

  constructor(kernel: Kernel, source: boolean, count: number) {
    this.kernel = kernel;
    this.phys = kernel.phys;
    this.data_source = source;
    this.count = count;
  }

  protected abstract seg_len(i: number): number;
  protected abstract seg_addr(i: number): number;

  truncate(n: number): void {
    if (n < this.count) this.count = n;
  }

  reexpand(n: number): void {
    this.count = n;
  }

  advance(n: number): void {
    if (n > this.count) n = this.count;
    this.count -= n;
    this.seg_off += n;
    while (this.seg_off > 0 && this.seg_off >= this.seg_len(this.seg)) {
      if (this.seg_off === this.seg_len(this.seg) && this.count === 0) break;
      this.seg_off -= this.seg_len(this.seg++);
    }
  }

  revert(n: number): void {
    this.count += n;
    while (n > this.seg_off) {
      n -= this.seg_off;
      assert(this.seg > 0, "iov_iter reverted beyond its start");
      this.seg_off = this.seg_len(--this.seg);
    }
    this.seg_off -= n;
  }

  /** Addresses and lengths of what is left, or-ed: its low bits tell how it is aligned. */
  alignment(): number {
    let bits = 0;
    let skip = this.seg_off;
    for (let i = this.seg, left = this.count; left > 0; i++) {
      const len = Math.min(this.seg_len(i) - skip, left);
      // Only low bits matter, so reducing modulo 2^30 first loses nothing.
      if (len > 0) bits |= ((this.seg_addr(i) + skip) % 2 ** 30) | (len % 2 ** 30);
      left -= len;
      skip = 0;
    }
    return bits;
  }

  /** Steps over used-up and empty segments; bytes that can be moved in one piece. */
  protected piece(len: number): number {
    if (len > this.count) len = this.count;
    if (len === 0) return 0;
    let left = this.seg_len(this.seg) - this.seg_off;
    if (left === 0) left = this.next_seg();
    return len < left ? len : left;
  }

  /** Goes to the next segment that is not empty: its length. */
  private next_seg(): number {
    let left: number;
    do {
      this.seg++;
      left = this.seg_len(this.seg);
    } while (left === 0);
    this.seg_off = 0;
    return left;
  }

  protected step(n: number): void {
    this.seg_off += n;
    this.count -= n;
  }
}

class bytes_iter extends iter_base implements iov_iter {
  readonly kind = "bytes";
  readonly #bufs: Uint8Array[];
  readonly #skew: number;

  constructor(kernel: Kernel, source: boolean, bufs: Uint8Array[], skew: number) {
    let count = 0;
    for (const b of bufs) count += b.length;
    super(kernel, source, count);
    this.#bufs = bufs;
    this.#skew = skew;
  }

  reset(source: boolean, buf: Uint8Array): void {
    this.data_source = source;
    this.count = buf.length;
    this.seg = 0;
    this.seg_off = 0;
    this.#bufs[0] = buf;
  }

  protected override seg_len(i: number): number {
    return this.#bufs[i]!.length;
  }

  /** Arrays lie nowhere in memory: what the caller says of their address counts. */
  protected override seg_addr(): number {
    return this.#skew;
  }

  copy_to_iter(src: Uint8Array, off: number, len: number): number {
    let done = 0;
    for (let n = this.piece(len); n > 0; n = this.piece(len - done)) {
      const buf = this.#bufs[this.seg]!;
      const from = off + done;
      buf.set(from === 0 && n === src.length ? src : src.subarray(from, from + n), this.seg_off);
      this.step(n);
      done += n;
    }
    return done;
  }

  copy_from_iter(dst: Uint8Array, off: number, len: number): number {
    let done = 0;
    for (let n = this.piece(len); n > 0; n = this.piece(len - done)) {
      const buf = this.#bufs[this.seg]!;
      const o = this.seg_off;
      dst.set(o === 0 && n === buf.length ? buf : buf.subarray(o, o + n), off + done);
      this.step(n);
      done += n;
    }
    return done;
  }

  copy_phys_to_iter(paddr: number, len: number): number {
    let done = 0;
    while (done < len) {
      const n = this.piece(len - done);
      if (n === 0) break;
      this.phys.copy_from(paddr + done, this.#bufs[this.seg]!, this.seg_off, n);
      this.step(n);
      done += n;
    }
    return done;
  }

  copy_iter_to_phys(paddr: number, len: number, flush: boolean): number {
    let done = 0;
    while (done < len) {
      const n = this.piece(len - done);
      if (n === 0) break;
      const buf = this.#bufs[this.seg]!;
      if (flush) this.phys.memcpy_flushcache(paddr + done, buf, this.seg_off, n);
      else this.phys.copy_to(paddr + done, buf, this.seg_off, n);
      this.step(n);
      done += n;
    }
    return done;
  }

  zero_iter(len: number): number {
    let done = 0;
    for (let n = this.piece(len); n > 0; n = this.piece(len - done)) {
      this.#bufs[this.seg]!.fill(0, this.seg_off, this.seg_off + n);
      this.step(n);
      done += n;
    }
    return done;
  }

  copy_from_iter_atomic(dst: Uint8Array, off: number, len: number): number {
    return this.copy_from_iter(dst, off, len);
  }

  copy_to_iter_atomic(src: Uint8Array, off: number, len: number): number {
    return this.copy_to_iter(src, off, len);
  }

  fault_in_readable(): number {
    return 0;
  }

  fault_in_writeable(): number {
    return 0;
  }
}

export interface user_segment {
  addr: number;
  /** Bytes. */
  len: number;
}

/** Bytes of zeros copied at a time. */
const ZEROS = 65536;

class user_iter extends iter_base implements iov_iter {
  readonly kind = "user";
  readonly #segs: readonly user_segment[];
  readonly #task: task_struct;
  readonly #mm: mm_struct;

  constructor(kernel: Kernel, source: boolean, segs: readonly user_segment[]) {
    let count = 0;
    for (const s of segs) count += s.len;
    super(kernel, source, count);
    this.#segs = segs;
    this.#task = kernel.current;
    assert(this.#task.mm, "a user iterator needs a task with an mm");
    this.#mm = this.#task.mm;
  }

  protected override seg_len(i: number): number {
    return this.#segs[i]!.len;
  }

  protected override seg_addr(i: number): number {
    return this.#segs[i]!.addr;
  }

  #addr(): number {
    return this.#segs[this.seg]!.addr + this.seg_off;
  }

  /**
   * Moves up to `len` bytes piece by piece; `move` copies one piece and returns how much it did.
   */
  #each(
    len: number,
    done: number,
    move: (done: number, n: number) => Sometime<number>,
  ): Sometime<number> {
    for (let n = this.piece(len - done); n > 0; n = this.piece(len - done)) {
      const want = n;
      const r = move(done, n);
      if (r instanceof Promise) {
        return r.then((got) => {
          this.step(got);
          return got < want ? done + got : this.#each(len, done + got, move);
        });
      }
      this.step(r);
      done += r;
      if (r < want) break;
    }
    return done;
  }

  copy_to_iter(src: Uint8Array, off: number, len: number): Sometime<number> {
    return this.#each(len, 0, (done, n) =>
      copy_user(this.#task, this.#mm, this.#addr(), src, off + done, n, true, false),
    );
  }

  copy_from_iter(dst: Uint8Array, off: number, len: number): Sometime<number> {
    return this.#each(len, 0, (done, n) =>
      copy_user(this.#task, this.#mm, this.#addr(), dst, off + done, n, false, false),
    );
  }

  /**
   * Straight between the frames, page by page. `twice`: the copy that bypasses the cache goes for
   * the rest byte by byte after a bad fault, and so meets that fault again.
   */
  #frame_piece(
    n: number,
    write: boolean,
    twice: boolean,
    copy: (paddr: number, n: number) => void,
  ): Sometime<number> {
    const { PAGE_SIZE } = this.kernel;
    const start = this.#addr();
    let done = 0;
    while (done < n) {
      const at = start + done;
      const left = PAGE_SIZE - (at % PAGE_SIZE);
      const m = n - done < left ? n - done : left;
      const paddr = user_paddr(this.#mm, at, write);
      if (paddr < 0) {
        if (this.#task.pagefault_disabled > 0) return done;
        const before = done;
        const fault = () => user_fault(this.#mm, at, write, false);
        const again = then(fault(), (sig) => (sig !== null && twice ? fault() : sig));
        return then(again, (sig) => {
          if (sig !== null) return before;
          // Steps on by itself: the pieces already copied are behind us.
          this.step(before);
          const rest = this.#frame_piece(n - before, write, twice, (p, k) => copy(p, k));
          return then(rest, (got) => {
            this.step(-before);
            return before + got;
          });
        });
      }
      const good = write ? m : readable_bytes(this.kernel, paddr, m);
      copy(paddr, good);
      done += good;
      if (good < m) {
        if (this.#task.pagefault_disabled > 0) return done;
        const met = machine_check(this.#task, this.#mm, at + good, paddr + good, false);
        return met.then(() => done);
      }
    }
    return done;
  }

  copy_phys_to_iter(paddr: number, len: number): Sometime<number> {
    let at = paddr;
    return this.#each(len, 0, (_done, n) =>
      this.#frame_piece(n, true, false, (user, m) => {
        this.phys.copy(user, at, m);
        at += m;
      }),
    );
  }

  copy_iter_to_phys(paddr: number, len: number, flush: boolean): Sometime<number> {
    let at = paddr;
    const buf = flush ? new Uint8Array(this.kernel.PAGE_SIZE) : null;
    return this.#each(len, 0, (_done, n) =>
      this.#frame_piece(n, false, flush, (user, m) => {
        if (buf === null) this.phys.copy(at, user, m);
        else {
          this.phys.copy_from(user, buf, 0, m);
          this.phys.memcpy_flushcache(at, buf, 0, m);
        }
        at += m;
      }),
    );
  }

  zero_iter(len: number): Sometime<number> {
    const n = Math.min(len, ZEROS);
    return then(this.copy_to_iter(new Uint8Array(n), 0, n), (got) => {
      if (got < n || n === len) return got;
      return then(this.zero_iter(len - n), (rest) => got + rest);
    });
  }

  #atomic(buf: Uint8Array, off: number, len: number, write: boolean): number {
    this.#task.pagefault_disabled++;
    const done = write ? this.copy_to_iter(buf, off, len) : this.copy_from_iter(buf, off, len);
    this.#task.pagefault_disabled--;
    assert(typeof done === "number", "an atomic copy slept");
    return done;
  }

  copy_from_iter_atomic(dst: Uint8Array, off: number, len: number): number {
    return this.#atomic(dst, off, len, false);
  }

  copy_to_iter_atomic(src: Uint8Array, off: number, len: number): number {
    return this.#atomic(src, off, len, true);
  }

  /** Touches a byte of each page. */
  #fault_in(len: number, write: boolean): Sometime<number> {
    const { PAGE_SIZE } = this.kernel;
    let left = Math.min(len, this.count);
    let seg = this.seg;
    let off = this.seg_off;
    const go = (): Sometime<number> => {
      while (left > 0) {
        const s = this.#segs[seg]!;
        if (off >= s.len) {
          seg++;
          off = 0;
          continue;
        }
        const at = s.addr + off;
        if (user_paddr(this.#mm, at, write) < 0) {
          return then(user_fault(this.#mm, at, write, false), (sig) =>
            sig === null ? go() : left,
          );
        }
        const n = Math.min(PAGE_SIZE - (at % PAGE_SIZE), s.len - off, left);
        const good = write ? n : this.#readable(at, n);
        if (good < n) {
          const paddr = user_paddr(this.#mm, at, false) + good;
          const met = machine_check(this.#task, this.#mm, at + good, paddr, false);
          return met.then(() => left - good);
        }
        left -= n;
        off += n;
      }
      return 0;
    };
    return go();
  }

  /** Bytes of a piece of a page, mapped, before the first bad line of the media. */
  #readable(at: number, n: number): number {
    return readable_bytes(this.kernel, user_paddr(this.#mm, at, false), n);
  }

  fault_in_readable(len: number): Sometime<number> {
    return this.#fault_in(len, false);
  }

  fault_in_writeable(len: number): Sometime<number> {
    return this.#fault_in(len, true);
  }
}

/**
 * Arrays as the memory of a read (`source` false) or write (true). `skew`: bytes by which the
 * memory they stand for is off page alignment, for O_DIRECT.
 */
export function new_iov_iter_bytes(
  kernel: Kernel,
  source: boolean,
  bufs: Uint8Array[],
  skew = 0,
): iov_iter {
  return new bytes_iter(kernel, source, bufs, skew);
}

const NO_BYTES = new Uint8Array(0);

/** An iterator over one array at a time, for a caller that makes one call after another. */
export class reused_bytes_iter {
  readonly #iter: bytes_iter;
  constructor(kernel: Kernel) {
    this.#iter = new bytes_iter(kernel, false, [NO_BYTES], 0);
  }
  /** Over `buf` from its start, until the next one is asked for. */
  over(buf: Uint8Array, source: boolean): iov_iter {
    this.#iter.reset(source, buf);
    return this.#iter;
  }
  /** The call is over: the array is the caller's alone again. */
  done(): void {
    this.#iter.reset(false, NO_BYTES);
  }
}

/** Pieces of the running task's memory. */
export function new_iov_iter_user(
  kernel: Kernel,
  source: boolean,
  segs: readonly user_segment[],
): iov_iter {
  return new user_iter(kernel, source, segs);
}

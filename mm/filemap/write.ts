/**
 * mm/filemap/write.ts - write(2) into the page cache. Linux: mm/filemap.c (generic_perform_write).
 *
 * For each page: the user's bytes are faulted in first, because between write_begin and write_end
 * the page is locked and a fault on a mapping of the same page would never end. The copy is atomic,
 * so it can be short (the bytes went away again): then the piece is tried once more.
 */
import { EFAULT } from "../../kernel/include/errno.ts";
import type { Sometime, kiocb } from "../../kernel/include/fs.ts";
import type { address_space, write_ctx } from "../../kernel/include/mm_types.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import { balance_dirty_pages_ratelimited } from "../page_dirty.ts";
import { note_access } from "../../kernel/sched/core.ts";
import { page_address } from "../page.ts";
import { then } from "../sometime.ts";

interface write_state {
  readonly iocb: kiocb;
  readonly mapping: address_space;
  readonly iter: iov_iter;
  readonly ctx: write_ctx;
  pos: number;
  written: number;
  /** Bytes of the piece after a short copy; 0 for as many as fit. */
  shorter: number;
}

/**
 * Bytes written at ki_pos (which it does not move); an error only when there are none. i_rwsem
 * held.
 */
export function generic_perform_write(iocb: kiocb, iter: iov_iter): Sometime<number> {
  return write_loop({
    iocb,
    mapping: iocb.ki_filp.f_mapping,
    iter,
    ctx: { page: null, fsdata: null },
    pos: iocb.ki_pos,
    written: 0,
    shorter: 0,
  });
}

function write_loop(st: write_state): Sometime<number> {
  const failed = (e: unknown): number => {
    if (st.written > 0) return st.written;
    throw e;
  };
  try {
    while (st.iter.count > 0) {
      const r = write_piece(st);
      if (r instanceof Promise) return r.then(() => write_loop(st)).catch(failed);
    }
  } catch (e) {
    return failed(e);
  }
  return st.written;
}

function write_piece(st: write_state): Sometime<void> {
  const { mapping, iter, pos } = st;
  const { PAGE_SIZE } = mapping.kernel;
  const offset = pos % PAGE_SIZE;
  const bytes = Math.min(PAGE_SIZE - offset, iter.count, st.shorter || PAGE_SIZE);
  return then(iter.fault_in_readable(bytes), (missing) => {
    if (missing === bytes) throw EFAULT;
    const { ctx, iocb } = st;
    ctx.page = null;
    ctx.fsdata = null;
    const { write_begin, write_end } = mapping.a_ops;
    return then(write_begin!(iocb.ki_filp, mapping, pos, bytes, ctx), () => {
      const view = page_address(ctx.page!);
      note_access(mapping.kernel, ctx.page!, true);
      const copied = iter.copy_from_iter_atomic(view, offset, bytes);
      const ended = write_end!(iocb.ki_filp, mapping, pos, bytes, copied, ctx);
      return then(ended, (status) => after_piece(st, copied, status));
    });
  });
}

function after_piece(st: write_state, copied: number, status: number): Sometime<void> {
  if (status < copied) st.iter.revert(copied - status);
  if (status === 0) {
    // Nothing was taken: try again with what could be copied, if that was anything.
    st.shorter = copied;
    return undefined;
  }
  st.shorter = 0;
  st.pos += status;
  st.written += status;
  return balance_dirty_pages_ratelimited(st.mapping);
}

/**
 * The write_iter of files in the page cache after its checks, i_rwsem held: set-id bits, times,
 * data. Moves ki_pos.
 */
export function __generic_file_write_iter(iocb: kiocb, iter: iov_iter): Sometime<number> {
  const { vfs_ops } = iocb.ki_filp.kernel;
  return then(vfs_ops.file_remove_privs(iocb.ki_filp), () =>
    then(vfs_ops.file_update_time(iocb.ki_filp), () =>
      then(generic_perform_write(iocb, iter), (n) => {
        iocb.ki_pos += n;
        return n;
      }),
    ),
  );
}

/** fs/readdir.ts - listing directories. Linux: fs/readdir.c. */
import { EINVAL, ENOENT, ENOTDIR, EIO } from "../kernel/include/errno.ts";
import type { dir_context, file } from "../kernel/include/fs.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { inode_lock_shared, inode_unlock_shared } from "../kernel/vfs/inode.ts";
import { file_accessed } from "./atime.ts";
import { with_fd } from "./file.ts";
import { name_bytes } from "./namei/walk.ts";
import { IS_DEADDIR } from "./namei/permission.ts";

export interface dirent {
  name: string;
  ino: number;
  /** DT_* */
  type: number;
  /** Cookie of the next entry, for lseek. */
  off: number;
}

/**
 * Runs `ctx.actor` over the entries from the file's position on and leaves the position after the
 * last.
 */
export async function iterate_dir(f: file, ctx: dir_context): Promise<void> {
  const op = f.f_op.iterate_shared;
  if (op === undefined) throw ENOTDIR;
  const inode = f.f_inode;
  const p = inode_lock_shared(inode);
  if (p) await p;
  try {
    if (IS_DEADDIR(inode)) throw ENOENT;
    ctx.pos = f.f_pos;
    await op.call(f.f_op, f, ctx);
    f.f_pos = ctx.pos;
    await file_accessed(f);
  } finally {
    inode_unlock_shared(inode);
  }
}

/** Bytes of a struct linux_dirent64 for a name. */
function reclen(name: string): number {
  return Math.ceil((19 + name_bytes(name) + 1) / 8) * 8;
}

/**
 * The next entries that fit a buffer of `bufsize` bytes; none at the end. EINVAL: the buffer holds
 * not one.
 */
export function sys_getdents64(task: task_struct, fd: number, bufsize = 32768): Promise<dirent[]> {
  return with_fd(task, fd, async (f) => {
    const locked = f.f_count > 2; // the table's, ours, and another's
    const w = locked ? f.f_pos_lock.lock() : undefined;
    if (w) await w;
    try {
      return await collect(f, bufsize);
    } finally {
      if (locked) f.f_pos_lock.unlock();
    }
  });
}

async function collect(f: file, bufsize: number): Promise<dirent[]> {
  const out: dirent[] = [];
  const room = { left: bufsize, full: false };
  const ctx: dir_context = {
    pos: 0,
    actor(name, offset, ino, type) {
      if (name === "" || name.includes("/")) throw EIO;
      const last = out.at(-1);
      if (last !== undefined) last.off = offset;
      const len = reclen(name);
      if (len > room.left) {
        room.full = true;
        return false;
      }
      room.left -= len;
      out.push({ name, ino, type, off: 0 });
      return true;
    },
  };
  await iterate_dir(f, ctx);
  const last = out.at(-1);
  if (last !== undefined) last.off = ctx.pos;
  else if (room.full) throw EINVAL;
  return out;
}

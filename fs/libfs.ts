/**
 * fs/libfs.ts - directories and files that live in the dentry cache and the page cache only. Linux:
 * fs/libfs.c.
 * Each name that exists holds an extra reference on its dentry, so that it is never dropped;
 * removing the name gives it back. A directory's listing order is that of creation: d_fsdata holds
 * a counter.
 */
import { EINVAL, EIO, EISDIR, ENAMETOOLONG, ENOTEMPTY } from "../kernel/include/errno.ts";
import {
  NAME_MAX,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  SEEK_CUR,
  SEEK_SET,
} from "../kernel/include/fcntl.ts";
import type {
  Sometime,
  dentry,
  dir_context,
  file,
  file_operations,
  inode,
  kstatfs,
} from "../kernel/include/fs.ts";
import { DT_DIR } from "../kernel/include/fs.ts";
import type {
  address_space,
  address_space_operations,
  page,
  write_ctx,
} from "../kernel/include/mm_types.ts";
import { PG_hwpoison } from "../kernel/include/mm_types.ts";
import { S_IFMT } from "../kernel/include/stat.ts";
import { current_time, drop_nlink, i_size_write, ihold, inc_nlink } from "../kernel/vfs/inode.ts";
import { get_next_ino } from "../kernel/vfs/super.ts";
import { grab_cache_page_write_begin, noop_dirty_folio, set_page_dirty } from "../mm/filemap.ts";
import { PageUptodate, SetPageUptodate, page_address, put_page, unlock_page } from "../mm/page.ts";
import { then } from "../mm/sometime.ts";
import { d_add, d_instantiate, d_is_dir, dget, dput } from "./dcache.ts";
import { name_bytes } from "./namei/walk.ts";

/** Every name that exists is cached, so this one does not. */
export function simple_lookup(_dir: inode, d: dentry): void {
  if (name_bytes(d.d_name) > NAME_MAX) throw ENAMETOOLONG;
  d_add(d, null);
}

/** Gives a new name its inode and pins it. */
export function simple_pin(d: dentry, inode: inode): void {
  d_instantiate(d, inode);
  note_place(d);
  dget(d);
}

/** Position of the name in its directory's listing. */
function note_place(d: dentry): void {
  d.d_fsdata = get_next_ino(d.d_sb.kernel);
}

const place_of = (d: dentry): number => (d.d_fsdata as number) + 2;

function touch_dir(dir: inode): void {
  dir.i_mtime = dir.i_ctime = current_time(dir);
}

export async function simple_link(old: dentry, dir: inode, d: dentry): Promise<void> {
  const inode = old.d_inode!;
  inode.i_ctime = current_time(inode);
  touch_dir(dir);
  inc_nlink(inode);
  ihold(inode);
  simple_pin(d, inode);
}

export function simple_empty(d: dentry): boolean {
  for (const child of d.d_children.values()) if (child.d_inode !== null) return false;
  return true;
}

export async function simple_unlink(dir: inode, d: dentry): Promise<void> {
  const inode = d.d_inode!;
  inode.i_ctime = current_time(inode);
  touch_dir(dir);
  drop_nlink(inode);
  await dput(d);
}

export async function simple_rmdir(dir: inode, d: dentry): Promise<void> {
  if (!simple_empty(d)) throw ENOTEMPTY;
  drop_nlink(d.d_inode!);
  await simple_unlink(dir, d);
  drop_nlink(dir);
}

function rename_exchange(od: inode, old: dentry, nd: inode, d: dentry): void {
  const a = d_is_dir(old);
  const b = d_is_dir(d);
  if (od !== nd && a !== b) {
    drop_nlink(a ? od : nd);
    inc_nlink(a ? nd : od);
  }
  touch_dir(od);
  touch_dir(nd);
  old.d_inode!.i_ctime = d.d_inode!.i_ctime = current_time(od);
  note_place(old);
  note_place(d);
}

export async function simple_rename(
  od: inode,
  old: dentry,
  nd: inode,
  d: dentry,
  flags: number,
): Promise<void> {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) throw EINVAL;
  if ((flags & RENAME_EXCHANGE) !== 0) {
    rename_exchange(od, old, nd, d);
    return;
  }
  const is_dir = d_is_dir(old);
  if (!simple_empty(d)) throw ENOTEMPTY;
  if (d.d_inode !== null) {
    if (is_dir) drop_nlink(d.d_inode);
    await simple_unlink(nd, d);
    if (is_dir) drop_nlink(od);
  } else if (is_dir) {
    drop_nlink(od);
    inc_nlink(nd);
  }
  touch_dir(od);
  touch_dir(nd);
  old.d_inode!.i_ctime = current_time(od);
  note_place(old);
}

export function simple_statfs(d: dentry, buf: kstatfs): void {
  buf.f_type = d.d_sb.s_magic;
  buf.f_bsize = d.d_sb.kernel.PAGE_SIZE;
  buf.f_namelen = NAME_MAX;
}

// --- directories ---

/** Names in the order they were made; the position is 2 + the name's number. */
export function dcache_readdir(f: file, ctx: dir_context): void {
  const d = f.f_path.dentry;
  const inode = f.f_inode;
  if (ctx.pos === 0) {
    if (!ctx.actor(".", 0, inode.i_ino, DT_DIR)) return;
    ctx.pos = 1;
  }
  if (ctx.pos === 1) {
    const up = d.d_parent.d_inode ?? inode;
    if (!ctx.actor("..", 1, up.i_ino, DT_DIR)) return;
    ctx.pos = 2;
  }
  const from = ctx.pos;
  const left: dentry[] = [];
  for (const c of d.d_children.values()) {
    if (c.d_inode !== null && place_of(c) >= from) left.push(c);
  }
  left.sort((a, b) => place_of(a) - place_of(b));
  for (const c of left) {
    const child = c.d_inode!;
    ctx.pos = place_of(c);
    if (!ctx.actor(c.d_name, ctx.pos, child.i_ino, (child.i_mode & S_IFMT) >> 12)) return;
    ctx.pos++;
  }
}

export function dcache_dir_lseek(f: file, offset: number, whence: number): number {
  if (whence === SEEK_CUR) offset += f.f_pos;
  else if (whence !== SEEK_SET) throw EINVAL;
  if (offset < 0) throw EINVAL;
  f.f_pos = offset;
  return offset;
}

/** read(2) of a directory. */
export function generic_read_dir(): never {
  throw EISDIR;
}

export const noop_fsync = (): void => {};

export const simple_dir_operations: file_operations = Object.freeze({
  name: "simple_dir_operations",
  llseek: dcache_dir_lseek,
  read_iter: generic_read_dir,
  iterate_shared: dcache_readdir,
  fsync: noop_fsync,
});

// --- pages ---

function simple_read_folio(_f: file | null, p: page): void {
  page_address(p).fill(0);
  SetPageUptodate(p);
  unlock_page(p);
}

function simple_write_begin(
  _f: file | null,
  mapping: address_space,
  pos: number,
  len: number,
  ctx: write_ctx,
): Sometime<void> {
  const { PAGE_SIZE } = mapping.kernel;
  return then(grab_cache_page_write_begin(mapping, Math.floor(pos / PAGE_SIZE)), (p) => {
    if (p.flags & PG_hwpoison) {
      unlock_page(p);
      put_page(p);
      throw EIO;
    }
    ctx.page = p;
    if (PageUptodate(p) || len === PAGE_SIZE) return;
    const from = pos % PAGE_SIZE;
    const bytes = page_address(p);
    bytes.fill(0, 0, from);
    bytes.fill(0, from + len);
  });
}

function simple_write_end(
  _f: file | null,
  mapping: address_space,
  pos: number,
  len: number,
  copied: number,
  ctx: write_ctx,
): number {
  const p = ctx.page!;
  const inode = mapping.host;
  if (!PageUptodate(p)) {
    if (copied < len) {
      const from = pos % mapping.kernel.PAGE_SIZE;
      page_address(p).fill(0, from + copied, from + len);
    }
    SetPageUptodate(p);
  }
  if (pos + copied > inode.i_size) i_size_write(inode, pos + copied);
  set_page_dirty(p);
  unlock_page(p);
  put_page(p);
  return copied;
}

/** Pages that are never written anywhere: dirty pages are simply kept. */
export const ram_aops: address_space_operations = Object.freeze({
  name: "ram_aops",
  read_folio: simple_read_folio,
  write_begin: simple_write_begin,
  write_end: simple_write_end,
  dirty_folio: noop_dirty_folio,
});

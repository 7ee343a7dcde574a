/**
 * fs/devtmpfs.ts - /dev. Linux: drivers/base/devtmpfs.c. One superblock per kernel, shared by its
 * mounts, that shows the table of kernel/vfs/devnode.ts. Nodes come and go with their devices
 * without a system call, so nothing here sleeps.
 */
import type { dentry, file_system_type, super_block } from "../kernel/include/fs.ts";
import { SB_ACTIVE } from "../kernel/include/fs.ts";
import { S_IFDIR } from "../kernel/include/stat.ts";
import { assert } from "../kernel/assert.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { drop_nlink, inc_nlink } from "../kernel/vfs/inode.ts";
import { set_anon_super, vfs_of } from "../kernel/vfs/super.ts";
import { d_alloc, d_drop, d_rehash, dput } from "./dcache.ts";
import { simple_pin } from "./libfs.ts";
import { ramfs_fill_super, ramfs_get_inode } from "./ramfs/inode.ts";
import { kill_litter_super, register_filesystem, sget } from "./super.ts";

const TMPFS_MAGIC = 0x01021994;

/** The child of that name, hashed and negative when it is new. */
function child_of(dir: dentry, name: string): dentry {
  const cached = dir.d_children.get(name);
  if (cached !== undefined) {
    cached.d_count++;
    return cached;
  }
  const d = d_alloc(dir, name);
  d_rehash(d);
  return d;
}

/** Makes the inode of `d` unless it has one, and drops the reference. */
function make_node(dir: dentry, d: dentry, mode: number, dev: number): void {
  if (d.d_inode === null) {
    simple_pin(d, ramfs_get_inode(d.d_sb, null, mode, dev));
    if ((mode & S_IFDIR) === S_IFDIR) inc_nlink(dir.d_inode!);
  }
  d.d_count--; // pinned by now, so never the last
}

function add(root: dentry, name: string, mode: number, dev: number): void {
  const parts = name.split("/");
  const last = parts.pop()!;
  let dir = root;
  for (const part of parts) {
    const d = child_of(dir, part);
    make_node(dir, d, S_IFDIR | 0o755, 0);
    dir = d;
  }
  make_node(dir, child_of(dir, last), mode, dev);
}

function remove(root: dentry, name: string): void {
  let d: dentry | undefined = root;
  for (const part of name.split("/")) d = d?.d_children.get(part);
  if (d === undefined || d.d_inode === null) return;
  // Whoever has a hard link to the node has no way in by it any more.
  const node = d.d_inode;
  node.i_mode -= node.i_mode & 0o777;
  node.i_uid = node.i_gid = 0;
  drop_nlink(node);
  d_drop(d);
  const p = dput(d);
  assert(p === undefined, "freeing a device node slept");
}

function devtmpfs_fill(sb: super_block): void {
  const reg = vfs_of(sb.kernel);
  ramfs_fill_super(sb);
  sb.s_magic = TMPFS_MAGIC;
  const root = sb.s_root!;
  for (const [name, node] of reg.devnodes) add(root, name, node.mode, node.dev);
  reg.devnode_listener = (name, node) => {
    if (node !== null) add(root, name, node.mode, node.dev);
    else remove(root, name);
  };
}

async function devtmpfs_mount(kernel: Kernel, flags: number): Promise<super_block> {
  const sb = await sget(kernel, devtmpfs_fs_type, flags, () => true);
  if (sb.s_root === null) {
    set_anon_super(sb);
    devtmpfs_fill(sb);
    sb.s_flags |= SB_ACTIVE;
  }
  sb.s_umount.up_write();
  return sb;
}

export const devtmpfs_fs_type: file_system_type = Object.freeze({
  name: "devtmpfs",
  fs_flags: 0,
  mount: devtmpfs_mount,
  kill_sb(sb: super_block) {
    vfs_of(sb.kernel).devnode_listener = null;
    return kill_litter_super(sb);
  },
});

export function init_devtmpfs(kernel: Kernel): void {
  register_filesystem(kernel, devtmpfs_fs_type);
}

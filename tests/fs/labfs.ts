/**
 * tests/fs/labfs.ts - ramfs with what it lacks: xattrs, inode flags, freezing, a limit of links, a
 * record of calls.
 * What the generic layers check before a filesystem sees a call is tested with it.
 */
import { ENODATA, EEXIST } from "../../kernel/include/errno.ts";
import { XATTR_CREATE, XATTR_REPLACE } from "../../kernel/include/fcntl.ts";
import type {
  fileattr,
  file_system_type,
  inode,
  inode_operations,
  super_block,
  xattr_handler,
} from "../../kernel/include/fs.ts";
import { S_APPEND, S_IMMUTABLE } from "../../kernel/include/fs.ts";
import { FS_APPEND_FL, FS_IMMUTABLE_FL } from "../../kernel/include/fsflags.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { fileattr_fill_flags } from "../../fs/fileattr.ts";
import { ramfs_fill_super } from "../../fs/ramfs/inode.ts";
import { kill_litter_super, mount_nodev, register_filesystem } from "../../fs/super.ts";

interface lab_inode {
  xattrs: Map<string, Uint8Array>;
  flags: number;
}

const lab = (inode: inode): lab_inode => {
  inode.i_fs ??= { xattrs: new Map(), flags: 0 } satisfies lab_inode;
  return inode.i_fs as lab_inode;
};

function handler(prefix: string): xattr_handler {
  return {
    prefix,
    async get(inode, name) {
      const v = lab(inode).xattrs.get(prefix + name);
      if (v === undefined) throw ENODATA;
      return v;
    },
    async set(inode, name, value, flags) {
      const { xattrs } = lab(inode);
      const there = xattrs.has(prefix + name);
      if (there && (flags & XATTR_CREATE) !== 0) throw EEXIST;
      if (!there && (flags & XATTR_REPLACE) !== 0) throw ENODATA;
      if (value === null) xattrs.delete(prefix + name);
      else xattrs.set(prefix + name, value);
    },
  };
}

/** The operations of an inode, with flags and xattrs on top. */
function with_more(ops: inode_operations): inode_operations {
  return {
    ...ops,
    listxattr: async (d) => [...lab(d.d_inode!).xattrs.keys()].sort(),
    fileattr_get(d, fa: fileattr) {
      fileattr_fill_flags(fa, lab(d.d_inode!).flags);
    },
    async fileattr_set(d, fa: fileattr) {
      const inode = d.d_inode!;
      lab(inode).flags = fa.flags;
      const s = inode.i_flags & ~(S_IMMUTABLE | S_APPEND);
      const im = (fa.flags & FS_IMMUTABLE_FL) !== 0 ? S_IMMUTABLE : 0;
      inode.i_flags = s | im | ((fa.flags & FS_APPEND_FL) !== 0 ? S_APPEND : 0);
    },
  };
}

/** Calls that reached the filesystem, in order. */
export const lab_calls = (sb: super_block): string[] => sb.s_fs_info as string[];

function fill(sb: super_block, max_links: number): void {
  const calls: string[] = [];
  sb.s_fs_info = calls;
  ramfs_fill_super(sb);
  sb.s_xattr = [handler("user."), handler("trusted."), handler("security.")];
  sb.s_max_links = max_links;
  sb.s_op = {
    ...sb.s_op,
    name: "labfs",
    alloc_inode(inode) {
      // ramfs sets i_op after this, so the operations are wrapped at the first look at them.
      let ops: inode_operations = inode.i_op;
      let more = with_more(ops);
      Object.defineProperty(inode, "i_op", {
        get: () => more,
        set(v: inode_operations) {
          ops = v;
          more = with_more(ops);
        },
      });
      return null;
    },
    async sync_fs(_sb, wait) {
      calls.push(wait ? "sync_fs wait" : "sync_fs");
    },
    async freeze_fs() {
      calls.push("freeze_fs");
    },
    async unfreeze_fs() {
      calls.push("unfreeze_fs");
    },
    async put_super() {
      calls.push("put_super");
    },
    show_options: () => "lab=yes",
  };
  const root = sb.s_root!.d_inode!;
  root.i_op = with_more(root.i_op);
}

/** Registers "labfs". `max_links`: 0 for no limit. */
export function register_labfs(kernel: Kernel, max_links = 0): file_system_type {
  const type: file_system_type = {
    name: "labfs",
    fs_flags: 0,
    mount: (k, flags, _dev, data) => mount_nodev(k, type, flags, data, (sb) => fill(sb, max_links)),
    kill_sb: kill_litter_super,
  };
  register_filesystem(kernel, type);
  return type;
}

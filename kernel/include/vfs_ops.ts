/**
 * kernel/include/vfs_ops.ts - what the object layer (kernel/vfs) calls in the layers above it.
 * One object per kernel, `kernel.vfs_ops`, filled at boot: the mm part by mm, the rest by init_vfs
 * (fs/).
 */
import type { Sometime, file, file_operations, inode, kiocb } from "./fs.ts";
import type { address_space } from "./mm_types.ts";
import type { Kernel } from "../kernel.ts";

export interface vfs_ops {
  /** mm: the mapping of a new inode. */
  new_address_space(kernel: Kernel, host: inode): address_space;
  /** mm: drops every page and DAX entry of an inode that is going away. */
  truncate_inode_pages_final(mapping: address_space): Sometime<void>;
  /** fs: writes the inode's dirty pages and itself; `sync` waits. */
  write_inode_now(inode: inode, sync: boolean): Sometime<void>;
  /** fs: the last reference of a file is gone. */
  __fput(file: file): Sometime<void>;
  /**
   * fs: atime of a read, mtime and ctime of a write, set-id bits of a write. For the page cache.
   */
  file_accessed(file: file): Sometime<void>;
  file_update_time(file: file): Sometime<void>;
  /** The same for a store to a mapping, which fails for its own reasons only. */
  fault_update_time(file: file): Sometime<void>;
  file_remove_privs(file: file): Sometime<void>;
  /** fs: after a write of `count` bytes, what O_SYNC and its kin ask for. Returns `count`. */
  generic_write_sync(iocb: kiocb, count: number): Sometime<number>;
  /** fs: what opening a device node or a fifo leads to. */
  special_fops: {
    def_chr_fops: file_operations;
    def_blk_fops: file_operations;
    pipefifo_fops: file_operations;
  };
}

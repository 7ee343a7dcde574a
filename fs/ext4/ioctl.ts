/**
 * fs/ext4/ioctl.ts - ioctls of files and directories. Linux: fs/ext4/ioctl.c. Flags and project ids
 * go through fileattr_get and fileattr_set, FIEMAP and FIFREEZE through the VFS.
 */
import { ENOTTY } from "../../kernel/include/errno.ts";
import type { file, Sometime } from "../../kernel/include/fs.ts";
import { bytes_to_name } from "../../kernel/lib/utf8.ts";
import { EXT4_EXTENTS_FL } from "./ext4.ts";
import {
  EXT4_I,
  EXT4_SB,
  EXT4_STATE_DA_ALLOC_CLOSE,
  EXT4_STATE_EXT_PRECACHED,
  EXT4_STATE_NEW,
  EXT4_STATE_NEWENTRY,
  ext4_test_inode_flag,
} from "./ext4_fs.ts";
import { ext4_ext_precache } from "./extents.ts";
import { ext4_clear_inode_es } from "./extents_status.ts";
import { ext4_ioctl_write } from "./write_side.ts";

function get_state(st: number): number {
  return (
    (st & EXT4_STATE_EXT_PRECACHED ? 1 : 0) |
    (st & EXT4_STATE_NEW ? 2 : 0) |
    (st & EXT4_STATE_NEWENTRY ? 4 : 0) |
    (st & EXT4_STATE_DA_ALLOC_CLOSE ? 8 : 0)
  );
}

export function ext4_ioctl(file: file, cmd: string, arg: unknown): Sometime<unknown> {
  const inode = file.f_inode;
  const es = EXT4_SB(inode.i_sb).s_es;
  switch (cmd) {
    case "FS_IOC_GETVERSION":
    case "EXT4_IOC_GETVERSION":
      return inode.i_generation;
    case "EXT4_IOC_PRECACHE_EXTENTS":
      if (!ext4_test_inode_flag(inode, EXT4_EXTENTS_FL)) return 0;
      return ext4_ext_precache(inode).then(() => 0);
    case "EXT4_IOC_CLEAR_ES_CACHE":
      ext4_clear_inode_es(inode);
      return 0;
    case "EXT4_IOC_GETSTATE":
      return get_state(EXT4_I(inode).i_state_flags);
    case "FS_IOC_GETFSLABEL": {
      const nul = es.s_volume_name.indexOf(0);
      return bytes_to_name(es.s_volume_name, 0, nul < 0 ? es.s_volume_name.length : nul);
    }
    case "EXT4_IOC_GETFSUUID":
      return es.s_uuid.slice();
    case "EXT4_IOC_SETVERSION":
    case "EXT4_IOC_SHUTDOWN":
    case "FS_IOC_SHUTDOWN":
    case "FITRIM":
    case "FS_IOC_SETFSLABEL":
    case "EXT4_IOC_MIGRATE":
    case "EXT4_IOC_ALLOC_DA_BLKS":
    case "EXT4_IOC_MOVE_EXT":
    case "EXT4_IOC_RESIZE_FS":
      return ext4_ioctl_write(file, cmd, arg);
    default:
      throw ENOTTY;
  }
}

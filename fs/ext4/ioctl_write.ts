/**
 * fs/ext4/ioctl_write.ts - ioctls that change something. Linux: fs/ext4/ioctl.c. Flags and project
 * ids go through fileattr_set.
 */
import { notImplemented } from "../../kernel/assert.ts";
import { capable } from "../../kernel/cred.ts";
import { CAP_SYS_ADMIN } from "../../kernel/include/cred.ts";
import { EINVAL, ENOTTY, EOPNOTSUPP, EPERM } from "../../kernel/include/errno.ts";
import type { file, super_block } from "../../kernel/include/fs.ts";
import { freeze_super, thaw_super } from "../freeze.ts";
import { EXT4_FLAGS_SHUTDOWN, EXT4_SB, ext4_forced_shutdown, ext4_msg } from "./ext4_fs.ts";
import { ext4_commit_tid } from "./ext4_jbd2.ts";

const EXT4_GOING_FLAGS_DEFAULT = 0;
const EXT4_GOING_FLAGS_LOGFLUSH = 1;
const EXT4_GOING_FLAGS_NOLOGFLUSH = 2;
const KERN_ALERT = 1;

/** Stops all writing: after a freeze, after a commit, or at once. */
async function ext4_ioctl_shutdown(sb: super_block, how: number): Promise<void> {
  if (!capable(sb.kernel, CAP_SYS_ADMIN)) throw EPERM;
  if (!(how >= 0 && how <= EXT4_GOING_FLAGS_NOLOGFLUSH)) throw EINVAL;
  const sbi = EXT4_SB(sb);
  if (ext4_forced_shutdown(sbi)) return;
  ext4_msg(sb, KERN_ALERT, `shut down requested (${how})`);
  if (how === EXT4_GOING_FLAGS_DEFAULT) {
    await freeze_super(sb);
    sbi.s_ext4_flags |= EXT4_FLAGS_SHUTDOWN;
    await thaw_super(sb);
    return;
  }
  if (how === EXT4_GOING_FLAGS_LOGFLUSH) await ext4_commit_tid(sb, sbi.s_tid);
  sbi.s_ext4_flags |= EXT4_FLAGS_SHUTDOWN;
}

export async function ext4_ioctl_write(file: file, cmd: string, arg: unknown): Promise<unknown> {
  const sb = file.f_inode.i_sb;
  switch (cmd) {
    case "EXT4_IOC_SHUTDOWN":
    case "FS_IOC_SHUTDOWN":
      await ext4_ioctl_shutdown(sb, Number(arg));
      return 0;
    case "FITRIM":
      if (!capable(sb.kernel, CAP_SYS_ADMIN)) throw EPERM;
      // pmem knows no discard
      throw EOPNOTSUPP;
    case "EXT4_IOC_SETVERSION":
    case "FS_IOC_SETFSLABEL":
    case "EXT4_IOC_MIGRATE":
    case "EXT4_IOC_ALLOC_DA_BLKS":
    case "EXT4_IOC_MOVE_EXT":
    case "EXT4_IOC_RESIZE_FS":
      return notImplemented(`ext4: ${cmd}`);
    default:
      throw ENOTTY;
  }
}

/** tools/cmd/strerror.ts - what strerror(3) says, for the tools' messages. */
import type { Errno } from "../../kernel/include/errno.ts";

const ERROR_TEXTS: Readonly<Record<string, string>> = Object.freeze({
  EACCES: "Permission denied",
  EAGAIN: "Resource temporarily unavailable",
  EBADF: "Bad file descriptor",
  EBUSY: "Device or resource busy",
  EINVAL: "Invalid argument",
  EIO: "Input/output error",
  EISDIR: "Is a directory",
  ENODEV: "No such device",
  ENOENT: "No such file or directory",
  ENOSPC: "No space left on device",
  ENOTBLK: "Block device required",
  ENOTTY: "Inappropriate ioctl for device",
  ENXIO: "No such device or address",
  EOPNOTSUPP: "Operation not supported",
  EPERM: "Operation not permitted",
  EROFS: "Read-only file system",
});

export const strerror = (e: Errno): string => ERROR_TEXTS[e.code] ?? e.code;

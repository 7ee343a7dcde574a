/**
 * tools/api/errors.ts - what a user's script catches.
 *
 * `SyscallError` looks like Node's own: `code: "ENOSPC"`, negative `errno`, `syscall`, `path`.
 * `SignalError` is a signal that an access to memory raised: where, why and how far it had got.
 */
import type { Errno } from "../../kernel/include/errno.ts";

const WORDS: Readonly<Record<string, string>> = Object.freeze({
  EPERM: "operation not permitted",
  ENOENT: "no such file or directory",
  EINTR: "interrupted system call",
  EIO: "i/o error",
  ENXIO: "no such device or address",
  E2BIG: "argument list too long",
  EBADF: "bad file descriptor",
  EAGAIN: "resource temporarily unavailable",
  ENOMEM: "not enough memory",
  EACCES: "permission denied",
  EFAULT: "bad address in system call argument",
  ENOTBLK: "block device required",
  EBUSY: "resource busy or locked",
  EEXIST: "file already exists",
  EXDEV: "cross-device link not permitted",
  ENODEV: "no such device",
  ENOTDIR: "not a directory",
  EISDIR: "illegal operation on a directory",
  EINVAL: "invalid argument",
  ENFILE: "file table overflow",
  EMFILE: "too many open files",
  ENOTTY: "inappropriate ioctl for device",
  ETXTBSY: "text file is busy",
  EFBIG: "file too large",
  ENOSPC: "no space left on device",
  ESPIPE: "invalid seek",
  EROFS: "read-only file system",
  EMLINK: "too many links",
  EPIPE: "broken pipe",
  ERANGE: "result too large",
  EDEADLK: "resource deadlock avoided",
  ENAMETOOLONG: "name too long",
  ENOSYS: "function not implemented",
  ENOTEMPTY: "directory not empty",
  ELOOP: "too many symbolic links encountered",
  ENODATA: "no data available",
  EOVERFLOW: "value too large for defined data type",
  EBADMSG: "bad message (a checksum does not match)",
  EUCLEAN: "structure needs cleaning (the medium is corrupt)",
  EOPNOTSUPP: "operation not supported",
  ESTALE: "stale file handle",
  EDQUOT: "disk quota exceeded",
  EHWPOISON: "memory page has hardware error",
});

export class SyscallError extends Error {
  readonly code: string;
  /** Negative, as in Node. */
  readonly errno: number;
  readonly syscall: string;
  readonly path?: string;

  constructor(e: Errno, syscall: string, path?: string) {
    const where = path === undefined ? "" : ` '${path}'`;
    super(`${e.code}: ${WORDS[e.code] ?? "error"}, ${syscall}${where}`);
    this.name = "SyscallError";
    this.code = e.code;
    this.errno = -e.errno;
    this.syscall = syscall;
    if (path !== undefined) this.path = path;
  }
}

/** A ...Sync call had to wait: the machine is busy, or a lock or the media is not at hand. */
export class WouldBlock extends Error {
  constructor(syscall: string) {
    super(`${syscall} has to wait: use the form that answers with a promise`);
    this.name = "WouldBlock";
  }
}

export interface signal_info {
  /** "SIGBUS", "SIGSEGV" ... */
  signo: string;
  /** "BUS_ADRERR", "SEGV_MAPERR" ... */
  code: string;
  addr: number;
  lsb: number;
  /** Bytes (for touch: touches) done before the signal. */
  completed: number;
}

export class SignalError extends Error implements signal_info {
  readonly signo: string;
  readonly code: string;
  readonly addr: number;
  readonly lsb: number;
  readonly completed: number;

  constructor(s: signal_info) {
    super(`${s.signo} (${s.code}) at 0x${s.addr.toString(16)}, ${s.completed} bytes done before`);
    this.name = "SignalError";
    this.signo = s.signo;
    this.code = s.code;
    this.addr = s.addr;
    this.lsb = s.lsb;
    this.completed = s.completed;
  }
}

/** A size or offset that is no whole number would be stored as it is: the kernel has integers. */
export function check_whole(what: string, n: number): void {
  if (!Number.isInteger(n)) throw new RangeError(`${what} ${String(n)}: a whole number of bytes`);
}

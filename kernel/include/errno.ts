/**
 * kernel/include/errno.ts - the error numbers of Linux (x86-64) as preallocated objects.
 * Linux: include/uapi/asm-generic/errno{-base,}.h. Differs: an error is thrown, not returned
 * negated.
 *
 * An `Errno` is compared by identity (`e === ENOENT`), carries no stack and is frozen. It is
 * dressed with syscall and path once, at the system-call boundary (tools/api).
 */
export interface Errno {
  readonly code: string;
  /** Positive, as in errno(3). */
  readonly errno: number;
  readonly is_errno: true;
}

function make(code: string, errno: number): Errno {
  return Object.freeze({ code, errno, is_errno: true as const });
}

/**
 * True for the errors that Linux could answer; false for our own bugs and for `notImplemented()`.
 */
export function is_errno(e: unknown): e is Errno {
  return typeof e === "object" && e !== null && (e as { is_errno?: unknown }).is_errno === true;
}

export const EPERM = make("EPERM", 1);
export const ENOENT = make("ENOENT", 2);
export const ESRCH = make("ESRCH", 3);
export const EINTR = make("EINTR", 4);
export const EIO = make("EIO", 5);
export const ENXIO = make("ENXIO", 6);
export const E2BIG = make("E2BIG", 7);
export const ENOEXEC = make("ENOEXEC", 8);
export const EBADF = make("EBADF", 9);
export const ECHILD = make("ECHILD", 10);
export const EAGAIN = make("EAGAIN", 11);
export const ENOMEM = make("ENOMEM", 12);
export const EACCES = make("EACCES", 13);
export const EFAULT = make("EFAULT", 14);
export const ENOTBLK = make("ENOTBLK", 15);
export const EBUSY = make("EBUSY", 16);
export const EEXIST = make("EEXIST", 17);
export const EXDEV = make("EXDEV", 18);
export const ENODEV = make("ENODEV", 19);
export const ENOTDIR = make("ENOTDIR", 20);
export const EISDIR = make("EISDIR", 21);
export const EINVAL = make("EINVAL", 22);
export const ENFILE = make("ENFILE", 23);
export const EMFILE = make("EMFILE", 24);
export const ENOTTY = make("ENOTTY", 25);
export const ETXTBSY = make("ETXTBSY", 26);
export const EFBIG = make("EFBIG", 27);
export const ENOSPC = make("ENOSPC", 28);
export const ESPIPE = make("ESPIPE", 29);
export const EROFS = make("EROFS", 30);
export const EMLINK = make("EMLINK", 31);
export const EPIPE = make("EPIPE", 32);
export const EDOM = make("EDOM", 33);
export const ERANGE = make("ERANGE", 34);
export const EDEADLK = make("EDEADLK", 35);
export const ENAMETOOLONG = make("ENAMETOOLONG", 36);
export const ENOLCK = make("ENOLCK", 37);
export const ENOSYS = make("ENOSYS", 38);
export const ENOTEMPTY = make("ENOTEMPTY", 39);
export const ELOOP = make("ELOOP", 40);
export const ENOMSG = make("ENOMSG", 42);
export const EIDRM = make("EIDRM", 43);
export const ECHRNG = make("ECHRNG", 44);
export const EL2NSYNC = make("EL2NSYNC", 45);
export const EL3HLT = make("EL3HLT", 46);
export const EL3RST = make("EL3RST", 47);
export const ELNRNG = make("ELNRNG", 48);
export const EUNATCH = make("EUNATCH", 49);
export const ENOCSI = make("ENOCSI", 50);
export const EL2HLT = make("EL2HLT", 51);
export const EBADE = make("EBADE", 52);
export const EBADR = make("EBADR", 53);
export const EXFULL = make("EXFULL", 54);
export const ENOANO = make("ENOANO", 55);
export const EBADRQC = make("EBADRQC", 56);
export const EBADSLT = make("EBADSLT", 57);
export const EBFONT = make("EBFONT", 59);
export const ENOSTR = make("ENOSTR", 60);
export const ENODATA = make("ENODATA", 61);
export const ETIME = make("ETIME", 62);
export const ENOSR = make("ENOSR", 63);
export const ENONET = make("ENONET", 64);
export const ENOPKG = make("ENOPKG", 65);
export const EREMOTE = make("EREMOTE", 66);
export const ENOLINK = make("ENOLINK", 67);
export const EADV = make("EADV", 68);
export const ESRMNT = make("ESRMNT", 69);
export const ECOMM = make("ECOMM", 70);
export const EPROTO = make("EPROTO", 71);
export const EMULTIHOP = make("EMULTIHOP", 72);
export const EDOTDOT = make("EDOTDOT", 73);
export const EBADMSG = make("EBADMSG", 74);
export const EOVERFLOW = make("EOVERFLOW", 75);
export const ENOTUNIQ = make("ENOTUNIQ", 76);
export const EBADFD = make("EBADFD", 77);
export const EREMCHG = make("EREMCHG", 78);
export const ELIBACC = make("ELIBACC", 79);
export const ELIBBAD = make("ELIBBAD", 80);
export const ELIBSCN = make("ELIBSCN", 81);
export const ELIBMAX = make("ELIBMAX", 82);
export const ELIBEXEC = make("ELIBEXEC", 83);
export const EILSEQ = make("EILSEQ", 84);
export const ERESTART = make("ERESTART", 85);
export const ESTRPIPE = make("ESTRPIPE", 86);
export const EUSERS = make("EUSERS", 87);
export const ENOTSOCK = make("ENOTSOCK", 88);
export const EDESTADDRREQ = make("EDESTADDRREQ", 89);
export const EMSGSIZE = make("EMSGSIZE", 90);
export const EPROTOTYPE = make("EPROTOTYPE", 91);
export const ENOPROTOOPT = make("ENOPROTOOPT", 92);
export const EPROTONOSUPPORT = make("EPROTONOSUPPORT", 93);
export const ESOCKTNOSUPPORT = make("ESOCKTNOSUPPORT", 94);
export const EOPNOTSUPP = make("EOPNOTSUPP", 95);
export const EPFNOSUPPORT = make("EPFNOSUPPORT", 96);
export const EAFNOSUPPORT = make("EAFNOSUPPORT", 97);
export const EADDRINUSE = make("EADDRINUSE", 98);
export const EADDRNOTAVAIL = make("EADDRNOTAVAIL", 99);
export const ENETDOWN = make("ENETDOWN", 100);
export const ENETUNREACH = make("ENETUNREACH", 101);
export const ENETRESET = make("ENETRESET", 102);
export const ECONNABORTED = make("ECONNABORTED", 103);
export const ECONNRESET = make("ECONNRESET", 104);
export const ENOBUFS = make("ENOBUFS", 105);
export const EISCONN = make("EISCONN", 106);
export const ENOTCONN = make("ENOTCONN", 107);
export const ESHUTDOWN = make("ESHUTDOWN", 108);
export const ETOOMANYREFS = make("ETOOMANYREFS", 109);
export const ETIMEDOUT = make("ETIMEDOUT", 110);
export const ECONNREFUSED = make("ECONNREFUSED", 111);
export const EHOSTDOWN = make("EHOSTDOWN", 112);
export const EHOSTUNREACH = make("EHOSTUNREACH", 113);
export const EALREADY = make("EALREADY", 114);
export const EINPROGRESS = make("EINPROGRESS", 115);
export const ESTALE = make("ESTALE", 116);
export const EUCLEAN = make("EUCLEAN", 117);
export const ENOTNAM = make("ENOTNAM", 118);
export const ENAVAIL = make("ENAVAIL", 119);
export const EISNAM = make("EISNAM", 120);
export const EREMOTEIO = make("EREMOTEIO", 121);
export const EDQUOT = make("EDQUOT", 122);
export const ENOMEDIUM = make("ENOMEDIUM", 123);
export const EMEDIUMTYPE = make("EMEDIUMTYPE", 124);
export const ECANCELED = make("ECANCELED", 125);
export const ENOKEY = make("ENOKEY", 126);
export const EKEYEXPIRED = make("EKEYEXPIRED", 127);
export const EKEYREVOKED = make("EKEYREVOKED", 128);
export const EKEYREJECTED = make("EKEYREJECTED", 129);
export const EOWNERDEAD = make("EOWNERDEAD", 130);
export const ENOTRECOVERABLE = make("ENOTRECOVERABLE", 131);
export const ERFKILL = make("ERFKILL", 132);
export const EHWPOISON = make("EHWPOISON", 133);

/** Kernel-internal: never reaches a user. */
export const ERESTARTSYS = make("ERESTARTSYS", 512);
export const EIOCBQUEUED = make("EIOCBQUEUED", 529);
export const ENOTSUPP = make("ENOTSUPP", 524);
/** Linux names for corruption and bad checksums. */
export const EFSCORRUPTED = EUCLEAN;
export const EFSBADCRC = EBADMSG;

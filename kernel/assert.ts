/**
 * kernel/assert.ts - errors that are ours: broken invariants and what is not built yet.
 * Linux: BUG_ON() in include/asm-generic/bug.h. What Linux would answer to a user is an Errno.
 *
 * Neither class is an Errno, so no caller that handles errno values can mistake one for an answer.
 */

/**
 * A bug of the emulator itself, or a misuse of the kernel's own interfaces (unlock of a free lock).
 */
export class KernelBug extends Error {
  override readonly name = "KernelBug";
}

/** A part of Linux that is not modelled yet. */
export class NotImplementedError extends Error {
  override readonly name = "NotImplementedError";
  readonly what: string;
  constructor(what: string) {
    super(`not implemented: ${what}`);
    this.what = what;
  }
}

export function assert(cond: unknown, msg?: string): asserts cond {
  if (!cond) BUG(msg ?? "assertion failed");
}

export function BUG(msg: string): never {
  throw new KernelBug(msg);
}

export function notImplemented(what: string): never {
  throw new NotImplementedError(what);
}

export function is_not_implemented(e: unknown): e is NotImplementedError {
  return e instanceof NotImplementedError;
}

export function is_kernel_bug(e: unknown): e is KernelBug {
  return e instanceof KernelBug;
}

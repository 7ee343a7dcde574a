/**
 * mm/sometime.ts - going on after a value that may be there already, without a promise if it is.
 */
import type { Sometime } from "../kernel/include/fs.ts";

/** The cheap question first: for a number, `instanceof` costs more than a lock. */
const waits = <T>(x: Sometime<T>): x is Promise<T> => typeof x === "object" && x instanceof Promise;

/** `fn(value)` now, or when the promise resolves. */
export function then<T, U>(x: Sometime<T>, fn: (value: T) => Sometime<U>): Sometime<U> {
  return waits(x) ? x.then(fn) : fn(x);
}

/** `fn()` when `x` is over, well or not. */
export function lastly<T>(x: Sometime<T>, fn: () => void): Sometime<T> {
  if (waits(x)) return x.finally(fn);
  fn();
  return x;
}

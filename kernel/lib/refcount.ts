/**
 * kernel/lib/refcount.ts - counted references that complain. Linux: lib/refcount.c,
 * lib/percpu-refcount.c. Linux saturates and warns on misuse; here misuse is a KernelBug at once.
 */
import { assert } from "../assert.ts";

/** refcount_t: starts at one. */
export class refcount {
  private refs: number;
  constructor(refs = 1) {
    this.refs = refs;
  }
  read(): number {
    return this.refs;
  }
  inc(): void {
    assert(this.refs > 0, "refcount_inc: addition on 0, use after free");
    this.refs++;
  }
  /** False if the object is already going away. */
  inc_not_zero(): boolean {
    if (this.refs === 0) return false;
    this.refs++;
    return true;
  }
  /** True for the last reference. */
  dec_and_test(): boolean {
    assert(this.refs > 0, "refcount_dec: underflow, use after free");
    this.refs--;
    return this.refs === 0;
  }
}

/**
 * percpu_ref: references that can be cut off. Until kill() the initial reference keeps it alive;
 * `release` runs when the last one goes.
 */
export class percpu_ref {
  private refs = 1;
  private dying = false;
  private readonly release: (ref: percpu_ref) => void;

  constructor(release: (ref: percpu_ref) => void) {
    this.release = release;
  }
  get(): void {
    assert(this.refs > 0, "percpu_ref_get: the reference is gone");
    this.refs++;
  }
  /** False once it has dropped to zero. */
  tryget(): boolean {
    if (this.refs === 0) return false;
    this.refs++;
    return true;
  }
  /** False from kill() on. */
  tryget_live(): boolean {
    if (this.dying || this.refs === 0) return false;
    this.refs++;
    return true;
  }
  put(): void {
    assert(this.refs > 0, "percpu_ref_put: underflow");
    this.refs--;
    if (this.refs === 0) this.release(this);
  }
  /** No new live references; drops the initial one. `confirm` runs when every user can see that. */
  kill(confirm?: (ref: percpu_ref) => void): void {
    assert(!this.dying, "percpu_ref_kill: called twice");
    this.dying = true;
    confirm?.(this);
    this.put();
  }
  reinit(): void {
    assert(this.refs === 0, "percpu_ref_reinit: still in use");
    this.refs = 1;
    this.dying = false;
  }
  is_dying(): boolean {
    return this.dying;
  }
  is_zero(): boolean {
    return this.refs === 0;
  }
}

/**
 * tools/selftest/xarray/context.ts - counting checks, and the helpers all XArray checks use.
 * Linux: the head of lib/test_xarray.c. Every t.ok() is one check of the total.
 */
import { GFP_KERNEL, __GFP_DIRECT_RECLAIM } from "../../../kernel/include/gfp.ts";
import type { gfp_t } from "../../../kernel/include/gfp.ts";
import {
  ULONG_MAX,
  XA_FLAGS_ALLOC,
  XA_FLAGS_ALLOC1,
  XA_STATE_ORDER,
  xa_alloc,
  xa_erase,
  xa_insert,
  xa_limit_32b,
  xa_load,
  xa_store,
  xarray,
  xas_lock,
  xas_nomem,
  xas_store,
  xas_unlock,
} from "../../../kernel/lib/xarray.ts";
import type { xa_entry, xa_index, xa_node, xa_state } from "../../../kernel/lib/xarray.ts";

export interface xarray_selftest_opts {
  /** 6 (default), 4 or 3: 64, 16 or 8 slots per node. */
  chunk_shift?: number;
  /** Allocations that may not sleep fail, as in the user-space build of the suite. */
  failing_alloc?: boolean;
}

/** Largest prime below 2^53: the values made from larger indices stay exact and distinct. */
const VALUE_MODULUS = 9007199254740881;
const MAX_FAILURES = 100;

export class selftest_context {
  readonly failing_alloc: boolean;
  readonly chunk_shift: number;
  /** A plain array, an allocating one from id 0, one from id 1. */
  readonly array: xarray;
  readonly xa0: xarray;
  readonly xa1: xarray;
  /** Nodes that hold only values: see check_workingset(). */
  readonly shadow_nodes = new Set<xa_node>();
  run = 0;
  passed = 0;
  /** "function, check n": the n-th check of that function. */
  readonly failures: string[] = [];
  private name = "";
  private base = 0;

  constructor(opts: xarray_selftest_opts) {
    this.failing_alloc = opts.failing_alloc ?? false;
    this.chunk_shift = opts.chunk_shift ?? 6;
    const alloc = (gfp: gfp_t): boolean => (gfp & __GFP_DIRECT_RECLAIM) !== 0;
    const common = { chunk_shift: this.chunk_shift, ...(this.failing_alloc ? { alloc } : {}) };
    this.array = new xarray(common);
    this.xa0 = new xarray({ ...common, flags: XA_FLAGS_ALLOC });
    this.xa1 = new xarray({ ...common, flags: XA_FLAGS_ALLOC1 });
  }

  begin(name: string): void {
    this.name = name;
    this.base = this.run;
  }

  ok(condition: boolean): void {
    this.run++;
    if (condition) this.passed++;
    else this.failed();
  }

  private failed(): void {
    if (this.failures.length < MAX_FAILURES) {
      this.failures.push(`${this.name}, check ${this.run - this.base}`);
    }
  }
}

/** A value entry that tells its index. */
export function mk_index(index: xa_index): number {
  if (typeof index === "bigint") return Number(index % BigInt(VALUE_MODULUS));
  return index < VALUE_MODULUS ? index : index % VALUE_MODULUS;
}

/** An index as a number if a number is exact. */
export function ix(index: bigint): xa_index {
  return index <= 1n << 53n ? Number(index) : index;
}

/** The index before; before 0 comes the last. */
export function before(index: number): number {
  return index === 0 ? ULONG_MAX : index - 1;
}

export function store_index(xa: xarray, index: xa_index, gfp: gfp_t = GFP_KERNEL): xa_entry {
  return xa_store(xa, index, mk_index(index), gfp);
}

/** One check. */
export function insert_index(t: selftest_context, xa: xarray, index: xa_index): void {
  t.ok(xa_insert(xa, index, mk_index(index), GFP_KERNEL) === 0);
}

/** Two checks: the next id is `index`. */
export function alloc_index(t: selftest_context, xa: xarray, index: number): void {
  const id = { val: -1 };
  t.ok(xa_alloc(xa, id, mk_index(index), xa_limit_32b, GFP_KERNEL) === 0);
  t.ok(id.val === index);
}

/** Two checks: the index was in use and is empty then. */
export function erase_index(t: selftest_context, xa: xarray, index: xa_index): void {
  t.ok(xa_erase(xa, index) === mk_index(index));
  t.ok(xa_load(xa, index) === null);
}

/** Stores through a cursor that has been set, getting memory as often as it takes. */
export function store_at(xas: xa_state, entry: xa_entry): xa_entry {
  let old: xa_entry;
  do {
    xas_lock(xas);
    old = xas_store(xas, entry);
    xas_unlock(xas);
  } while (xas_nomem(xas, GFP_KERNEL));
  return old;
}

export function store_order(xa: xarray, index: xa_index, order: number, entry: xa_entry): xa_entry {
  return store_at(XA_STATE_ORDER(xa, index, order), entry);
}

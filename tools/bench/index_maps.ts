/**
 * tools/bench/index_maps.ts - index -> entry maps: the XArray, and what one would take instead.
 */
import { GFP_KERNEL } from "../../kernel/include/gfp.ts";
import {
  ULONG_MAX,
  xa_clear_mark,
  xa_erase,
  xa_load,
  XA_MARK_0,
  xa_mk_value,
  xa_set_mark,
  xa_state,
  xa_store,
  xa_to_value,
  xarray,
  xas_find,
  xas_find_marked,
  xas_next_entry,
} from "../../kernel/lib/xarray.ts";
import { bench_random, type contestant, type group_result, run_group, sink } from "./harness.ts";
import { load_peer } from "./peers.ts";

/** One kind of map behind a small interface. */
export interface index_map {
  store(i: number, value: number): void;
  /** The value, or undefined or null. */
  load(i: number): any;
  erase(i: number): void;
  /** Calls `fn` on every index in order; absent where the map has no order of its own. */
  walk?(fn: (i: number) => void): void;
  /** Marks `i`, finds the first marked index, unmarks it; absent where there is nothing like it. */
  mark_step?(i: number): number;
}

class xarray_map implements index_map {
  readonly #xa = new xarray();
  store(i: number, value: number): void {
    xa_store(this.#xa, i, value, GFP_KERNEL);
  }
  load(i: number): any {
    return xa_load(this.#xa, i);
  }
  erase(i: number): void {
    xa_erase(this.#xa, i);
  }
  walk(fn: (i: number) => void): void {
    const xas = new xa_state(this.#xa, 0);
    let entry = xas_find(xas, ULONG_MAX);
    for (; entry !== null; entry = xas_next_entry(xas, ULONG_MAX)) fn(xas.xa_index as number);
  }
  mark_step(i: number): number {
    xa_set_mark(this.#xa, i, XA_MARK_0);
    const xas = new xa_state(this.#xa, 0);
    xas_find_marked(xas, ULONG_MAX, XA_MARK_0);
    const found = xas.xa_index as number;
    xa_clear_mark(this.#xa, found, XA_MARK_0);
    return found;
  }
}

class js_map implements index_map {
  readonly #map = new Map<number, number>();
  readonly #marked = new Set<number>();
  store(i: number, value: number): void {
    this.#map.set(i, value);
  }
  load(i: number): any {
    return this.#map.get(i);
  }
  erase(i: number): void {
    this.#map.delete(i);
  }
  walk(fn: (i: number) => void): void {
    for (const i of Float64Array.from(this.#map.keys()).sort()) fn(i);
  }
  mark_step(i: number): number {
    this.#marked.add(i);
    let found = Number.POSITIVE_INFINITY;
    for (const k of this.#marked) found = Math.min(found, k);
    this.#marked.delete(found);
    return found;
  }
}

class plain_object implements index_map {
  readonly #object: Record<number, number> = Object.create(null);
  store(i: number, value: number): void {
    this.#object[i] = value;
  }
  load(i: number): any {
    return this.#object[i];
  }
  erase(i: number): void {
    delete this.#object[i];
  }
}

class btree_map implements index_map {
  readonly #tree: any;
  readonly #marked: any;
  constructor(tree: any, marked: any) {
    this.#tree = tree;
    this.#marked = marked;
  }
  store(i: number, value: number): void {
    this.#tree.set(i, value);
  }
  load(i: number): any {
    return this.#tree.get(i);
  }
  erase(i: number): void {
    this.#tree.delete(i);
  }
  walk(fn: (i: number) => void): void {
    this.#tree.forEachPair((i: number) => fn(i));
  }
  mark_step(i: number): number {
    this.#marked.set(i, true);
    const found: number = this.#marked.minKey();
    this.#marked.delete(found);
    return found;
  }
}

type makers = Record<string, () => index_map>;

export async function make_index_maps(): Promise<makers> {
  const module = await load_peer("sorted-btree");
  const BTree = module.default.default ?? module.default;
  return {
    XArray: () => new xarray_map(),
    Map: () => new js_map(),
    "plain object": () => new plain_object(),
    "sorted-btree": () => new btree_map(new BTree(), new BTree()),
  };
}

const DENSE = 1 << 16;
const SPARSE = 1 << 14;
const BASES = ["Map", "plain object"];
const value_of = (i: number): number => xa_mk_value((i * 16) & 0x3fffff0);

interface keys {
  dense: number[];
  shuffled: number[];
  sparse: number[];
}

function make_keys(): keys {
  const r = new bench_random(4242);
  const dense = Array.from({ length: DENSE }, (_, i) => i);
  const shuffled = dense.slice();
  for (let i = DENSE - 1; i > 0; i--) {
    const j = r.below(i + 1);
    const t = shuffled[i]!;
    shuffled[i] = shuffled[j]!;
    shuffled[j] = t;
  }
  const sparse = new Set<number>();
  while (sparse.size < SPARSE) sparse.add((r.next() % 1024) * 2 ** 30 + (r.next() >>> 2));
  return { dense, shuffled, sparse: [...sparse] };
}

/** Every contestant must agree with a Map before it is timed. */
export function check_index_maps(maps: makers, k: keys = make_keys()): void {
  for (const [name, make] of Object.entries(maps)) {
    const map = make();
    const want = new Map<number, number>();
    const r = new bench_random(7);
    for (let n = 0; n < 4000; n++) {
      const i = r.below(3) === 0 ? k.sparse[r.below(SPARSE)]! : r.below(5000);
      if (r.below(4) === 0) {
        map.erase(i);
        want.delete(i);
      } else {
        map.store(i, value_of(i));
        want.set(i, value_of(i));
      }
      if ((map.load(i) ?? -1) !== (want.get(i) ?? -1))
        throw new Error(`${name}: load ${i} is wrong`);
    }
    const seen: number[] = [];
    map.walk?.((i) => seen.push(i));
    const sorted = [...want.keys()].sort((a, b) => a - b);
    const marked = map.mark_step?.(sorted[9]!) ?? sorted[9];
    if (marked !== sorted[9]) throw new Error(`${name}: finds another mark`);
    if (map.walk && seen.join() !== sorted.join()) throw new Error(`${name}: walks another order`);
  }
}

type timed = (map: () => index_map, k: keys) => ((n: number) => void) | undefined;

const filled = (make: () => index_map, list: number[]): index_map => {
  const map = make();
  for (const i of list) map.store(i, value_of(i));
  return map;
};

const loads =
  (stored: keyof keys, probe: keyof keys): timed =>
  (make, k) => {
    const map = filled(make, k[stored]);
    const list = k[probe];
    const mask = list.length - 1;
    return (n) => {
      let sum = 0;
      for (let i = 0; i < n; i++) sum = (sum + map.load(list[i & mask]!)) | 0;
      sink.value ^= sum;
    };
  };

const groups: readonly [title: string, timed][] = [
  [
    "store, dense ascending, fresh map",
    (make, k) => (n) => {
      for (let done = 0; done < n; done += DENSE) {
        const map = make();
        const count = Math.min(DENSE, n - done);
        for (let i = 0; i < count; i++) map.store(k.dense[i]!, value_of(i));
        sink.value ^= xa_to_value(map.load(0));
      }
    },
  ],
  ["load, dense sequential", loads("dense", "dense")],
  ["load, dense random", loads("dense", "shuffled")],
  ["load, sparse 40-bit random", loads("sparse", "sparse")],
  [
    "overwrite, dense random",
    (make, k) => {
      const map = filled(make, k.dense);
      return (n) => {
        for (let i = 0; i < n; i++) map.store(k.shuffled[i & (DENSE - 1)]!, value_of(i));
      };
    },
  ],
  [
    "erase and store back, dense random",
    (make, k) => {
      const map = filled(make, k.dense);
      return (n) => {
        for (let i = 0; i < n; i++) {
          const key = k.shuffled[i & (DENSE - 1)]!;
          map.erase(key);
          map.store(key, value_of(key));
        }
      };
    },
  ],
  [
    "mark, find the mark, unmark, dense random",
    (make, k) => {
      const map = filled(make, k.dense);
      if (!map.mark_step) return undefined;
      return (n) => {
        let sum = 0;
        for (let i = 0; i < n; i++) sum ^= map.mark_step!(k.shuffled[i & (DENSE - 1)]!);
        sink.value ^= sum;
      };
    },
  ],
  [
    "walk in order, dense",
    (make, k) => {
      const map = filled(make, k.dense);
      if (!map.walk) return undefined;
      return (n) => {
        let sum = 0;
        const add = (i: number) => {
          sum = (sum + i) | 0;
        };
        for (let done = 0; done < n; done += DENSE) map.walk!(add);
        sink.value ^= sum;
      };
    },
  ],
];

export async function bench_index(o: {
  rounds: number;
  log(text: string): void;
  show(g: group_result): void;
}): Promise<void> {
  const maps = await make_index_maps();
  const k = make_keys();
  check_index_maps(maps, k);
  for (const [title, timed] of groups) {
    o.log(title);
    const list: contestant[] = [];
    for (const [name, make] of Object.entries(maps)) {
      const fn = timed(make, k);
      if (fn) list.push({ name, fn, grain: title.startsWith("walk") ? DENSE : 1 });
    }
    o.show(await run_group(`index: ${title}`, list, { bases: BASES, rounds: o.rounds }));
  }
}

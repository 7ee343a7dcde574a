/**
 * tests/kernel/xarray_model.ts - a Map that does what an XArray does, and a look at the tree.
 *
 * The model knows entries ("cells") of 2^n indices, values only. What a store does to it: inside a
 * larger cell it changes that cell; else it replaces what lies in its range and unites the marks.
 */
import {
  XA_FREE_MARK,
  XA_MARK_0,
  XA_MARK_1,
  XA_MARK_2,
  xa_is_node,
  xa_is_sibling,
  xa_is_value,
  xa_marked,
  xa_slot,
} from "../../kernel/lib/xarray.ts";
import type { xa_node, xarray } from "../../kernel/lib/xarray.ts";
import { node_any_mark, node_get_mark, xa_track_free } from "../../kernel/lib/xarray/node.ts";

export interface cell {
  readonly first: number;
  readonly size: number;
  value: number;
  readonly marks: Set<number>;
}

export class xarray_model {
  private readonly at = new Map<number, cell>();

  load(index: number): number | null {
    return this.at.get(index)?.value ?? null;
  }

  cell(index: number): cell | undefined {
    return this.at.get(index);
  }

  /** All cells in order. */
  cells(): cell[] {
    return [...new Set(this.at.values())].sort((a, b) => a.first - b.first);
  }

  /** The cells that lie in or over a range, in order. */
  within(first: number, size: number): cell[] {
    return this.cells().filter((c) => c.first < first + size && first < c.first + c.size);
  }

  store(index: number, order: number, value: number | null): void {
    const size = 2 ** order;
    const first = index - (index % size);
    const over = this.at.get(first);
    const covered = over !== undefined && over.size > size;
    if (covered && value !== null) {
      over.value = value;
      return;
    }
    const old = this.within(first, size);
    for (const c of old) for (let i = 0; i < c.size; i++) this.at.delete(c.first + i);
    if (value === null) return;
    const fresh = { first, size, value, marks: new Set(old.flatMap((c) => [...c.marks])) };
    for (let i = 0; i < size; i++) this.at.set(first + i, fresh);
  }

  mark(index: number, mark: number, on: boolean): void {
    const c = this.at.get(index);
    if (on) c?.marks.add(mark);
    else c?.marks.delete(mark);
  }
}

function fault(what: string, node: xa_node): never {
  throw new Error(`tree: ${what} at shift ${node.shift} offset ${node.offset}`);
}

function slot_marked(node: xa_node, offset: number, mark: number): boolean {
  const entry = xa_slot(node, offset);
  return xa_is_node(entry) ? node_any_mark(entry, mark) : node_get_mark(node, offset, mark);
}

function check_node(xa: xarray, node: xa_node): void {
  let count = 0;
  let values = 0;
  let of_value = false;
  for (let offset = 0; offset <= node.mask; offset++) {
    const entry = xa_slot(node, offset);
    if (!xa_is_sibling(entry)) of_value = xa_is_value(entry);
    if (entry !== null) count++;
    if (of_value) values++;
    for (const mark of [XA_MARK_0, XA_MARK_1, XA_MARK_2]) {
      const marked = node_get_mark(node, offset, mark);
      if (marked !== slot_marked(node, offset, mark)) fault(`mark ${mark} of ${offset}`, node);
      const free = xa_track_free(xa) && mark === XA_FREE_MARK;
      if (marked && !free && (entry === null || xa_is_sibling(entry))) fault("stray mark", node);
    }
    if (!xa_is_node(entry)) continue;
    if (node.shift === 0) fault("node under a leaf", node);
    if (entry.parent !== node || entry.offset !== offset) fault("parent link", entry);
    if (entry.shift !== node.shift - xa.chunk_shift) fault("shift", entry);
    check_node(xa, entry);
  }
  if (count === 0) fault("empty node", node);
  if (count !== node.count) fault(`count ${node.count}, not ${count}`, node);
  if (values !== node.nr_values) fault(`values ${node.nr_values}, not ${values}`, node);
  if (node.array !== xa) fault("foreign node", node);
}

/**
 * Counts, links, marks and height of the whole tree; throws what it finds. A split may leave a root
 * with one child: `lowest` false allows that.
 */
export function check_tree(xa: xarray, lowest = true): void {
  const head = xa.xa_head;
  if (xa.xa_root !== (xa_is_node(head) ? head : null)) throw new Error("tree: xa_root");
  if (!xa_is_node(head)) return;
  if (head.parent !== null) fault("root with a parent", head);
  check_node(xa, head);
  const only = xa_slot(head, 0);
  if (lowest && head.count === 1 && only !== null && (head.shift === 0 || xa_is_node(only))) {
    fault("root not needed", head);
  }
  for (const mark of [XA_MARK_0, XA_MARK_1, XA_MARK_2]) {
    if (xa_marked(xa, mark) !== node_any_mark(head, mark)) fault(`mark ${mark} of head`, head);
  }
}

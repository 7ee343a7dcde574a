/**
 * kernel/locking/lockdep/graph.ts - paths in the graph of classes that can deadlock. Linux: __bfs()
 * in kernel/locking/lockdep.c.
 *
 * A path is strong if no edge that only ends in a recursive read is followed by one that only
 * starts from a shared hold: a recursive reader does not wait for other readers. Only strong cycles
 * can deadlock. A class reached weakly (its last edge has only -(*R)->) is searched again when it
 * is reached strongly; Linux searches each class once and can miss such a cycle.
 */
import { type dep_class, type dep_edge, DEP_EN, DEP_ER, DEP_SN } from "./classes.ts";

/** A class on a path from the start of a search. */
export interface path_node {
  readonly cls: dep_class;
  /** The edge that led here; null at the start. */
  readonly edge: dep_edge | null;
  readonly parent: path_node | null;
  /** Forwards: the way here ends in recursive reads only. Backwards: it starts shared only. */
  readonly weak: boolean;
}

export type path_test = (node: path_node) => boolean;

const STARTS_EXCLUSIVE = DEP_ER | DEP_EN;
const ENDS_NON_RECURSIVE = DEP_SN | DEP_EN;

export class dep_graph {
  private searches = 0;

  edge(outer: dep_class, inner: dep_class): dep_edge | null {
    const list = outer.after;
    if (list === null) return null;
    for (let i = 0; i < list.length; i++) if (list[i]!.inner === inner) return list[i]!;
    return null;
  }

  add(edge: dep_edge): dep_edge {
    (edge.outer.after ??= []).push(edge);
    (edge.inner.before ??= []).push(edge);
    return edge;
  }

  /** Shortest strong path from `start` along the edges to a class that `match` accepts. */
  forwards(start: dep_class, weak: boolean, match: path_test, skip?: path_test): path_node | null {
    return this.search(start, weak, true, match, skip);
  }

  /** The same against the direction of the edges. */
  backwards(start: dep_class, weak: boolean, match: path_test, skip?: path_test): path_node | null {
    return this.search(start, weak, false, match, skip);
  }

  private search(
    start: dep_class,
    weak: boolean,
    forward: boolean,
    match: path_test,
    skip: path_test | undefined,
  ): path_node | null {
    const search = ++this.searches;
    const queue: path_node[] = [{ cls: start, edge: null, parent: null, weak }];
    start.search = search;
    start.search_weak = weak;
    for (let i = 0; i < queue.length; i++) {
      const node = queue[i]!;
      if (skip?.(node)) continue;
      if (match(node)) return node;
      const edges = forward ? node.cls.after : node.cls.before;
      if (edges === null) continue;
      for (const edge of edges) this.step(queue, node, edge, forward, search);
    }
    return null;
  }

  private step(
    queue: path_node[],
    parent: path_node,
    edge: dep_edge,
    forward: boolean,
    search: number,
  ): void {
    const must = forward ? STARTS_EXCLUSIVE : ENDS_NON_RECURSIVE;
    const kinds = parent.weak ? edge.kinds & must : edge.kinds;
    if (kinds === 0) return;
    const weak = (kinds & (forward ? ENDS_NON_RECURSIVE : STARTS_EXCLUSIVE)) === 0;
    const cls = forward ? edge.inner : edge.outer;
    if (cls.search === search && (weak || !cls.search_weak)) return;
    cls.search = search;
    cls.search_weak = weak;
    queue.push({ cls, edge, parent, weak });
  }
}

/** The edges of a path, from the start of the search on. */
export function path_edges(node: path_node): dep_edge[] {
  const out: dep_edge[] = [];
  for (let n: path_node | null = node; n !== null; n = n.parent) {
    if (n.edge !== null) out.unshift(n.edge);
  }
  return out;
}

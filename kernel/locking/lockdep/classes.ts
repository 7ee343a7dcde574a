/**
 * kernel/locking/lockdep/classes.ts - what lockdep remembers: classes, edges between them, chains
 * already checked, and what each task holds. Linux: struct lock_class, lock_list, lock_chain and
 * held_lock. All of it hangs off the Machine.
 */
import type { lock_class_key } from "../../include/locks.ts";
import { LOCK_READ, LOCK_READ_RECURSIVE, type task_struct } from "../../sched/task.ts";
import type { lock_base } from "../lock.ts";
import { LD_WAIT_CONFIG, LD_WAIT_SPIN, type lock_traits } from "../traits.ts";

/** Kinds of edge: holder shared or exclusive, then acquirer recursive reader or not. */
export const DEP_SR = 1 << 0;
export const DEP_ER = 1 << 1;
export const DEP_SN = 1 << 2;
export const DEP_EN = 1 << 3;

/** How a lock is held: exclusively, shared, or shared by a reader that may nest in itself. */
export const EXCLUSIVE = 0;
export const SHARED = 1;
export const SHARED_RECURSIVE = 2;

export function dep_kind(outer_read: number, inner_read: number): number {
  const exclusive = outer_read === EXCLUSIVE;
  if (inner_read === SHARED_RECURSIVE) return exclusive ? DEP_ER : DEP_SR;
  return exclusive ? DEP_EN : DEP_SN;
}

/** Outer class held while inner class was acquired. */
export interface dep_edge {
  readonly outer: dep_class;
  readonly inner: dep_class;
  /** DEP_* of all sightings. */
  kinds: number;
  /** False: only the table of the lock order says so. */
  seen: boolean;
  /** Where the table says it is from, "" for a sighting. */
  why: string;
  /** First sighting: "dd (pid 7)", and the call chain that acquired `inner`, if recorded. */
  by: string;
  site: string | null;
  modes: string;
}

export class dep_class {
  readonly key: lock_class_key;
  readonly subclass: number;
  /** Small, for chains: 1, 2, ... */
  readonly id: number;
  readonly inner: number;
  readonly outer: number;
  readonly percpu: boolean;
  readonly check: boolean;
  readonly queued_read: boolean;
  /** Usage bits, see usage.ts. */
  usage = 0;
  /** Who set each usage bit, and where, by bit number. */
  usage_by: (task_struct | null)[] | null = null;
  after: dep_edge[] | null = null;
  before: dep_edge[] | null = null;
  /** Last search that came here, and whether only by recursive reads. */
  search = 0;
  search_weak = false;

  constructor(
    key: lock_class_key,
    subclass: number,
    id: number,
    traits: lock_traits,
    raw_nesting: boolean,
  ) {
    this.key = key;
    this.subclass = subclass;
    this.id = id;
    this.inner = wait_type(traits.inner, raw_nesting);
    this.outer = wait_type(traits.outer, raw_nesting);
    this.percpu = traits.percpu;
    this.check = traits.check;
    this.queued_read = traits.queued_read;
  }

  /** "&inode->i_rwsem/1": the subclass as the kernel writes it. */
  get name(): string {
    return this.subclass === 0 ? this.key.name : `${this.key.name}/${this.subclass}`;
  }
}

function wait_type(type: number, raw_nesting: boolean): number {
  return type === LD_WAIT_CONFIG && !raw_nesting ? LD_WAIT_SPIN : type;
}

/** A sequence of held classes; the root stands for nothing held. */
export class chain_node {
  /** Class id and read mode of the last lock. */
  readonly id: number;
  /** The last lock was checked against those before it. */
  checked = false;
  private last: chain_node | null = null;
  private rest: Map<number, chain_node> | null = null;

  constructor(id: number) {
    this.id = id;
  }

  next(id: number): chain_node {
    const last = this.last;
    return last !== null && last.id === id ? last : this.next_slow(id);
  }

  private next_slow(id: number): chain_node {
    let node = this.rest?.get(id);
    if (node === undefined) {
      node = new chain_node(id);
      if (this.last !== null) {
        this.rest ??= new Map([[this.last.id, this.last]]);
        this.rest.set(id, node);
      }
    }
    this.last = node;
    return node;
  }
}

/** One entry of a task's stack. Slots are reused. */
export interface dep_held {
  lock: lock_base;
  cls: dep_class;
  read: number;
  trylock: boolean;
  /** Interrupt context it was taken in; chains do not cross contexts. */
  context: number;
  /** Strictest inner wait type of this lock and those below it in its context. */
  inner: number;
  nest: lock_base | null;
  /** Locks of one class under one nest lock share an entry: how many, 0 for one. */
  references: number;
  /** The chain below it. */
  chain: chain_node;
  site: string | null;
}

/** What lockdep knows of a task: task.dep_state. */
export class dep_task {
  readonly task: task_struct;
  readonly held: dep_held[] = [];
  depth = 0;
  chain: chain_node;
  context = 0;
  /** Wait type of the interrupt context itself. */
  context_inner = 0;
  /** Usage bits that a lock gets now when taken for reading or not, by trylock or not. */
  read_usage = 0;
  read_try_usage = 0;
  usage = 0;
  try_usage = 0;

  constructor(task: task_struct, root: chain_node) {
    this.task = task;
    this.chain = root;
  }
}

/** EXCLUSIVE, SHARED or SHARED_RECURSIVE from a mode of sched/task.ts. */
export function read_of(mode: number): number {
  if (mode === LOCK_READ) return SHARED;
  return mode === LOCK_READ_RECURSIVE ? SHARED_RECURSIVE : EXCLUSIVE;
}

export function mode_text(read: number, trylock = false): string {
  const mode = read === EXCLUSIVE ? "" : read === SHARED ? "read" : "recursive read";
  if (!trylock) return mode;
  return mode === "" ? "trylock" : `${mode}, trylock`;
}

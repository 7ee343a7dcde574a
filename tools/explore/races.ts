/**
 * tools/explore/races.ts - the order that the steps of a run must keep, and the pairs whose order
 * could have been the other way.
 *
 * Step i comes before step j if they are of one task, if i wakes or makes the task of j, if they
 * touch one object that one of them changes, or by way of others (vector clocks, one slot a task).
 */
export interface causal_step {
  readonly pid: number;
  /** Objects, and whether the step changes them. */
  readonly touched: Map<object, boolean>;
  /** Tasks that this step made able to run. */
  readonly woke: number[];
  /** Tasks that time or code outside made able to run after this step. */
  readonly after_all: number[];
}

export interface race {
  /** The earlier step. */
  before: number;
  /** Tasks that may go first in a run where the later step comes before the earlier one. */
  initials: number[];
}

interface ordered {
  /** Per task, the last step that comes before this one or is it, plus one; 0: none. */
  readonly clock: number[];
  /** Slot of the task in the clocks. */
  readonly slot: number;
  /** Steps that race with this one. */
  readonly rivals: number[];
}

interface object_history {
  write: number;
  /** Last read of each task since. */
  reads: Map<number, number>;
}

function join(into: number[], from: readonly number[]): void {
  for (let i = 0; i < from.length; i++) {
    if (from[i]! > (into[i] ?? 0)) into[i] = from[i]!;
  }
}

function knows(clock: readonly number[], slot: number, step: number): boolean {
  return (clock[slot] ?? 0) > step;
}

class order_builder {
  readonly out: ordered[] = [];
  private readonly slots = new Map<number, number>();
  private readonly last = new Map<number, number>();
  private readonly pending = new Map<number, number[]>();
  private readonly history = new Map<object, object_history>();
  private readonly everything: number[] = [];

  add(step: causal_step, index: number): void {
    const slot = this.slot_of(step.pid);
    const clock: number[] = [];
    const previous = this.last.get(step.pid);
    if (previous !== undefined) join(clock, this.out[previous]!.clock);
    const woken_by = this.pending.get(step.pid);
    if (woken_by !== undefined) join(clock, woken_by);
    this.pending.delete(step.pid);
    const rivals = this.rivals(step, slot, clock);
    for (const r of rivals) join(clock, this.out[r]!.clock);
    clock[slot] = index + 1;
    for (let i = 0; i < clock.length; i++) clock[i] ??= 0;
    this.out.push({ clock, slot, rivals });
    this.last.set(step.pid, index);
    this.remember(step, index);
    join(this.everything, clock);
    for (const pid of step.woke) this.order_after(pid, clock);
    for (const pid of step.after_all) this.order_after(pid, this.everything);
  }

  private slot_of(pid: number): number {
    let slot = this.slots.get(pid);
    if (slot === undefined) {
      slot = this.slots.size;
      this.slots.set(pid, slot);
    }
    return slot;
  }

  private order_after(pid: number, clock: readonly number[]): void {
    const p = this.pending.get(pid) ?? [];
    join(p, clock);
    this.pending.set(pid, p);
  }

  /** Earlier dependent steps of other tasks that nothing already puts before this one. */
  private rivals(step: causal_step, slot: number, clock: readonly number[]): number[] {
    const near = new Set<number>();
    const note = (i: number): void => {
      const o = this.out[i]!;
      if (o.slot !== slot && !knows(clock, o.slot, i)) near.add(i);
    };
    for (const [object, write] of step.touched) {
      const h = this.history.get(object);
      if (h === undefined) continue;
      if (h.write >= 0) note(h.write);
      if (write) for (const i of h.reads.values()) note(i);
    }
    const list = [...near].sort((a, b) => b - a);
    return list.filter((i) => {
      const o = this.out[i]!;
      return !list.some((k) => k !== i && knows(this.out[k]!.clock, o.slot, i));
    });
  }

  private remember(step: causal_step, index: number): void {
    for (const [object, write] of step.touched) {
      let h = this.history.get(object);
      if (h === undefined) {
        h = { write: -1, reads: new Map() };
        this.history.set(object, h);
      }
      if (write) {
        h.write = index;
        h.reads.clear();
      } else {
        h.reads.set(step.pid, index);
      }
    }
  }
}

/**
 * Tasks whose first step among those after `e` that do not come after `e`, up to `later`, has none
 * of these before it.
 */
function initials_of(
  steps: readonly causal_step[],
  order: readonly ordered[],
  e: number,
  later: number,
): number[] {
  const e_slot = order[e]!.slot;
  const firsts: { slot: number; step: number }[] = [];
  const out: number[] = [];
  for (let i = e + 1; i <= later; i++) {
    const o = order[i]!;
    // The later step itself may come first although it now comes after `e`.
    if (i !== later && knows(o.clock, e_slot, e)) continue;
    const mine = firsts.some((f) => f.slot === o.slot);
    if (!mine && !firsts.some((f) => knows(o.clock, f.slot, f.step))) out.push(steps[i]!.pid);
    if (!mine) firsts.push({ slot: o.slot, step: i });
  }
  return out;
}

/** The races whose later step is at `from` or behind it. */
export function find_races(steps: readonly causal_step[], from: number): race[] {
  const b = new order_builder();
  for (let i = 0; i < steps.length; i++) b.add(steps[i]!, i);
  const out: race[] = [];
  for (let i = from; i < steps.length; i++) {
    for (const e of b.out[i]!.rivals) {
      out.push({ before: e, initials: initials_of(steps, b.out, e, i) });
    }
  }
  return out;
}

/** Which steps come before which, as text: equal for two runs of one Mazurkiewicz trace. */
export function trace_of(steps: readonly causal_step[]): string {
  const b = new order_builder();
  for (let i = 0; i < steps.length; i++) b.add(steps[i]!, i);
  const nth: string[] = [];
  const count = new Map<number, number>();
  for (const s of steps) {
    const n = (count.get(s.pid) ?? 0) + 1;
    count.set(s.pid, n);
    nth.push(`${s.pid}.${n}`);
  }
  const lines = steps.map((_s, i) => {
    const before = b.out[i]!.clock.filter((c, k) => c > 0 && k !== b.out[i]!.slot);
    return `${nth[i]}<${before
      .map((c) => nth[c - 1])
      .sort()
      .join(",")}`;
  });
  return lines.sort().join(" ");
}

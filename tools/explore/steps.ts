/**
 * tools/explore/steps.ts - what each step of a run touched and whom it woke: the input of
 * partial-order reduction.
 */
import type { Machine } from "../../kernel/machine.ts";
import type { SchedObserver } from "../../kernel/sched/strategy.ts";
import type { task_struct, waitable } from "../../kernel/sched/task.ts";
import { type causal_step, trace_of } from "./races.ts";
import type { explore_strategy } from "./strategy.ts";
import { is_read, listen_to_locks } from "./touch.ts";

/** What a step touches, comparable between runs: object key to "changes it". */
export type footprint = ReadonlyMap<number | string, boolean>;

export interface logged_step extends causal_step {
  readonly prints: Map<number | string, boolean>;
}

export function independent(a: footprint, b: footprint): boolean {
  const [few, many] = a.size < b.size ? [a, b] : [b, a];
  for (const [key, write] of few) {
    const other = many.get(key);
    if (other !== undefined && (write || other)) return false;
  }
  return true;
}

export class StepLog implements SchedObserver {
  readonly steps: logged_step[] = [];
  private machine: Machine | null = null;
  private objects_before = 0;
  private readonly on_alone: (t: task_struct) => void;

  /** `on_alone`: nobody else could run; opens the next step. */
  constructor(on_alone?: (t: task_struct) => void) {
    this.on_alone = on_alone ?? ((t) => this.open(t));
  }

  reset(): void {
    this.steps.length = 0;
    this.machine = null;
  }
  attach(m: Machine): void {
    this.machine = m;
    this.objects_before = m.nr_objects;
    m.sched.observer = this;
    listen_to_locks(m, {
      acquired: (_t, lock, mode) => this.touch(lock, !is_read(mode)),
      contended: (_t, lock) => this.touch(lock, true),
      released: (_t, lock, mode) => this.touch(lock, !is_read(mode)),
    });
  }
  detach(): void {
    if (this.machine !== null) this.machine.sched.observer = null;
  }

  open(t: task_struct): task_struct {
    this.steps.push({ pid: t.pid, touched: new Map(), woke: [], after_all: [], prints: new Map() });
    return t;
  }

  alone(t: task_struct): void {
    if (t.kernel.sched.running) this.on_alone(t);
  }

  touch(object: object, write: boolean): void {
    const step = this.steps[this.steps.length - 1];
    // what the scenario looks at when the run is over belongs to no step
    if (step === undefined || !this.machine!.sched.running) return;
    const seen = step.touched.get(object);
    if (seen === true || seen === write) return;
    step.touched.set(object, write);
    const key = this.key_of(object);
    step.prints.set(key, write || step.prints.get(key) === true);
  }

  private key_of(object: object): number | string {
    const o = object as { seq?: number; lock_name?: string; pid?: number; pfn?: number };
    if (o.seq !== undefined && o.seq < this.objects_before) return o.seq;
    if (o.pid !== undefined) return `pid ${o.pid}`;
    if (o.pfn !== undefined) return `pfn ${o.pfn}`;
    return o.lock_name ?? "an object";
  }

  woken(t: task_struct, on: waitable | null): void {
    const step = this.steps[this.steps.length - 1];
    if (step === undefined) return;
    const sched = t.kernel.sched;
    if (sched.current === sched.swapper) {
      step.after_all.push(t.pid);
      return;
    }
    if (on !== null) this.touch(on, true);
    step.woke.push(t.pid);
  }
}

/** Counts the Mazurkiewicz traces among the schedules of `inner`, to check a reduction against. */
export class TraceCounter implements explore_strategy {
  readonly name: string;
  readonly traces = new Set<string>();
  private readonly inner: explore_strategy;
  private readonly log = new StepLog();

  constructor(inner: explore_strategy) {
    this.inner = inner;
    this.name = inner.name;
  }
  begin(n: number): boolean {
    this.log.reset();
    return this.inner.begin(n);
  }
  attach(m: Machine): void {
    this.inner.attach?.(m);
    this.log.attach(m);
  }
  end(): void {
    this.log.detach();
    this.inner.end?.();
    this.traces.add(trace_of(this.log.steps));
  }
  complete(): boolean {
    return this.inner.complete?.() ?? false;
  }
  new_execution(): void {
    this.inner.new_execution();
  }
  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    return this.log.open(this.inner.next_task(runnable, current, yielding));
  }
  next_u64(): number {
    return this.inner.next_u64();
  }
}

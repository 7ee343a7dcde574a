/**
 * tools/explore/story.ts - a schedule told: who ran, what it took, where it stopped; then the
 * report.
 */
import { describe_deadlock } from "../../kernel/locking/describe.ts";
import type { lock_base } from "../../kernel/locking/lock.ts";
import type { deadlock_report } from "../../kernel/locking/report.ts";
import type { Machine } from "../../kernel/machine.ts";
import type { SchedObserver } from "../../kernel/sched/strategy.ts";
import {
  LOCK_READ,
  LOCK_READ_RECURSIVE,
  LOCK_WRITE,
  TASK_BLOCKED,
  TASK_DEAD,
  type task_struct,
  type waitable,
} from "../../kernel/sched/task.ts";
import type { scenario } from "../api/scenario.ts";
import { type outcome, run_once, type run_options } from "./run.ts";
import { replay_explorer } from "./strategies.ts";
import { listen_to_locks } from "./touch.ts";

export type deed =
  | "calls"
  | "takes"
  | "wants"
  | "releases"
  | "wakes"
  | "starts"
  | "reads"
  | "writes"
  | "sleeps";

export interface chapter {
  pid: number;
  comm: string;
  /** What it did while it had the baton, in order. */
  deeds: { deed: deed | "ends"; what: string }[];
}

export interface story {
  verdict: outcome["verdict"];
  text: string;
  chapters: chapter[];
  report: deadlock_report | null;
}

function name_of(w: { lock_name: string; label(): string }): string {
  const label = w.label();
  return label === "" ? w.lock_name : `${w.lock_name} of ${label}`;
}

function mode_text(mode: number): string {
  if (mode === LOCK_READ || mode === LOCK_READ_RECURSIVE) return " (read)";
  return mode === LOCK_WRITE ? " (write)" : "";
}

class Teller implements SchedObserver {
  readonly chapters: chapter[] = [];
  private machine: Machine | null = null;
  private last: task_struct | null = null;
  /** The system call that each task was last seen in. */
  private readonly calls = new Map<task_struct, string>();

  watch(m: Machine): void {
    this.machine = m;
    m.sched.observer = this;
    listen_to_locks(m, {
      acquired: (t, lock, mode) => this.lock(t, "takes", lock, mode),
      contended: (t) => this.contended(t),
      released: (t, lock, mode) => this.lock(t, "releases", lock, mode),
    });
  }

  /** The baton goes to `next`. */
  step(next: task_struct): void {
    this.close();
    if (next !== this.last) this.chapters.push({ pid: next.pid, comm: next.comm, deeds: [] });
    this.last = next;
  }
  /** How the last one ended its turn. */
  close(): void {
    const t = this.last;
    if (t === null) return;
    if (t.state === TASK_DEAD) this.add(t, "ends", "");
    const deeds = this.chapters[this.chapters.length - 1]!.deeds;
    const wanted = deeds.length > 0 && deeds[deeds.length - 1]!.deed === "wants";
    if (t.state === TASK_BLOCKED && !wanted) this.add(t, "sleeps", name_of(t.waiting_on!));
  }

  /** While it runs; what the scenario does before and after is no part of the story. */
  private note(t: task_struct, deed: deed, what: string): void {
    if (!this.machine!.sched.running) return;
    this.note_call(t);
    this.add(t, deed, what);
  }
  private note_call(t: task_struct): void {
    if (t.syscall === (this.calls.get(t) ?? "")) return;
    this.calls.set(t, t.syscall);
    if (t.syscall !== "") this.add(t, "calls", `${t.syscall}()`);
  }
  private add(t: task_struct, deed: deed | "ends", what: string): void {
    const c = this.chapters[this.chapters.length - 1];
    if (c === undefined || c.pid !== t.pid) return;
    const before = c.deeds[c.deeds.length - 1];
    if (before?.deed === deed && before.what === what) return;
    c.deeds.push({ deed, what });
  }
  private lock(t: task_struct, deed: deed, lock: lock_base, mode: number): void {
    if ((lock as { spins?: boolean }).spins === true) return;
    this.note(t, deed, name_of(lock) + mode_text(mode));
  }
  private contended(t: task_struct): void {
    const c = this.chapters[this.chapters.length - 1];
    const deed = c?.deeds[c.deeds.length - 1];
    if (c?.pid === t.pid && deed?.deed === "takes") deed.deed = "wants";
  }

  alone(): void {}
  touch(object: object, write: boolean): void {
    const o = object as { lock_name?: string; peek?: unknown };
    if (this.machine!.sched.running) this.note_call(this.machine!.sched.current);
    if (o.peek === undefined) return;
    this.note(this.machine!.sched.current, write ? "writes" : "reads", o.lock_name!);
  }
  woken(t: task_struct, on: waitable | null): void {
    this.note(this.machine!.sched.current, on === null ? "starts" : "wakes", t.toString());
  }
}

/** Runs `choices` again and tells it. */
export async function tell(
  s: scenario,
  choices: readonly number[],
  options: run_options = {},
): Promise<{ story: story; outcome: outcome; misfit: number }> {
  const teller = new Teller();
  const strategy = new replay_explorer(choices);
  const on_boot = (m: Machine): void => {
    options.on_boot?.(m);
    teller.watch(m);
  };
  const on_step = (t: task_struct): void => teller.step(t);
  const outcome = await run_once(s, strategy, { ...options, on_boot, on_step });
  teller.close();
  const { verdict, text, report } = outcome;
  const story = { verdict, text, chapters: teller.chapters, report };
  return { story, outcome, misfit: strategy.misfit };
}

const HEADLINE: Readonly<Record<string, string>> = Object.freeze({
  bug: "KERNEL BUG",
  failed: "FAILED",
  limit: "NO END",
  foreign: "STUCK OUTSIDE",
  nondeterministic: "NOT DETERMINISTIC",
});

/** How a run ended, as text: "" for one that went well. */
export function ending_text(o: Pick<outcome, "verdict" | "text" | "report">): string {
  if (o.report !== null) return describe_deadlock(o.report);
  if (o.verdict === "ok") return "";
  if (o.verdict === "lockdep") return o.text.trimEnd();
  return `${HEADLINE[o.verdict] ?? o.verdict}: ${o.text.trimEnd()}`;
}

/** The whole story as text, without a final newline. */
export function story_text(s: story): string {
  const out: string[] = [];
  for (const [i, c] of s.chapters.entries()) {
    out.push(`${String(i + 1).padStart(3)}. ${c.comm} (pid ${c.pid})`);
    for (const d of c.deeds) {
      const tail = d.deed === "wants" ? ", and sleeps" : "";
      const verb = d.deed === "sleeps" ? "waits for" : d.deed;
      out.push(`       ${verb.padEnd(9)} ${d.what}${tail}`.trimEnd());
    }
    if (c.deeds.length === 0) out.push("       goes on");
  }
  const end = ending_text(s);
  if (end !== "") out.push("", end);
  return out.join("\n");
}

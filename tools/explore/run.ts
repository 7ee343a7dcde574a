/**
 * tools/explore/run.ts - one schedule of one scenario, and how it ended.
 */
import { KernelBug } from "../../kernel/assert.ts";
import {
  Deadlock,
  type deadlock_report,
  Hang,
  hang_error,
  StepLimit,
} from "../../kernel/locking/report.ts";
import type { Machine } from "../../kernel/machine.ts";
import { boot_scenario, type scenario } from "../api/scenario.ts";
import { Recorder, type recorder_options } from "./recorder.ts";
import { type explore_strategy, Nondeterminism, Pruned } from "./strategy.ts";

/**
 * deadlock: tasks wait for each other. hang: tasks sleep and nobody is left who could wake them (a
 * lost wake-up). bug: the kernel's own checks. lockdep: no harm done, but an order of locks that
 * can. failed: the scenario threw (an assertion, an invariant). limit: too many steps (livelock).
 * foreign: waits for something outside the Machine. pruned: given up as a repetition.
 */
export type verdict =
  | "ok"
  | "deadlock"
  | "hang"
  | "bug"
  | "lockdep"
  | "failed"
  | "limit"
  | "foreign"
  | "nondeterministic"
  | "pruned";

export interface outcome {
  verdict: verdict;
  /** What went wrong, in words; "" if nothing did. */
  text: string;
  /** Of a deadlock or hang. */
  report: deadlock_report | null;
  /** See encode.ts. */
  choices: number[];
  /** Choices up to the report, or to the end. */
  steps: number;
  switches: number;
  /** What the body returned. */
  value: unknown;
}

export interface run_options extends recorder_options {
  seed?: number;
  switches?: readonly string[];
  stacks?: boolean;
  /** Validate the order of locks too. */
  lockdep?: boolean;
  /** Called with the machine before the body runs. */
  on_boot?: (m: Machine) => void;
  /**
   * Lets the host's event loop turn once, after which every promise that can be settled is: how a
   * run whose body waits for ever is told from one that goes on. Without it such a run never ends.
   */
  turn?: () => Promise<void>;
}

type ending = { value: unknown } | { error: unknown };

async function body_of(s: scenario, m: Machine, on: ReadonlySet<string>): Promise<ending> {
  try {
    const value = await s.body(m as Parameters<scenario["body"]>[0], on);
    await m.settle();
    return { value };
  } catch (error) {
    return { error };
  }
}

const TURNS = 3;

/** The body's end, or null when it waits for something that will not come. */
async function watched(body: Promise<ending>, turn: () => Promise<void>): Promise<ending | null> {
  let end: ending | null = null;
  void body.then((e) => {
    end = e;
  });
  for (let i = 0; i < TURNS && end === null; i++) await turn();
  return end;
}

function stuck(m: Machine): unknown {
  const hung = m.sched.hung_tasks();
  if (hung.length > 0) return hang_error(m.sched, hung);
  return new Error(m.sched.foreign() ?? "the scenario awaits something outside the Machine");
}

export async function run_once(
  s: scenario,
  strategy: explore_strategy,
  options: run_options = {},
): Promise<outcome> {
  const recorder = new Recorder(strategy, options);
  const m = await boot_scenario(s, {
    strategy: recorder,
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    ...(options.stacks ? { stacks: true } : {}),
    ...(options.lockdep ? { lockdep: true } : {}),
  });
  const orders: { text: string }[] = [];
  if (m.lockdep !== null) m.events.on("lockdep", (r: { text: string }) => orders.push(r));
  m.sched.calls_in_turn = true;
  options.on_boot?.(m);
  const body = body_of(s, m, new Set(options.switches));
  const end = options.turn ? await watched(body, options.turn) : await body;
  strategy.end?.();
  const problem = strategy.problem?.();
  const out = judge(m, problem ? { error: problem } : (end ?? { error: stuck(m) }), end === null);
  if (out.verdict === "ok" && orders.length > 0) {
    out.verdict = "lockdep";
    out.text = orders[0]!.text;
  }
  const choices = recorder.choices;
  const steps = recorder.reported_at >= 0 ? recorder.reported_at : choices.length;
  return { ...out, choices, steps, switches: recorder.switches };
}

type judged = Pick<outcome, "verdict" | "text" | "report" | "value">;

function judge(m: Machine, end: ending, waiting: boolean): judged {
  const found = m.reports[0];
  if (!("error" in end)) {
    if (found !== undefined) return { ...of_report(found), value: end.value };
    const text = m.kernels.some((k) => k.nr_warnings > 0)
      ? m.kernels.map((k) => k.dmesg_text()).join("")
      : "";
    return { verdict: text === "" ? "ok" : "bug", text, report: null, value: end.value };
  }
  const e = end.error;
  const value = undefined;
  const plain = (verdict: verdict): judged => ({ verdict, text: message(e), report: null, value });
  if (e instanceof Pruned) return plain("pruned");
  if (e instanceof Nondeterminism) return plain("nondeterministic");
  if (e instanceof Deadlock || e instanceof Hang) return { ...of_report(e.report), value };
  if (found !== undefined) return { ...of_report(found), value };
  if (e instanceof StepLimit) return plain("limit");
  if (e instanceof KernelBug) return plain("bug");
  return plain(waiting ? "foreign" : "failed");
}

function of_report(report: deadlock_report): Omit<judged, "value"> {
  return { verdict: report.kind, text: "", report };
}

function message(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}

/** What two outcomes must have in common to count as the same finding. */
export function signature(o: outcome): string {
  const r = o.report;
  if (r === null) return `${o.verdict}: ${o.text.replace(/\d+/g, "N")}`;
  const core = r.kind === "deadlock" ? r.tasks.slice(0, r.cycle.length) : r.tasks;
  const waits = core.map((t) => `${t.comm} waits for ${t.waits?.lock ?? "nothing"}`).sort();
  return `${o.verdict}: ${waits.join("; ")}`;
}

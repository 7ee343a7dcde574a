/** tests/lib/explore.ts - exploring in tests: the set of all outcomes of a small scenario. */
import { scenario, type scenario as scenario_t } from "../../tools/api/scenario.ts";
import type { Machine } from "../../tools/api/machine.ts";
import { encode_choices } from "../../tools/explore/encode.ts";
import {
  type exploration,
  explore,
  type explore_options,
  type strategy_name,
} from "../../tools/explore/explore.ts";
import type { outcome } from "../../tools/explore/run.ts";

export const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** A scenario on a kernel without devices. */
export function model(body: (m: Machine, on: ReadonlySet<string>) => unknown): scenario_t {
  return scenario({ bare: true }, body);
}

/** What the body returned, or how the run ended instead. */
export function outcome_text(o: outcome): string {
  if (o.verdict !== "ok") return o.verdict === "failed" ? `failed: ${o.text}` : o.verdict;
  return String(o.value);
}

export interface all_outcomes {
  /** Sorted. */
  outcomes: string[];
  result: exploration;
}

/** Every outcome that `strategy` meets; goes on after findings and does not minimise. */
export async function outcomes_of(
  s: scenario_t,
  strategy: strategy_name = "dpor",
  options: explore_options = {},
): Promise<all_outcomes> {
  const seen = new Set<string>();
  const result = await explore(s, {
    strategy,
    keep_going: true,
    minimise_runs: 0,
    turn,
    on_outcome: (o) => void seen.add(outcome_text(o)),
    ...options,
  });
  return { outcomes: [...seen].sort(), result };
}

/** @throws Error unless the outcomes of all schedules are exactly `allowed` */
export async function allow_exactly(
  s: scenario_t,
  allowed: readonly string[],
  options: explore_options = {},
): Promise<exploration> {
  const { outcomes, result } = await outcomes_of(s, "dpor", options);
  if (!result.complete) throw new Error(`not all schedules were explored: ${result.promise}`);
  const want = [...allowed].sort();
  if (JSON.stringify(outcomes) === JSON.stringify(want)) return result;
  throw new Error(`outcomes are\n    ${outcomes.join("\n    ")}\nnot\n    ${want.join("\n    ")}`);
}

/** The replay string of the first finding, for messages. */
export function replay_of(r: exploration): string {
  const f = r.findings[0];
  return f === undefined ? "no finding" : encode_choices(f.outcome.choices);
}

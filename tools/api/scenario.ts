/**
 * tools/api/scenario.ts - scenarios that can be run again: the same options and seed give the same
 * run.
 *
 *   export default scenario({ pmem: [{ size: "64M", mode: "fsdax" }] }, async (m) => { ... });
 *
 * Replay, reports with stacks, exploration and crash states all work by running the function again.
 * What exploration varies is the order in which tasks go on: system calls given at once (a
 * Promise.all over several processes), and the tasks made by m.spawn() and p.spawn() while `await
 * m.run()` is under way. What a scenario does one call after the other runs as ever.
 */
import { Deadlock, Hang } from "../../kernel/locking/report.ts";
import { Machine, type machine_options } from "./machine.ts";

/** What exploring a scenario is expected to end with. */
export type expected_verdict = "ok" | "deadlock" | "hang" | "bug" | "failed";

export interface scenario_options extends machine_options {
  /** One line: what it shows. */
  title?: string;
  /** A kernel without devices or filesystems, made in microseconds: for models built from locks. */
  bare?: boolean;
  /** Variants: name and what it changes. The body gets the names of those that are on. */
  switches?: Readonly<Record<string, string>>;
  /** For sets of switches, what exploration must find. */
  verdicts?: readonly expectation[];
}

/** What exploring all schedules with some switches on must find. */
export interface expectation {
  readonly with: readonly string[];
  readonly verdict: expected_verdict;
  /** Parts of the texts of all findings when exploration goes on after the first. */
  readonly findings?: readonly string[];
}

export interface scenario {
  readonly is_scenario: true;
  readonly options: scenario_options;
  readonly body: (m: Machine, on: ReadonlySet<string>) => unknown;
}

/** What a module's default export is when its scenario can be run again and again. */
export function scenario(
  options: scenario_options,
  body: (m: Machine, on: ReadonlySet<string>) => unknown,
): scenario {
  if (typeof body !== "function" || typeof options !== "object" || options === null) {
    throw new RangeError(
      "scenario(options, async (m) => { ... }): options come first, then a function",
    );
  }
  return Object.freeze({ is_scenario: true as const, options, body });
}

export function is_scenario(x: unknown): x is scenario {
  return (
    typeof x === "object" && x !== null && (x as { is_scenario?: unknown }).is_scenario === true
  );
}

export interface scenario_result {
  machine: Machine;
  /** What the body returned. */
  value: unknown;
}

/** The machine of a scenario, its body not yet begun. */
export async function boot_scenario(
  s: scenario,
  over: Partial<scenario_options> = {},
): Promise<Machine> {
  const { title, bare, switches, verdicts, ...options } = { ...s.options, ...over };
  return bare ? Machine.bare(options) : await Machine.boot(options);
}

/** Called with the machine of a run before the body begins: for reports and marks. */
type observer = (m: Machine) => void;

/** Runs a scenario once, `over` in place of its own options, the switches in `on` turned on. */
export async function run_scenario(
  s: scenario,
  over: Partial<scenario_options> = {},
  on: Iterable<string> = [],
  observe: observer | null = null,
): Promise<scenario_result> {
  const machine = await boot_scenario(s, over);
  observe?.(machine);
  const value = await s.body(machine, new Set(on));
  await machine.settle();
  return { machine, value };
}

/**
 * Runs a scenario; when it ends in a deadlock, a hang or a lockdep report it is run again with
 * stacks on, so that the report says where each lock was taken.
 */
export async function run_reported(
  s: scenario,
  observe: observer | null = null,
  over: Partial<scenario_options> = {},
): Promise<scenario_result> {
  const again = (): Promise<scenario_result> =>
    run_scenario(s, { ...over, stacks: true }, [], observe);
  let r: scenario_result;
  try {
    r = await run_scenario(s, over, [], observe);
  } catch (e) {
    if (!(e instanceof Deadlock) && !(e instanceof Hang)) throw e;
    return await again();
  }
  const { lockdep, stacks } = r.machine;
  return lockdep === null || lockdep.reports.length === 0 || stacks ? r : await again();
}

/**
 * The machine of a scenario at a point, restored by running it again up to there: the body says
 * `await m.mark("name")` at that point, and is left waiting there. No live object is ever copied.
 * @throws Error when the scenario ends without reaching the mark
 */
export async function checkpoint(
  s: scenario,
  name: string,
  over: Partial<scenario_options> = {},
): Promise<Machine> {
  return await new Promise<Machine>((resolve, reject) => {
    const stop_there: observer = (m) => {
      m.at_mark = (reached) => {
        if (reached !== name) return undefined;
        resolve(m);
        return new Promise(() => undefined);
      };
    };
    run_scenario(s, over, [], stop_there).then(
      () => reject(new Error(`the scenario ended without reaching the mark "${name}"`)),
      reject,
    );
  });
}

/**
 * tools/api/scenario.ts - scenarios that can be run again: the same options and seed give the same
 * run.
 *
 *   export default scenario({ pmem: [{ size: "64M", mode: "fsdax" }] }, async (m) => { ... });
 *
 * Replay, reports with stacks, exploration and crash states all work by running the function again.
 */
import { Deadlock, Hang } from "../../kernel/locking/report.ts";
import { Machine, type machine_options } from "./machine.ts";

export type scenario_options = machine_options;

export interface scenario {
  readonly is_scenario: true;
  readonly options: scenario_options;
  readonly body: (m: Machine) => unknown;
}

/** What a module's default export is when its scenario can be run again and again. */
export function scenario(options: scenario_options, body: (m: Machine) => unknown): scenario {
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

/** Runs a scenario once, `over` in place of its own options. `observe` gets the machine first. */
export async function run_scenario(
  s: scenario,
  over: Partial<scenario_options> = {},
  observe: (m: Machine) => void = () => undefined,
): Promise<scenario_result> {
  const machine = await Machine.boot({ ...s.options, ...over });
  observe(machine);
  const value = await s.body(machine);
  await machine.settle();
  return { machine, value };
}

/**
 * Runs a scenario; when it ends in a deadlock or a hang it is run again with stacks on, so that the
 * report says where each lock was taken.
 */
export async function run_reported(
  s: scenario,
  observe: (m: Machine) => void = () => undefined,
): Promise<scenario_result> {
  try {
    return await run_scenario(s, {}, observe);
  } catch (e) {
    if (!(e instanceof Deadlock) && !(e instanceof Hang)) throw e;
    return await run_scenario(s, { stacks: true }, observe);
  }
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
    const stop_there = (m: Machine): void => {
      m.at_mark = (reached) => {
        if (reached !== name) return undefined;
        resolve(m);
        return new Promise(() => undefined);
      };
    };
    run_scenario(s, over, stop_there).then(
      () => reject(new Error(`the scenario ended without reaching the mark "${name}"`)),
      reject,
    );
  });
}

/**
 * tools/cli/scenarios.ts - finds the scenario that explore and replay run, and prints what was
 * found.
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { is_scenario, type scenario } from "../api/scenario.ts";
import { encode_replay } from "../explore/encode.ts";
import type { exploration, finding } from "../explore/explore.ts";
import { story_text, tell } from "../explore/story.ts";
import type { story } from "../explore/story.ts";
import { user_error } from "./errors.ts";
import { check_file } from "./files.ts";
import { import_script } from "./script_loader.ts";

/** Lets the event loop turn once. */
export const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** "d1" is one of the project's own scenarios. */
function own_scenario(name: string): string | undefined {
  if (!/^[a-z][a-z0-9-]*$/.test(name)) return undefined;
  let dir = path.dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const file = path.join(dir, "tools/scenarios", `${name}.ts`);
    if (existsSync(file)) return file;
    const up = path.dirname(dir);
    if (up === dir) return undefined;
    dir = up;
  }
}

/** @throws user_error for a file that is no scenario, before running it if that can be seen */
export async function load_scenario(name: string): Promise<scenario> {
  const file = existsSync(name) ? name : (own_scenario(name) ?? name);
  if (!existsSync(file)) throw new user_error(`${name}: no such file, nor one of our scenarios`);
  check_file(file);
  const why =
    "it has to run again and again, so its default export must be a scenario: " +
    '`import { scenario } from "daxlab"; export default scenario({ ... }, async (m) => { ... });`';
  if (!/\bexport\b[^;]*\bdefault\b/.test(readFileSync(file, "utf8"))) {
    throw new user_error(`${name} is a script that runs once from top to bottom; ${why}`);
  }
  const module = await import_script(file);
  if (!is_scenario(module["default"])) throw new user_error(`${name} is no scenario; ${why}`);
  return module["default"];
}

/** @throws user_error naming the switches there are */
export function check_switches(s: scenario, switches: readonly string[]): void {
  const known = Object.keys(s.options.switches ?? {});
  for (const w of switches) {
    if (known.includes(w)) continue;
    const there = known.length > 0 ? `it has ${known.join(", ")}` : "it has none";
    throw new user_error(`the scenario has no switch "${w}": ${there}`);
  }
}

/** What `explore --json` prints, and merge reads. */
export interface explore_json extends Omit<exploration, "findings"> {
  scenario: string;
  switches: string[];
  machine_seed: number;
  lockdep: boolean;
  /** The parts in it, each "i/n" as given to --shard; "1/1" is all. */
  shards: string[];
  findings: (finding & { replay: string; story: story })[];
}

export interface explored {
  scenario: string;
  switches: string[];
  machine_seed: number;
  lockdep: boolean;
  shards: string[];
}

export async function with_stories(
  s: scenario,
  e: exploration,
  what: explored,
): Promise<explore_json> {
  const findings = [];
  for (const f of e.findings) {
    const choices = f.outcome.choices;
    const replay = encode_replay({
      scenario: what.scenario,
      switches: what.switches,
      seed: what.machine_seed,
      choices,
    });
    const { switches, machine_seed: seed, lockdep } = what;
    const options = { switches, seed, lockdep, turn };
    const told = await tell(s, choices, { ...options, stop_at_report: true });
    const outcome = { ...f.outcome, value: null };
    findings.push({ ...f, outcome, replay, story: told.story });
  }
  return { ...e, ...what, findings };
}

const plural = (n: number, one: string): string => `${n} ${one}${n === 1 ? "" : "s"}`;

function counts(e: explore_json): string {
  const list = Object.entries(e.verdicts).map(([verdict, n]) => `${n} ${verdict}`);
  const given_up = e.pruned > 0 ? `, ${e.pruned} given up as repetitions` : "";
  const all = e.complete ? "; these are all there are" : "";
  return `${plural(e.runs, "schedule")} (${list.join(", ")}${given_up}) by ${e.strategy}${all}`;
}

function finding_text(f: explore_json["findings"][number], lockdep: boolean): string {
  const o = f.outcome;
  const least = f.minimal ? "; none with fewer switches shows it" : "";
  const size = `${plural(Math.max(0, o.switches - 1), "context switch").replace(/hs$/, "hes")}`;
  return [
    "",
    `FOUND: ${f.verdict}, with ${size} in ${plural(o.steps, "choice")}${least}`,
    "",
    story_text(f.story),
    "",
    `again:  daxlab replay '${f.replay}'${lockdep ? " --lockdep" : ""}`,
  ].join("\n");
}

/** For people. */
export function exploration_text(e: explore_json): string {
  const on = e.switches.length > 0 ? ` with ${e.switches.join(", ")}` : "";
  const out = [
    `${e.scenario}${on}: ${counts(e)}`,
    ...e.findings.map((f) => finding_text(f, e.lockdep)),
  ];
  if (e.out_of_time) out.push("The time was over before the schedules were.");
  if (e.findings.length === 0 && e.promise !== "") out.push(e.promise);
  return out.join("\n");
}

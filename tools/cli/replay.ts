/** tools/cli/replay.ts - `daxlab replay STRING`. */
import type { Command } from "commander";
import { decode_replay, type replay } from "../explore/encode.ts";
import { story_text, tell } from "../explore/story.ts";
import { user_error } from "./errors.ts";
import { check_switches, load_scenario, turn } from "./scenarios.ts";

interface replay_options {
  stacks?: true;
  trace?: true;
  lockdep?: true;
  json?: true;
}

function parse(text: string): replay {
  try {
    return decode_replay(text);
  } catch (e) {
    throw new user_error((e as Error).message);
  }
}

interface traced {
  kernel?: { trace: { subscribe(fn: (e: { text(): string }) => void): unknown } };
}

async function run(text: string, o: replay_options): Promise<void> {
  const r = parse(text);
  const s = await load_scenario(r.scenario);
  check_switches(s, r.switches);
  const { story, misfit } = await tell(s, r.choices, {
    seed: r.seed,
    switches: r.switches,
    stacks: o.stacks === true,
    lockdep: o.lockdep === true,
    stop_at_report: true,
    turn,
    on_boot: (m) => {
      const show = (e: { text(): string }): unknown => process.stdout.write(`trace: ${e.text()}\n`);
      if (o.trace) (m as traced).kernel!.trace.subscribe(show);
    },
  });
  if (misfit >= 0) {
    process.stderr.write(
      `daxlab: choice ${misfit} of the string names a task that is not there: ` +
        "the scenario or the emulator is not the one that was explored\n",
    );
  }
  if (o.json) process.stdout.write(`${JSON.stringify(story, null, 2)}\n`);
  else {
    process.stdout.write(`${story_text(story)}\n`);
    if (story.verdict === "ok") process.stdout.write("\nNothing went wrong in this schedule.\n");
  }
  process.exitCode = story.verdict === "ok" ? 0 : 1;
}

export function register(program: Command): void {
  program
    .command("replay")
    .description("run one schedule of a scenario again and tell it")
    .argument("<string>", "as printed by explore: SCENARIO[+SWITCH...]:SEED:CHOICES")
    .option("--stacks", "say where in the source each lock was taken")
    .option("--trace", "show the kernel's trace events")
    .option("--lockdep", "judge the order of locks too")
    .option("--json", "print the story as JSON")
    .action(run);
}

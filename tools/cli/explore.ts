/** tools/cli/explore.ts - `daxlab explore SCENARIO.ts`. */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { type Command, Option } from "commander";
import type { scenario } from "../api/scenario.ts";
import {
  DEFAULT_RUNS,
  type exploration,
  explore,
  type explore_options,
  merge,
  STRATEGIES,
  type strategy_name,
} from "../explore/explore.ts";
import { dress_error, told_error, user_error } from "./errors.ts";
import { make_open_progress } from "./progress.ts";
import {
  check_switches,
  exploration_text,
  load_scenario,
  turn,
  with_stories,
} from "./scenarios.ts";
import { script_error } from "./script_error.ts";
import { in_script } from "./script_loader.ts";

const INTERRUPTED = 130;
const MAX_JOBS = 64;

interface cli_options {
  strategy: strategy_name;
  runs?: string;
  seed: string;
  machineSeed?: string;
  depth: string;
  with?: string[];
  jobs: string;
  shard?: string;
  seconds?: string;
  maxSteps?: string;
  lockdep?: true;
  twice?: true;
  keepGoing?: true;
  json?: true;
}

function whole(text: string, name: string, least: number): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || n < least) {
    throw new user_error(`${name}: "${text}" is no whole number of at least ${least}`);
  }
  return n;
}

function shard_of(text: string | undefined): { i: number; n: number } {
  const m = /^(\d+)\/(\d+)$/.exec(text ?? "1/1");
  if (m === null || +m[1]! < 1 || +m[1]! > +m[2]!) {
    throw new user_error(`--shard: "${text}" is not i/n with 1 <= i <= n`);
  }
  return { i: +m[1]! - 1, n: +m[2]! };
}

type plain_options = Omit<explore_options, "now" | "turn" | "stop" | "on_run" | "on_outcome">;

function options_of(o: cli_options): plain_options {
  const out: plain_options = {
    strategy: o.strategy,
    seed: whole(o.seed, "--seed", 0),
    depth: whole(o.depth, "--depth", 1),
    switches: o.with ?? [],
    shard: shard_of(o.shard),
    lockdep: o.lockdep === true,
    determinism: o.twice === true,
    keep_going: o.keepGoing === true,
  };
  if (o.runs !== undefined) out.runs = whole(o.runs, "--runs", 1);
  if (o.machineSeed !== undefined) out.machine_seed = whole(o.machineSeed, "--machine-seed", 0);
  if (o.seconds !== undefined) out.max_ms = whole(o.seconds, "--seconds", 1) * 1000;
  if (o.maxSteps !== undefined) out.max_steps = whole(o.maxSteps, "--max-steps", 1);
  const divides = ["random", "pct", "dpor"].includes(o.strategy);
  if (!divides && (out.shard!.n > 1 || Number(o.jobs) > 1)) {
    throw new user_error(`--jobs and --shard: ${o.strategy} cannot be divided`);
  }
  return out;
}

type note = (runs: number, phase: "explore" | "minimise") => void;

function explore_here(
  s: scenario,
  options: plain_options,
  on_run: note,
  stop: () => boolean,
): Promise<exploration> {
  const now = (): number => performance.now();
  return explore(s, { ...options, now, turn, on_run, stop });
}

interface job {
  explore_file: string;
  options: plain_options;
  stop: SharedArrayBuffer;
}

interface message {
  runs: number;
  done?: exploration;
  /** What the worker could not do, ready to be shown. */
  failed?: { text: string; status: number };
}

/**
 * The first Ctrl-C ends the search after the schedules under way, so that what was found is told;
 * the second ends all. This needs a main thread that does not itself run schedules.
 */
function stop_on_interrupt(stop: () => void): { off: () => void; interrupted: () => boolean } {
  const state = { interrupted: false };
  const heard = (): void => {
    if (state.interrupted) process.exit(INTERRUPTED);
    state.interrupted = true;
    process.stderr.write("\ndaxlab: interrupted: ending the search (again: end at once)\n");
    stop();
  };
  process.on("SIGINT", heard);
  return { off: () => process.off("SIGINT", heard), interrupted: () => state.interrupted };
}

/** Each worker explores a part; once one has found something the others stop. */
async function explore_in_workers(
  file: string,
  options: plain_options,
  jobs: number,
  note_total: (runs: number) => void,
): Promise<exploration & { interrupted: boolean }> {
  const stop = new SharedArrayBuffer(4);
  const end = (): void => void Atomics.store(new Int32Array(stop), 0, 1);
  const runs = Array.from({ length: jobs }, () => 0);
  const workers: Worker[] = [];
  const { i, n } = options.shard!;
  const one = (j: number): Promise<exploration> =>
    new Promise((resolve, reject) => {
      const part = { ...options, shard: { i: i * jobs + j, n: n * jobs } };
      const workerData: job = { explore_file: file, options: part, stop };
      const w = new Worker(new URL(import.meta.url), { workerData });
      workers.push(w);
      w.on("message", (m: message) => {
        if (m.failed !== undefined) return reject(new told_error(m.failed.text, m.failed.status));
        runs[j] = m.runs;
        note_total(runs.reduce((a, b) => a + b, 0));
        if (m.done === undefined) return;
        if (m.done.findings.length > 0 && !options.keep_going) end();
        resolve(m.done);
      });
      w.on("error", (e) => reject(script_error(e, file)));
      w.on("exit", (code) => reject(new Error(`a worker ended with status ${code}`)));
    });
  const { off, interrupted } = stop_on_interrupt(end);
  try {
    const parts = await Promise.all(runs.map((_r, j) => one(j)));
    const all = jobs === 1 ? parts[0]! : merge(parts);
    return { ...all, interrupted: interrupted() };
  } finally {
    off();
    // one has failed: the others would go on
    for (const w of workers) void w.terminate();
  }
}

async function work(j: job): Promise<void> {
  const flag = new Int32Array(j.stop);
  const state = { sent: performance.now(), runs: 0 };
  const send = (m: message): void => parentPort!.postMessage(m);
  const on_run: note = (runs, phase) => {
    if (phase === "explore") state.runs = runs;
    if (performance.now() - state.sent < 200) return;
    state.sent = performance.now();
    send({ runs: state.runs });
  };
  try {
    const s = await load_scenario(j.explore_file);
    const stopped = (): boolean => Atomics.load(flag, 0) !== 0;
    const search = (): Promise<exploration> => explore_here(s, j.options, on_run, stopped);
    const done = await in_script(j.explore_file, search);
    for (const f of done.findings) f.outcome.value = null;
    send({ runs: state.runs, done });
  } catch (e) {
    send({ runs: state.runs, failed: dress_error(e) });
  }
}

/** One finding, or none where the scenario says so, is no surprise: but it is still a finding. */
function expectation(s: scenario, on: readonly string[], e: exploration): string {
  const wanted = s.options.verdicts?.find(
    (v) => v.with.length === on.length && v.with.every((w) => on.includes(w)),
  );
  if (wanted === undefined) return "";
  const found = e.findings[0]?.verdict ?? "ok";
  if (found === wanted.verdict) return `expected: ${wanted.verdict}, and so it is`;
  return `expected: ${wanted.verdict}, but it is ${found}`;
}

async function run(file: string, o: cli_options): Promise<void> {
  const options = options_of(o);
  const jobs = whole(o.jobs, "--jobs", 1);
  if (jobs > MAX_JOBS) throw new user_error(`--jobs: at most ${MAX_JOBS}, not ${jobs}`);
  const s = await load_scenario(file);
  check_switches(s, options.switches!);
  const ends = ["dpor", "all", "round-robin"].includes(o.strategy);
  const total = options.runs ?? (ends ? 0 : DEFAULT_RUNS);
  const bar = make_open_progress("explore", total);
  const note: note = (runs, phase) => {
    if (phase === "explore") bar.update(runs);
    else bar.update(total, `making it smaller, run ${runs}`);
  };
  const bundled = import.meta.url.endsWith(".js");
  const { interrupted, ...found } = bundled
    ? await explore_in_workers(file, options, jobs, (runs) => bar.update(runs))
    : { ...(await explore_here(s, options, note, () => false)), interrupted: false };
  bar.stop();
  const machine_seed = options.machine_seed ?? s.options.seed ?? 1;
  const lockdep = options.lockdep === true;
  const shards = [`${options.shard!.i + 1}/${options.shard!.n}`];
  const what = { scenario: file, switches: [...options.switches!], machine_seed, lockdep, shards };
  const result = await with_stories(s, found, what);
  if (o.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  else {
    const tail = expectation(s, what.switches, found);
    process.stdout.write(`${exploration_text(result)}\n${tail === "" ? "" : `${tail}\n`}`);
  }
  process.exitCode = found.findings.length > 0 ? 1 : interrupted ? INTERRUPTED : 0;
}

export function register(program: Command): void {
  program
    .command("explore")
    .description("run a scenario under many schedules until one of them goes wrong")
    .argument(
      "<scenario>",
      "a file whose default export is a scenario, or one of ours: d1 to d17, " +
        "poison-fault, -truncate, -unmap, -remove, -poison, -madvise, -holder, pin-truncate",
    )
    .addOption(
      new Option("--strategy <name>", "how schedules are chosen")
        .choices([...STRATEGIES])
        .default("random"),
    )
    .option("--runs <n>", `schedules at most (default: ${DEFAULT_RUNS} for random and pct)`)
    .option("--seed <s>", "of the schedules", "1")
    .option("--machine-seed <s>", "of the machine (default: the scenario's)")
    .option("--depth <d>", "pct: ordering constraints of the bugs looked for", "3")
    .option("--with <switch...>", "turn switches of the scenario on")
    .option("--jobs <n>", "worker threads", "1")
    .option("--shard <i/n>", "explore part i of n; `daxlab merge` joins the parts")
    .option("--seconds <n>", "stop after this time")
    .option("--max-steps <n>", "choices after which a run is given up")
    .option("--lockdep", "an order of locks that can deadlock is a finding too")
    .option("--twice", "run each schedule twice and compare")
    .option("--keep-going", "do not stop at the first finding")
    .option("--json", "print the result as JSON")
    .action(run);
}

const job = isMainThread ? undefined : (workerData as Partial<job> | null);
if (job?.explore_file !== undefined) await work(job as job);

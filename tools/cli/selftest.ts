/** tools/cli/selftest.ts - `daxlab selftest xarray` and `daxlab selftest locking`. */
import { type Command, Option } from "commander";
import { format_locking_selftest, run_locking_selftest } from "../selftest/locking.ts";
import { format_xarray_selftest, run_xarray_selftest } from "../selftest/xarray.ts";
import { user_error } from "./errors.ts";
import { make_progress } from "./progress.ts";

interface xarray_options {
  chunkShift: "6" | "4" | "3";
  failingAlloc?: true;
  only?: string;
  verbose?: true;
  json?: true;
}

function pattern(text: string | undefined): RegExp {
  try {
    return new RegExp(text ?? "");
  } catch (err) {
    throw new user_error(`--only: ${(err as Error).message}`);
  }
}

function selftest_xarray(options: xarray_options): void {
  const only = pattern(options.only);
  const bar = { now: undefined as ReturnType<typeof make_progress> | undefined };
  const result = run_xarray_selftest(
    { chunk_shift: Number(options.chunkShift), failing_alloc: options.failingAlloc === true },
    (done, total, name) => {
      bar.now ??= make_progress("xarray", total);
      bar.now.update(done, name);
    },
    (name) => only.test(name),
  );
  bar.now?.stop();
  if (result.checks.length === 0) throw new user_error(`--only: no check matches ${options.only}`);
  if (options.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  else process.stdout.write(`${format_xarray_selftest(result, options.verbose === true)}\n`);
  process.exitCode = result.passed === result.run ? 0 : 1;
}

interface locking_options {
  only?: string;
  json?: true;
}

function selftest_locking(options: locking_options): void {
  const only = pattern(options.only);
  const result = run_locking_selftest((name) => only.test(name));
  if (result.cells.length === 0) throw new user_error(`--only: no row matches ${options.only}`);
  if (options.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  else process.stdout.write(`${format_locking_selftest(result)}\n`);
  process.exitCode = result.passed === result.cells.length ? 0 : 1;
}

export function register(program: Command): void {
  const selftest = program
    .command("selftest")
    .description("the kernel's own selftests, run on the emulator's modules");
  selftest
    .command("xarray")
    .description("every check of the kernel's XArray suite")
    .addOption(
      new Option("--chunk-shift <n>", "slots per node as a power of two")
        .choices(["6", "4", "3"])
        .default("6"),
    )
    .option("--failing-alloc", "allocations that may not sleep fail, as in the user-space build")
    .option("--only <re>", "the checks whose name matches")
    .option("-v, --verbose", "a line for each check")
    .option("--json", "print the result as JSON")
    .action(selftest_xarray);
  selftest
    .command("locking")
    .description("every cell of the kernel's lock validator suite")
    .option("--only <re>", "the rows whose 'group / row' matches")
    .option("--json", "print the result as JSON")
    .action(selftest_locking);
}

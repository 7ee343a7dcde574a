#!/usr/bin/env node
/**
 * tools/cli/main.ts - the `daxlab` command: answers --version, then loads only what is asked for.
 *
 * Adding a sub-command NAME takes two steps:
 *   1. tools/cli/NAME.ts exports `register(program)`, which adds a commander sub-command, or, for a
 *      tool that has to answer like its C original, `main(args)`, which gets the words as they are
 *      and returns the exit status;
 *   2. a line in tools/cli/commands.ts: its name, a summary for --help, and the lazy import.
 *
 * Conventions for all of them: results to stdout, progress and warnings to stderr (progress.ts);
 * `--json` prints one JSON value and nothing else; what the user did wrong is thrown as
 * `user_error` (one line, no stack, status 2), a finding or a failed check sets process.exitCode =
 * 1; any other error is our own bug and shows its stack. NO_COLOR and a pipe turn colours off
 * (picocolors).
 *
 * This file imports nothing at the top: its start-up time is everyone's.
 */
declare const DAXLAB_VERSION: string | undefined;

async function version(): Promise<string> {
  if (typeof DAXLAB_VERSION === "string") return DAXLAB_VERSION;
  // Run from the sources: the bundle has the version built in.
  const { readFileSync } = await import("node:fs");
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return JSON.parse(text).version;
}

const first = process.argv[2];
if (first === "--version" || first === "-V") {
  process.stdout.write(`${await version()}\n`);
} else {
  const { dispatch } = await import("./dispatch.ts");
  await dispatch(process.argv.slice(2), await version());
}

export {};

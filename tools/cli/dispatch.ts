/** tools/cli/dispatch.ts - finds the sub-command, loads it, runs it, dresses its errors. */
import { Command, CommanderError } from "commander";
import { commands } from "./commands.ts";
import { dress_error } from "./errors.ts";

const USAGE_STATUS = 2;

function make_program(version: string): Command {
  return new Command("daxlab")
    .description("The Linux DAX stack as a laboratory.")
    .version(version, "-V, --version")
    .enablePositionalOptions()
    .showHelpAfterError("(daxlab --help lists the commands, daxlab COMMAND --help its options)")
    .showSuggestionAfterError()
    .configureHelp({ subcommandTerm: (c) => c.name() })
    .exitOverride();
}

/** The program with every command by name and summary, none loaded: for help and mistyped names. */
function outline(version: string): Command {
  const program = make_program(version);
  for (const [name, { summary }] of Object.entries(commands)) {
    program.command(name).description(summary).allowUnknownOption().argument("[args...]");
  }
  return program;
}

async function run(words: string[], version: string): Promise<void> {
  const name = words[0] ?? "";
  const entry = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!entry) {
    const help = name === "help" && words[1] !== undefined && Object.hasOwn(commands, words[1]);
    if (help) await run([words[1]!, "--help"], version);
    else if (name === "") outline(version).outputHelp();
    else await outline(version).parseAsync(words, { from: "user" });
    return;
  }
  const module = await entry.load();
  if ("main" in module) {
    process.exitCode = await module.main(words.slice(1));
    return;
  }
  const program = make_program(version);
  // Sub-commands copy these settings when they are made.
  module.register(program);
  await program.parseAsync(words, { from: "user" });
}

/** Runs `words` (the command line without node and script); sets the exit status. */
export async function dispatch(words: string[], version: string): Promise<void> {
  // `daxlab ... | head` closes our output early: not an error.
  process.stdout.on("error", (err: NodeJS.ErrnoException) => {
    if (err.code !== "EPIPE") process.stderr.write(`daxlab: standard output: ${err.message}\n`);
    process.exit(err.code === "EPIPE" ? undefined : 1);
  });
  try {
    await run(words, version);
  } catch (err) {
    if (err instanceof CommanderError) {
      // Commander has printed its message; its own status is 1 for usage errors and 0 for help.
      process.exitCode = err.exitCode === 0 ? 0 : USAGE_STATUS;
      return;
    }
    const { text, status } = dress_error(err);
    process.stderr.write(`${text}\n`);
    process.exitCode = status;
  }
}

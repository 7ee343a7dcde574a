/** tools/cli/locks.ts - `daxlab locks`: the lock order that lockdep starts from. */
import type { Command } from "commander";
import { user_error } from "./errors.ts";
import { order_dot, order_json, order_svg, order_text } from "./locks_draw.ts";

interface locks_options {
  dot?: true;
  svg?: true;
  json?: true;
}

function locks(options: locks_options): void {
  const forms = [options.dot, options.svg, options.json].filter((f) => f === true).length;
  if (forms > 1) throw new user_error("one of --dot, --svg and --json at a time");
  let text = "";
  if (options.json) text = JSON.stringify(order_json(), null, 2);
  else if (options.dot) text = order_dot();
  else text = options.svg ? order_svg() : order_text();
  process.stdout.write(`${text}\n`);
}

export function register(program: Command): void {
  program
    .command("locks")
    .description("the lock order: which lock may be taken while which is held, and why")
    .option("--dot", "as a graph for dot(1)")
    .option("--svg", "as a drawing")
    .option("--json", "as JSON")
    .action(locks);
}

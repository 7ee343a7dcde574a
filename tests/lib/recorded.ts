/**
 * tests/lib/recorded.ts - sessions of real tools, as recorded: "$ COMMAND", its standard output,
 * its standard error behind "! ", "= STATUS".
 */
import { readFileSync } from "node:fs";
import type { Machine } from "../../tools/api/machine.ts";
import { repo_path } from "./paths.ts";
import { assert } from "./suite.ts";

/** tests/tools/recorded/NAME.txt, one command an element. */
export function read_session(name: string): string[] {
  const text = readFileSync(repo_path("tests", "tools", "recorded", `${name}.txt`), "utf8");
  return text.split(/^(?=\$ )/m);
}

export function tool_text(command: string, r: { status: number; stdout: string; stderr: string }) {
  const errors = r.stderr.split("\n").filter((l) => l !== "");
  const lines = errors.map((l) => `! ${l}\n`).join("");
  const nl = r.stdout !== "" && !r.stdout.endsWith("\n") ? "\n" : "";
  return `$ ${command}\n${r.stdout}${nl}${lines}= ${r.status}\n`;
}

/** Plays a session; `mask` takes away what may differ. */
export async function check_session(
  m: Machine,
  session: readonly string[],
  mask: (text: string) => string = (t) => t,
): Promise<void> {
  for (const part of session) {
    const command = part.slice(2, part.indexOf("\n"));
    const [name, ...args] = command.split(" ");
    const r = await m.tool(name!, args);
    assert.is(mask(tool_text(command, r)), mask(part), command);
  }
}

/** sfdisk on a disk of 100 MiB: the tables, listings and refusals of the real one. */
import { type sfdisk_target, sfdisk, sfdisk_words } from "../../tools/cmd/sfdisk/command.ts";
import { error_text, is_sfdisk_error } from "../../tools/cmd/sfdisk/model.ts";
import { read_session, tool_text } from "../lib/recorded.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/sfdisk_recorded");
const SECTOR = 512;

function new_disk(bytes: number): sfdisk_target {
  const media = new Uint8Array(bytes);
  return {
    path: "d",
    sector: SECTOR,
    physical_sector: SECTOR,
    sectors: bytes / SECTOR,
    read: (offset, length) => media.slice(offset, offset + length),
    write: (offset, b) => media.set(b, offset),
    random: () => new Uint8Array(16).fill(7),
    changed: false,
  };
}

function run(d: sfdisk_target, args: string[]): { status: number; stdout: string; stderr: string } {
  const w = sfdisk_words(args);
  if (typeof w === "string") return { status: 1, stdout: "", stderr: w };
  try {
    return { status: 0, ...sfdisk(d, w) };
  } catch (e) {
    if (!is_sfdisk_error(e)) throw e;
    return { status: 1, stdout: "", stderr: error_text(e) };
  }
}

t("one disk from empty over GPT to MBR and back, command by command", () => {
  const d = new_disk(100 * 2 ** 20);
  const session = read_session("sfdisk");
  assert.ok(session.length > 50);
  for (const part of session) {
    const command = part.slice(2, part.indexOf("\n"));
    const [line, script] = command.split(" <<< ");
    const args = line!.split(" ").slice(1);
    const r = run(d, script === undefined ? args : [...args, script]);
    assert.is(tool_text(command, r), part, command);
  }
});

t.run();

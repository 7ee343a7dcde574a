/**
 * tests/tools/scenarios.test.ts - the deadlock scenarios D1 to D17 and those of memory failure:
 * each, with each of its switches, ends as its file says, over all schedules; and its finding
 * replays from its string.
 */
import { decode_replay, encode_replay } from "../../tools/explore/encode.ts";
import { explore, type finding } from "../../tools/explore/explore.ts";
import { run_once } from "../../tools/explore/run.ts";
import { replay_explorer } from "../../tools/explore/strategies.ts";
import type { expectation, scenario } from "../../tools/api/scenario.ts";
import d1 from "../../tools/scenarios/d1.ts";
import d2 from "../../tools/scenarios/d2.ts";
import d3 from "../../tools/scenarios/d3.ts";
import d4 from "../../tools/scenarios/d4.ts";
import d5_real from "../../tools/scenarios/d5-real.ts";
import d5 from "../../tools/scenarios/d5.ts";
import d6 from "../../tools/scenarios/d6.ts";
import d7 from "../../tools/scenarios/d7.ts";
import d8 from "../../tools/scenarios/d8.ts";
import d9 from "../../tools/scenarios/d9.ts";
import d10 from "../../tools/scenarios/d10.ts";
import d11 from "../../tools/scenarios/d11.ts";
import d12 from "../../tools/scenarios/d12.ts";
import d13 from "../../tools/scenarios/d13.ts";
import d14 from "../../tools/scenarios/d14.ts";
import d15 from "../../tools/scenarios/d15.ts";
import d16 from "../../tools/scenarios/d16.ts";
import d17_real from "../../tools/scenarios/d17-real.ts";
import d17 from "../../tools/scenarios/d17.ts";
import pin_truncate from "../../tools/scenarios/pin-truncate.ts";
import poison_fault from "../../tools/scenarios/poison-fault.ts";
import poison_holder from "../../tools/scenarios/poison-holder.ts";
import poison_madvise from "../../tools/scenarios/poison-madvise.ts";
import poison_poison from "../../tools/scenarios/poison-poison.ts";
import poison_remove from "../../tools/scenarios/poison-remove.ts";
import poison_truncate from "../../tools/scenarios/poison-truncate.ts";
import poison_unmap from "../../tools/scenarios/poison-unmap.ts";
import { turn } from "../lib/explore.ts";
import { glob_files } from "../lib/files.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/scenarios");
const ALL: Readonly<Record<string, scenario>> = {
  d1,
  d2,
  d3,
  d4,
  d5,
  "d5-real": d5_real,
  d6,
  d7,
  d8,
  d9,
  d10,
  d11,
  d12,
  d13,
  d14,
  d15,
  d16,
  d17,
  "d17-real": d17_real,
  "pin-truncate": pin_truncate,
  "poison-fault": poison_fault,
  "poison-holder": poison_holder,
  "poison-madvise": poison_madvise,
  "poison-poison": poison_poison,
  "poison-remove": poison_remove,
  "poison-truncate": poison_truncate,
  "poison-unmap": poison_unmap,
};
/** What scenarios share. */
const LIBRARIES = ["model", "victim"];

t("every scenario of tools/scenarios is here", () => {
  const files = glob_files("tools/scenarios", ".ts").map((f) => f.replace(/^.*\/|\.ts$/g, ""));
  assert.equal(files.filter((f) => !LIBRARIES.includes(f)).sort(), Object.keys(ALL).sort());
});

for (const [name, s] of Object.entries(ALL)) {
  for (const e of s.options.verdicts!) {
    const on = e.with.length > 0 ? ` with ${e.with.join(", ")}` : "";
    t(`${name.toUpperCase()}${on}: ${e.verdict}`, () => check(name, s, e));
    if (e.findings) t(`${name.toUpperCase()}${on} finds what it says`, () => check_all(name, s, e));
  }
}

t("every scenario is deterministic: each schedule twice is the same run twice", async () => {
  for (const [name, s] of Object.entries(ALL)) {
    const r = await explore(s, {
      runs: 8,
      seed: 3,
      determinism: true,
      keep_going: true,
      minimise_runs: 0,
      turn,
    });
    assert.is(r.runs, 8);
    assert.is(r.verdicts.nondeterministic, undefined, name);
  }
});

async function check(name: string, s: scenario, e: expectation): Promise<void> {
  const { with: switches, verdict } = e;
  for (const w of switches) assert.ok(s.options.switches![w], `${name} has no switch ${w}`);
  const r = await explore(s, { strategy: "dpor", switches, turn, minimise_runs: 300 });
  const text = replay_line(name, switches, r.findings[0]);
  assert.is(r.findings[0]?.verdict ?? "ok", verdict, text);
  if (verdict === "ok") {
    assert.ok(r.complete);
    return;
  }
  assert.ok(text.length <= 200, text);
  const back = decode_replay(text);
  const again = await run_once(s, new replay_explorer(back.choices), { switches, turn });
  assert.is(again.verdict, verdict, text);
}

/** Over all schedules: these findings, each met, and no other. */
async function check_all(name: string, s: scenario, e: expectation): Promise<void> {
  const o = {
    strategy: "dpor",
    switches: e.with,
    turn,
    keep_going: true,
    minimise_runs: 0,
  } as const;
  const r = await explore(s, o);
  assert.ok(r.complete);
  for (const text of e.findings!) {
    assert.ok(
      r.findings.some((f) => f.signature.includes(text)),
      `not found: ${text}`,
    );
  }
  for (const f of r.findings) {
    const known = e.findings!.some((text) => f.signature.includes(text));
    assert.ok(known, `${replay_line(name, e.with, f)}: ${f.signature}`);
    assert.is(f.verdict, e.verdict, replay_line(name, e.with, f));
  }
}

/** How to see a finding again; "" if there is none. */
function replay_line(name: string, switches: readonly string[], f?: finding): string {
  if (f === undefined) return "";
  const { choices } = f.outcome;
  return encode_replay({ scenario: name, switches: [...switches], seed: 1, choices });
}

t.run();

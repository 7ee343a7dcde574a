/**
 * tests/tools/scenarios.test.ts - the deadlock scenarios D1 to D17: each, with each of its
 * switches, ends as its file says, over all schedules; and its finding replays from its string.
 */
import { decode_replay, encode_replay } from "../../tools/explore/encode.ts";
import { explore } from "../../tools/explore/explore.ts";
import { run_once } from "../../tools/explore/run.ts";
import { replay_explorer } from "../../tools/explore/strategies.ts";
import type { scenario } from "../../tools/api/scenario.ts";
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
};

t("every scenario of tools/scenarios is here", () => {
  const files = glob_files("tools/scenarios", ".ts").map((f) => f.replace(/^.*\/|\.ts$/g, ""));
  assert.equal(files.filter((f) => f !== "model").sort(), Object.keys(ALL).sort());
});

for (const [name, s] of Object.entries(ALL)) {
  for (const { with: switches, verdict } of s.options.verdicts!) {
    const on = switches.length > 0 ? ` with ${switches.join(", ")}` : "";
    t(`${name.toUpperCase()}${on}: ${verdict}`, () => check(name, s, switches, verdict));
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

async function check(
  name: string,
  s: scenario,
  switches: readonly string[],
  verdict: string,
): Promise<void> {
  for (const w of switches) assert.ok(s.options.switches![w], `${name} has no switch ${w}`);
  const r = await explore(s, { strategy: "dpor", switches, turn, minimise_runs: 300 });
  assert.is(r.findings[0]?.verdict ?? "ok", verdict);
  if (verdict === "ok") {
    assert.ok(r.complete);
    return;
  }
  const { choices } = r.findings[0]!.outcome;
  const text = encode_replay({ scenario: name, switches: [...switches], seed: 1, choices });
  assert.ok(text.length <= 200, text);
  const back = decode_replay(text);
  const again = await run_once(s, new replay_explorer(back.choices), { switches, turn });
  assert.is(again.verdict, verdict, text);
}

t.run();

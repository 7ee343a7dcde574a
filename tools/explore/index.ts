/**
 * tools/explore/index.ts - "daxlab/explore": exploration for scripts, as `daxlab explore` has it.
 *
 *   const r = await explore(s, { strategy: "dpor" });
 *   for (const f of r.findings) console.log(story_text((await tell(s, f.outcome.choices)).story));
 */
export {
  type exploration,
  explore,
  type explore_options,
  type finding,
  merge,
  STRATEGIES,
  type strategy_name,
} from "./explore.ts";
export { decode_replay, encode_replay } from "./encode.ts";
export type { outcome } from "./run.ts";
export { type chapter, type story, story_text, tell } from "./story.ts";

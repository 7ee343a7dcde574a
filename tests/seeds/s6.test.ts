/** tests/seeds/s6.test.ts - experiments across the seeds: all wait for what they compare. */
import { suite } from "../lib/suite.ts";

const t = suite("seeds S6");
const PROPOSALS = "needs the proposals: a later issue";

t.skip("S6.1 one workload under six regimes", PROPOSALS);
t.skip("S6.2 the same inside a guest", "needs virtiofs: a later issue");
t.skip("S6.3 which regimes can hang", PROPOSALS);
t.skip("S6.4 one poisoned block, four kinds of owners", "needs memory failure, XFS, virtiofs");
t.skip("S6.5 block size by page size by encoding by filesystem", "needs dax-order-entries, XFS");

t.run();

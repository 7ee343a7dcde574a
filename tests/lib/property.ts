/**
 * tests/lib/property.ts - fast-check with a fixed seed, so that the same tree gives the same
 * verdict twice. `DAXLAB_SEED=random` draws new cases, `DAXLAB_SEED=N` repeats those of a report
 * (it names its seed).
 */
import fc from "fast-check";

const asked = process.env.DAXLAB_SEED;
if (asked !== "random") fc.configureGlobal({ seed: Number(asked ?? 1) | 0 });

export default fc;

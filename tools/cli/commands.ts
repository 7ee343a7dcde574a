/**
 * tools/cli/commands.ts - the table of sub-commands. The modules load when their command runs, so
 * `daxlab --help` reads this file only.
 */
import type { Command } from "commander";

/** A sub-command with options parsed by commander. */
export interface commander_command {
  register(program: Command): void;
}
/** A sub-command that reads its own words (mkfs.ext4 and other tools with a C original). */
export interface raw_command {
  /** Returns the exit status. */
  main(args: string[]): Promise<number> | number;
}
export interface command {
  summary: string;
  load(): Promise<commander_command | raw_command>;
}

export const commands: Readonly<Record<string, command>> = {
  tour: {
    summary: "one walk through every layer, narrated (npm start)",
    load: () => import("./tour.ts"),
  },
  run: {
    summary: "run a scenario: a TypeScript file, or a .sys case",
    load: () => import("./run.ts"),
  },
  conform: {
    summary: "run the recorded cases and compare with what a real Linux answered",
    load: () => import("./conform.ts"),
  },
  explore: {
    summary: "run a scenario under many schedules; a deadlock, hang or failure is made small",
    load: () => import("./explore.ts"),
  },
  replay: {
    summary: "run one schedule again, from the string that explore printed",
    load: () => {
      // Where a lock was taken is told by source file and line, also from the bundle.
      process.setSourceMapsEnabled(true);
      return import("./replay.ts");
    },
  },
  merge: {
    summary: "join the results of explore --json --shard i/n",
    load: () => import("./merge.ts"),
  },
  selftest: {
    summary: "the kernel's own selftests, here: xarray, locking",
    load: () => import("./selftest.ts"),
  },
  locks: {
    summary: "the lock order, as text or as a graph",
    load: () => import("./locks.ts"),
  },
  poison: {
    summary: "a page goes bad: who gets told at each hop, and who does not",
    load: () => import("./poison.ts"),
  },
  bench: {
    summary: "measure against memfs, @zenfs/core, Map and sorted-btree",
    load: () => import("./bench.ts"),
  },
  image: {
    summary: "image tree IMG: everything in a filesystem image, as JSON",
    load: () => import("./image.ts"),
  },
  ndctl: {
    summary: "ndctl on the file of a DIMM: ndctl --image DIMM.img list -RN",
    load: () => import("./ndctl.ts"),
  },
  "mkfs.ext4": {
    summary: "make an ext4 filesystem in a file, as mkfs.ext4 does",
    load: () => import("./mkfs.ext4.ts"),
  },
};

/** tools/cli/tour.ts - `daxlab tour` (npm start): the tour, narrated. */
import type { Command } from "commander";
import pc from "picocolors";

/** Narration in bold, the picture and the trace as they are. */
function dress(text: string): string {
  const [first, ...rest] = text.split("\n");
  const head = first!.startsWith("    ") ? pc.dim(first!) : pc.bold(first!);
  return [head, ...rest.map((l) => `    ${l}`)].join("\n");
}

export function register(program: Command): void {
  program
    .command("tour")
    .description("one walk through every layer: mkfs, mount, mmap, faults, msync, a power cut")
    .action(async () => {
      const { default: tour } = await import("../tour/tour.ts");
      await tour((text) => process.stdout.write(`${dress(text)}\n`));
    });
}

/** tools/cli/poison.ts - `daxlab poison`: a page goes bad; who gets told, and who does not. */
import type { Command } from "commander";
import type { failure_walk } from "../api/failure_log.ts";
import type { Machine } from "../api/machine.ts";
import type { poison_how, poison_report } from "../api/poison.ts";
import { user_error } from "./errors.ts";
import { check_file, read_image } from "./files.ts";

interface poison_options {
  file?: string;
  offset: string;
  how: string;
  type: string;
  json?: true;
}

function print(value: unknown, text: string, json: boolean): void {
  process.stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : `${text}\n`);
}

function report_text(r: poison_report, texts: string[]): string {
  const out = [...texts];
  if (r.walks.length === 0) out.push("no memory failure was handled");
  if (r.met !== null) out.push(`  met by    late: ${r.met}`);
  for (const l of r.later) out.push(`  later     ${l.who} ${l.does}: ${l.gets}`);
  return out.join("\n");
}

async function poison_image(img: string, o: poison_options): Promise<void> {
  const { POISON_HOWS, poison } = await import("../api/poison.ts");
  const { parse_size } = await import("../cmd/size.ts");
  const { walk_text } = await import("../api/failure_log.ts");
  const { Machine } = await import("../api/machine.ts");
  if (!o.file?.startsWith("/")) throw new user_error("--file /path/in/the/image is needed");
  if (!POISON_HOWS.includes(o.how as poison_how)) {
    throw new user_error(`--how ${o.how}: ${POISON_HOWS.join(", ")}`);
  }
  const offset = parse_size(o.offset);
  if (offset === undefined) throw new user_error(`--offset ${o.offset}: a number of bytes`);
  const bytes = read_image(img);
  const image = new Uint8Array(Math.ceil(bytes.length / 4096) * 4096);
  image.set(bytes);
  const m = await Machine.boot({ pmem: [{ image, mode: "raw", pages: true }] });
  const how = o.how as poison_how;
  try {
    const request = { device: "/dev/pmem0", type: o.type, path: o.file, offset, how };
    const r = await poison(m, request);
    print(r, report_text(r, r.walks.map(walk_text)), o.json === true);
  } catch (e) {
    if (!(e instanceof Error) || e.name === "KernelBug") throw e;
    const log = m.kernel.dmesg().filter((l) => l.level <= 5);
    throw new user_error([`${img}: ${e.message}`, ...log.map((l) => `  ${l.text}`)].join("\n"), 1);
  }
}

/** Runs a scenario or a case; every memory failure in it is reported. */
async function poison_script(script: string, o: poison_options): Promise<void> {
  const { walk_text, watch_failures } = await import("../api/failure_log.ts");
  const watched: failure_walk[][] = [];
  const watch = (m: Machine): void => {
    watched.push(watch_failures(m.kernel).walks);
  };
  if (script.endsWith(".sys")) {
    const { run_case } = await import("./run.ts");
    await run_case(script, () => ({ on_boot: watch }));
  } else {
    const { import_script, in_script } = await import("./script_loader.ts");
    const { is_scenario, run_reported } = await import("../api/scenario.ts");
    const module = await import_script(script);
    const s = module["default"];
    if (!is_scenario(s)) throw new user_error(`${script}: its default export is no scenario`);
    await in_script(script, () => run_reported(s, watch));
  }
  const walks = watched.flat();
  const none = "no memory failure was handled";
  const text = walks.length === 0 ? none : walks.map(walk_text).join("\n\n");
  print({ walks }, text, o.json === true);
}

export function register(program: Command): void {
  program
    .command("poison")
    .description("a page goes bad: who gets told at each hop, and who does not")
    .argument("<image|script>", "a filesystem image (may be gzip'd), a .sys case, or a scenario")
    .option("--file <path>", "image: the file whose page goes bad")
    .option("--offset <bytes>", "image: which byte of it", "0")
    .option("--how <how>", "image: scrub, access, or inject (MADV_HWPOISON)", "scrub")
    .option("-t, --type <fs>", "image: filesystem type", "ext4")
    .option("--json", "as JSON")
    .action(async (what: string, o: poison_options) => {
      check_file(what);
      if (/\.(sys|ts|js|mjs)$/.test(what)) return poison_script(what, o);
      return poison_image(what, o);
    });
}

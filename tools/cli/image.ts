/**
 * tools/cli/image.ts - `daxlab image tree IMG[.gz]`: everything in a filesystem image, as JSON in
 * the form of the recorded manifests. The image is mounted read-only as /dev/pmem0; nothing of it
 * is changed.
 */
import { createHash } from "node:crypto";
import type { Command } from "commander";
import { user_error } from "./errors.ts";
import { read_image } from "./files.ts";
import { make_progress } from "./progress.ts";

interface tree_options {
  type: string;
  offset?: string;
  options?: string;
}

function new_sha256() {
  const h = createHash("sha256");
  return { update: (b: Uint8Array) => void h.update(b), hex: () => h.digest("hex") };
}

function parse_offset(text: string | undefined): number {
  if (text === undefined) return 0;
  const n = Number(text);
  if (Number.isSafeInteger(n) && n >= 0 && n % 512 === 0) return n;
  throw new user_error(`--offset ${text}: bytes, a multiple of 512`);
}

/** The image from `offset` on, padded to whole pages (a device has no half page). */
function device_bytes(img: string, offset: number): Uint8Array {
  const bytes = read_image(img).subarray(offset);
  if (bytes.length === 0) throw new user_error(`${img}: nothing at offset ${offset}`);
  const size = Math.ceil(bytes.length / 4096) * 4096;
  if (size === bytes.length) return bytes;
  const padded = new Uint8Array(size);
  padded.set(bytes);
  return padded;
}

async function print_tree(img: string, o: tree_options): Promise<void> {
  const image = device_bytes(img, parse_offset(o.offset));
  const { Machine } = await import("../api/machine.ts");
  const { format_tree, image_tree } = await import("../cmd/image_tree.ts");
  const { kern_path } = await import("../../fs/namei.ts");
  const { path_put } = await import("../../fs/mount.ts");
  const m = await Machine.boot({ pmem: [{ image, mode: "raw" }] });
  const p = m.process("image");
  try {
    await p.mount("/dev/pmem0", "/mnt", o.type, o.options ? `ro,${o.options}` : "ro");
  } catch (e) {
    const code = (e as { code?: string }).code;
    if (code === undefined) throw e;
    const log = m.kernel.dmesg().filter((l) => l.level <= 5);
    throw new user_error([`${img}: ${code}`, ...log.map((l) => `  ${l.text}`)].join("\n"), 1);
  }
  const { f_files, f_ffree } = await p.statfs("/mnt");
  const progress = make_progress("paths", f_files - f_ffree);
  const tree = await p.in_kernel(async (kernel) => {
    const at = await kern_path(kernel, "/mnt", true);
    try {
      return await image_tree(at, new_sha256, (n) => progress.update(n));
    } finally {
      await path_put(at);
    }
  });
  progress.stop();
  process.stdout.write(format_tree(tree));
}

export function register(program: Command): void {
  const image = program.command("image").description("look into a filesystem image");
  image
    .command("tree")
    .description("print everything in an image as JSON, one line for each path")
    .argument("<img>", "an image file, may be gzip'd (also twice)")
    .option("-t, --type <fs>", "filesystem type", "ext4")
    .option("-o, --options <opts>", "further mount options, e.g. noload")
    .option("--offset <bytes>", "where the filesystem begins in the image")
    .action(print_tree);
}

/** tests/lib/images.ts - the recorded images of tests/images, unpacked in memory. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { repo_path } from "./paths.ts";

const GZIP = [0x1f, 0x8b];

/** The bytes of a file, unpacked until there is no gzip header. */
export function read_unzipped(path: string): Uint8Array {
  let b: Uint8Array = readFileSync(path);
  while (b[0] === GZIP[0] && b[1] === GZIP[1]) b = gunzipSync(b);
  return b;
}

/** Names of the images in tests/images/`folder`, sorted. */
export function image_names(folder: string): string[] {
  const dir = repo_path("tests", "images", folder);
  if (!existsSync(dir)) return [];
  const names = readdirSync(dir).filter((n) => /\.img(\.gz)*$/.test(n));
  return names.map((n) => n.replace(/\.img(\.gz)*$/, "")).sort();
}

/** An image by its name (`ext4-default`). A private copy: the caller may write to it. */
export function read_image(folder: string, name: string): Uint8Array {
  for (const ending of [".img.gz.gz", ".img.gz", ".img"]) {
    const path = repo_path("tests", "images", folder, name + ending);
    if (existsSync(path)) return read_unzipped(path);
  }
  throw new Error(`there is no image ${folder}/${name}`);
}

/** The manifest of an image: what the kernel and the tools said is in it. */
export function read_manifest(folder: string, name: string): any {
  for (const ending of [".json.gz", ".json"]) {
    const path = repo_path("tests", "images", folder, name + ending);
    if (existsSync(path)) return JSON.parse(Buffer.from(read_unzipped(path)).toString("utf8"));
  }
  throw new Error(`there is no manifest ${folder}/${name}`);
}

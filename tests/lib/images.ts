/** tests/lib/images.ts - the recorded images of tests/images, unpacked in memory. */
import { createReadStream, existsSync, readdirSync, readFileSync } from "node:fs";
import type { Readable } from "node:stream";
import { createGunzip, gunzipSync } from "node:zlib";
import { CHUNK_SIZE } from "../../mm/chunks.ts";
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

function is_zero(b: Uint8Array): boolean {
  const words = new BigUint64Array(b.buffer, b.byteOffset, b.length >> 3);
  return words.every((w) => w === 0n);
}

/** Bytes cut into pieces as memory has them; pieces of zeroes are null. */
export interface sparse_image {
  is_media_image: true;
  size: number;
  chunks: (Uint8Array | null)[];
}

/**
 * An image of a DIMM without ever holding its zeroes: persistent memory and, behind it, the label
 * area. For images that are gigabytes when unpacked.
 */
export async function read_dimm(
  name: string,
  label_size: number,
): Promise<{ image: sparse_image; size: number; labels?: Uint8Array; label_size: number }> {
  const file = ["gz.gz", "gz"]
    .map((e) => repo_path("tests", "images", "nvdimm", `${name}.img.${e}`))
    .find((f) => existsSync(f))!;
  let stream: Readable = createReadStream(file);
  for (let n = file.split(".gz").length - 1; n > 0; n--) stream = stream.pipe(createGunzip());
  const chunks: (Uint8Array | null)[] = [];
  let piece = new Uint8Array(CHUNK_SIZE);
  let fill = 0;
  for await (const part of stream as AsyncIterable<Uint8Array>) {
    for (let at = 0; at < part.length; ) {
      const n = Math.min(CHUNK_SIZE - fill, part.length - at);
      piece.set(part.subarray(at, at + n), fill);
      at += n;
      fill += n;
      if (fill < CHUNK_SIZE) continue;
      if (is_zero(piece)) chunks.push(null);
      else {
        chunks.push(piece);
        piece = new Uint8Array(CHUNK_SIZE);
      }
      fill = 0;
    }
  }
  const total = chunks.length * CHUNK_SIZE + fill;
  if (fill > 0) chunks.push(piece);
  const size = total - label_size;
  const labels = new Uint8Array(label_size);
  for (let at = size; at < total; ) {
    const i = Math.floor(at / CHUNK_SIZE);
    const o = at % CHUNK_SIZE;
    const n = Math.min(CHUNK_SIZE - o, total - at);
    const from = chunks[i];
    if (from) labels.set(from.subarray(o, o + n), at - size);
    from?.fill(0, o, o + n);
    at += n;
  }
  chunks.length = Math.ceil(size / CHUNK_SIZE);
  const image: sparse_image = { is_media_image: true, size, chunks };
  return label_size === 0 ? { image, size, label_size } : { image, size, labels, label_size };
}

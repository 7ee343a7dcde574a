/** tools/cli/files.ts - reading images and cases from the host's files. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import type { conform_case } from "../script/conform.ts";
import { user_error } from "./errors.ts";

/** @throws user_error there is no such file, or it is a folder */
export function check_file(file: string): void {
  if (!existsSync(file)) throw new user_error(`${file}: no such file`);
  if (statSync(file).isDirectory()) throw new user_error(`${file}: a folder, not a file`);
}

/**
 * The bytes of a file; gzip headers are taken off until there is none (images may be packed twice).
 */
export function read_image(file: string): Uint8Array {
  check_file(file);
  let bytes: Uint8Array = readFileSync(file);
  while (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    try {
      bytes = gunzipSync(bytes);
    } catch (e) {
      throw new user_error(`${file}: not a whole gzip file (${(e as Error).message})`);
    }
  }
  if (bytes.length === 0) throw new user_error(`${file}: empty`);
  return bytes;
}

/** Bytes of the label storage area at the end of a DIMM's file. */
export const DIMM_LABELS = 128 * 1024;

/** @throws user_error the file cannot be a DIMM: memory in whole pages, then labels */
export function check_dimm(file: string, bytes: number, label_size: number): void {
  const size = bytes - label_size;
  if (size > 0 && size % 4096 === 0) return;
  const text = `${bytes} bytes cannot be a DIMM with ${label_size} bytes of labels`;
  throw new user_error(`${file}: ${text}`);
}

function case_files(place: string): string[] {
  if (!existsSync(place)) throw new user_error(`${place}: no such file or folder`);
  if (!statSync(place).isDirectory()) return [place];
  return readdirSync(place, { recursive: true, encoding: "utf8" })
    .filter((f) => f.endsWith(".sys"))
    .sort()
    .map((f) => path.join(place, f));
}

/** The recorded cases in folders and files. A case without its `.out` is an error. */
export function read_cases(places: readonly string[]): conform_case[] {
  return places.flatMap(case_files).map((file) => {
    const out = file.replace(/\.sys$/, ".out");
    if (!existsSync(out)) throw new user_error(`${file}: nothing recorded beside it (${out})`);
    const area = path.basename(path.dirname(path.resolve(file)));
    return {
      name: `${area}/${path.basename(file, ".sys")}`,
      area,
      script: readFileSync(file, "utf8"),
      expected: readFileSync(out, "utf8"),
    };
  });
}

/** tests/lib/e2fsprogs.ts - the real tools, where they are installed, and files to use them on. */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const FOLDERS = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];

/** Full path of a program, or undefined. */
export function find_tool(name: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(":"), ...FOLDERS];
  return folders.map((d) => path.join(d, name)).find((p) => existsSync(p));
}

export interface tool_result {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a real tool with a fixed clock and without progress lines. */
export function run_tool(name: string, args: readonly string[], now_sec = 1700000000): tool_result {
  const program = find_tool(name);
  if (!program) throw new Error(`${name} is not installed`);
  const env = {
    ...process.env,
    E2FSPROGS_FAKE_TIME: String(now_sec),
    MKE2FS_SKIP_PROGRESS: "1",
    LC_ALL: "C",
    TZ: "UTC",
  };
  const r = spawnSync(program, args, { env, encoding: "utf8", maxBuffer: 1 << 28, input: "" });
  return { status: r.status ?? -1, stdout: r.stdout ?? "", stderr: r.stderr ?? "" };
}

/** A folder of its own for a test file; removed when the process ends. */
export function temp_folder(): string {
  const dir = mkdtempSync(path.join(tmpdir(), "daxlab-"));
  process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Writes `pieces` into a sparse file of `size` bytes. */
export function write_sparse(
  file: string,
  size: number,
  pieces: Iterable<[number, Uint8Array]>,
): void {
  const fd = openSync(file, "w");
  try {
    ftruncateSync(fd, size);
    for (const [offset, bytes] of pieces) writeSync(fd, bytes, 0, bytes.length, offset);
  } finally {
    closeSync(fd);
  }
}

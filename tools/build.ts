/**
 * tools/build.ts - `npm run build`: dist/ from the sources, with esbuild.
 *
 * All entries are built together and share chunks, so that the command line, a user's script that
 * imports "daxlab" and the bench adapter meet the same classes. Everything below the entries is
 * loaded lazily through import(): `daxlab --version` reads one small file.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

function project_folder(): string {
  let dir = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(dir, "tsconfig.pure.json"))) dir = path.dirname(dir);
  return dir;
}

const root = project_folder();
const version: string = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")).version;

const entries: Record<string, string> = {
  cli: "tools/cli/main.ts",
  index: "index.ts",
  kernel: "tools/api/kernel.ts",
  explore: "tools/explore/index.ts",
  "bench/adapter": "tools/bench/adapter.ts",
  "bench/sched": "tools/bench/sched_adapter.ts",
};

/** Declarations for users' editors; the sources are checked elsewhere, so errors only warn. */
function build_types(): void {
  const tsc = path.join(root, "node_modules/typescript/bin/tsc");
  const args = [tsc, "-p", path.join(root, "tsconfig.types.json")];
  const run = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (run.status !== 0) console.error(`build: declarations: ${run.stdout.split("\n")[0]}`);
}

/** Builds every entry into `outdir`, replacing what is there. */
export async function build_dist(outdir: string): Promise<void> {
  rmSync(outdir, { recursive: true, force: true });
  await build({
    absWorkingDir: root,
    entryPoints: entries,
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    sourcemap: true,
    sourcesContent: false,
    minifySyntax: true, // puts the values of constants where they are used
    chunkNames: "chunks/[name]-[hash]",
    define: { DAXLAB_VERSION: JSON.stringify(version) },
    logLevel: "warning",
  });
  chmodSync(path.join(outdir, "cli.js"), 0o755);
}

const started = process.argv[1];
if (started !== undefined && import.meta.url === pathToFileURL(started).href) {
  await build_dist(path.join(root, "dist"));
  build_types();
}

/**
 * tests/lib/bundle.ts - test files made into plain JavaScript once, so that no child process pays
 * for a TypeScript loader (tsx costs five to eight times plain node's start).
 *
 * All entries are built together with shared chunks; npm packages stay outside. When the build of
 * the whole fails, each file is built alone: the ones that cannot be built are reported by name and
 * the others still run.
 */
import { mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { build, type BuildOptions } from "esbuild";
import { repo_path, repo_root } from "./paths.ts";

export interface built_file {
  /** Path relative to the project. */
  source: string;
  /** JavaScript to run, or undefined with `error` set. */
  script: string | undefined;
  error: string | undefined;
}

function options(sources: readonly string[], outdir: string): BuildOptions {
  return {
    absWorkingDir: repo_root,
    entryPoints: [...sources],
    outbase: repo_root,
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    sourcemap: true,
    sourcesContent: false,
    chunkNames: "chunks/[hash]",
    logLevel: "silent",
  };
}

/** A fresh folder below the project (so that packages resolve), removed when the process ends. */
export function cache_folder(): string {
  const dir = repo_path(".cache", `tests-${process.pid}`);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const script_of = (source: string, outdir: string) =>
  path.join(outdir, source.replace(/\.ts$/, ".js"));

async function build_alone(source: string, outdir: string): Promise<built_file> {
  // A folder of its own: the failed common build left nothing, but shared chunk names must not
  // meet.
  const own = path.join(outdir, source.replaceAll("/", "_"));
  try {
    await build(options([source], own));
    return { source, script: script_of(source, own), error: undefined };
  } catch (err) {
    return { source, script: undefined, error: (err as Error).message };
  }
}

/** Builds `sources` (relative to the project) into `outdir`. */
export async function bundle(sources: readonly string[], outdir: string): Promise<built_file[]> {
  if (sources.length === 0) return [];
  try {
    await build(options(sources, outdir));
    return sources.map((source) => ({
      source,
      script: script_of(source, outdir),
      error: undefined,
    }));
  } catch {
    const out: built_file[] = [];
    for (const source of sources) out.push(await build_alone(source, outdir));
    return out;
  }
}

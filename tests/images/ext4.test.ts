/**
 * Every clean ext4 image that a real kernel filled, mounted through the whole stack: what is seen
 * must be what that kernel saw, every field of it.
 */
import { isDeepStrictEqual } from "node:util";
import { image_tree, type tree_entry } from "../../tools/cmd/image_tree.ts";
import { type mounted, node_sha256, with_image } from "../lib/ext4_machine.ts";
import { image_names, read_image, read_manifest } from "../lib/images.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("images/ext4");

const path_of = (e: tree_entry): string => String(e.path ?? e.path_hex);

/** Differences, field by field; the manifest's `ondisk` comes from other tools. */
function differences(got: readonly tree_entry[], want: readonly tree_entry[]): string[] {
  const out: string[] = [];
  if (got.length !== want.length) out.push(`${got.length} paths, recorded ${want.length}`);
  for (let i = 0; i < Math.min(got.length, want.length) && out.length < 8; i++) {
    const { ondisk: _, ...w } = want[i]!;
    const g = got[i]!;
    for (const key of new Set([...Object.keys(g), ...Object.keys(w)])) {
      if (isDeepStrictEqual(g[key], w[key])) continue;
      const text = (x: unknown) => (JSON.stringify(x) ?? "nothing").slice(0, 300);
      out.push(`${path_of(w)}: ${key} is ${text(g[key])}, recorded ${text(w[key])}`);
    }
  }
  return out;
}

async function statfs(m: mounted): Promise<Record<string, number>> {
  const b = {
    f_type: 0,
    f_bsize: 0,
    f_blocks: 0,
    f_bfree: 0,
    f_bavail: 0,
    f_files: 0,
    f_ffree: 0,
    f_namelen: 0,
    f_frsize: 0,
    f_flags: 0,
    f_fsid: 0,
  };
  await m.sb.s_op.statfs!(m.root.dentry, b);
  return {
    bsize: b.f_bsize,
    frsize: b.f_frsize,
    blocks: b.f_blocks,
    bfree: b.f_bfree,
    bavail: b.f_bavail,
    files: b.f_files,
    ffree: b.f_ffree,
    namemax: b.f_namelen,
  };
}

const names = image_names("ext4");

t("all twenty images are here", () => {
  assert.is(names.length, 20);
});

for (const name of names) {
  t(
    `${name}: tree, contents, extents and attributes equal the manifest`,
    async () => {
      const manifest = read_manifest("ext4", name);
      const seen = await with_image(read_image("ext4", name), "ro", async (m) => ({
        statfs: await statfs(m),
        tree: await image_tree(m.root, node_sha256),
        log: m.kernel.dmesg().filter((l) => l.level <= 4),
      }));
      assert.equal(differences(seen.tree, manifest.tree), []);
      assert.equal(seen.statfs, manifest.statfs);
      assert.equal(seen.log, [], "a clean image is mounted and read without a warning");
    },
    { timeout_ms: 180_000 },
  );
}

t.run();

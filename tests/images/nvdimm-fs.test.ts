/**
 * tests/images/nvdimm-fs.test.ts - the ext4 filesystems on the recorded DIMMs, found through
 * labels, info blocks, BTT and partition tables, hold what Linux saw.
 */
import { createHash } from "node:crypto";
import { path_put } from "../../fs/mount.ts";
import { kern_path } from "../../fs/namei.ts";
import { Machine } from "../../tools/api/machine.ts";
import { image_tree, type tree_entry } from "../../tools/cmd/image_tree.ts";
import { read_dimm, read_manifest } from "../lib/images.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("images/nvdimm-fs");

const sha256 = () => {
  const h = createHash("sha256");
  return { update: (b: Uint8Array) => void h.update(b), hex: () => h.digest("hex") };
};

/** What does not depend on when the tree was looked at. */
function essence(e: tree_entry): Record<string, unknown> {
  const { type, mode, uid, gid, nlink, size, target, sha256: sum, data_segments, xattrs } = e;
  return { type, mode, uid, gid, nlink, size, target, sum, data_segments, xattrs };
}

async function tree_of(m: Machine, dir: string): Promise<tree_entry[]> {
  const p = m.process("look");
  return await p.in_kernel(async (kernel) => {
    const at = await kern_path(kernel, dir, true);
    try {
      return await image_tree(at, sha256);
    } finally {
      await path_put(at);
    }
  });
}

const by_path = (list: readonly tree_entry[]): [string, unknown][] =>
  list.map((e) => [String(e.path ?? e.path_hex), e["hardlink_of"] ?? essence(e)]);

const FILESYSTEMS: readonly [image: string, manifest: string, disk: string, options: string][] = [
  ["nvdimm-fsdax-ext4", "ns0", "pmem0", "ro,dax=always"],
  ["nvdimm-fsdax-mem", "ns0", "pmem0", "ro,dax=always"],
  ["nvdimm-multi", "ns0", "pmem0", "ro,dax=always"],
  ["nvdimm-nolabels", "ns0", "pmem0", "ro,dax=always"],
  ["nvdimm-gpt", "ns0p1", "pmem0p1", "ro,dax=always"],
  ["nvdimm-mbr", "ns0p1", "pmem0p1", "ro,dax=always"],
  ["nvdimm-btt-4k", "ns0", "pmem0s", "ro"],
];

for (const [image, part, disk, options] of FILESYSTEMS) {
  t(`${image}: the ext4 on ${disk} holds what Linux saw`, async () => {
    const { label_area_bytes } = read_manifest("nvdimm", image);
    const m = await Machine.boot({ nvdimm: { dimms: [await read_dimm(image, label_area_bytes)] } });
    const p = m.process();
    await p.mount(`/dev/${disk}`, "/mnt", "ext4", options);
    const want = read_manifest("nvdimm", `${image}.${part}`).tree;
    assert.equal(by_path(await tree_of(m, "/mnt")), by_path(want));
    await p.umount("/mnt");
  });
}

t.skip("nvdimm-cut-ext4: the ext4 on pmem0 recovers", "journal replay is not built yet");

t.run();

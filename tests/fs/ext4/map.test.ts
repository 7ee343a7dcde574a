/** The extent status cache against a plain model, and the block map: fast, synchronous, right. */
import fc from "../../lib/property.ts";
import { attach_pmem } from "../../../drivers/nvdimm/pmem.ts";
import { EXT4_I, new_map } from "../../../fs/ext4/ext4_fs.ts";
import {
  EXTENT_STATUS_DELAYED,
  EXTENT_STATUS_HOLE,
  EXTENT_STATUS_UNWRITTEN,
  EXTENT_STATUS_WRITTEN,
  ext4_es_cache_extent,
  ext4_es_find_extent_range,
  ext4_es_insert_extent,
  ext4_es_is_delayed,
  ext4_es_lookup_extent,
  ext4_es_remove_extent,
  new_es_tree,
  new_extent_status,
} from "../../../fs/ext4/extents_status.ts";
import { ext4_map_blocks } from "../../../fs/ext4/inode.ts";
import { ext4_iomap_ops } from "../../../fs/ext4/iomap.ts";
import { mntput } from "../../../fs/mount.ts";
import { __lookup } from "../../../fs/namei/walk.ts";
import { dput } from "../../../fs/dcache.ts";
import type { inode } from "../../../kernel/include/fs.ts";
import { IOMAP_DAX, IOMAP_MAPPED, type iomap } from "../../../kernel/include/iomap.ts";
import { boot_kernel, in_task, mount_pmem } from "../../lib/ext4_machine.ts";
import { read_image } from "../../lib/images.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/map");

const bare_inode = (): inode =>
  ({ i_fs: { i_es_tree: new_es_tree(), i_es_seq: 0 } }) as unknown as inode;

const STATUS = [
  EXTENT_STATUS_WRITTEN,
  EXTENT_STATUS_UNWRITTEN,
  EXTENT_STATUS_DELAYED,
  EXTENT_STATUS_HOLE,
  EXTENT_STATUS_DELAYED | EXTENT_STATUS_UNWRITTEN,
];
const MAPPED = EXTENT_STATUS_WRITTEN | EXTENT_STATUS_UNWRITTEN;

interface step {
  op: "insert" | "remove" | "cache";
  lblk: number;
  len: number;
  pblk: number;
  status: number;
}
const step_arb: fc.Arbitrary<step> = fc.record({
  op: fc.constantFrom("insert" as const, "insert" as const, "remove" as const, "cache" as const),
  lblk: fc.nat(60),
  len: fc.integer({ min: 1, max: 20 }),
  pblk: fc.integer({ min: 100, max: 140 }),
  status: fc.constantFrom(...STATUS),
});

type model = Map<number, { pblk: number; status: number }>;

const only_delayed = (s: number) => (s & EXTENT_STATUS_DELAYED) !== 0 && (s & MAPPED) === 0;

function apply(inode: inode, model: model, s: step): void {
  let known = 0;
  let delayed = 0;
  for (let i = 0; i < s.len; i++) {
    const at = model.get(s.lblk + i);
    if (at) known++;
    if (at && only_delayed(at.status)) delayed++;
  }
  if (s.op === "cache") {
    ext4_es_cache_extent(inode, s.lblk, s.len, s.pblk, s.status);
    if (known) return;
  } else if (s.op === "remove") {
    assert.is(ext4_es_remove_extent(inode, s.lblk, s.len), delayed);
  } else {
    const n = ext4_es_insert_extent(inode, s.lblk, s.len, s.pblk, s.status);
    assert.is(n, delayed);
  }
  for (let i = 0; i < s.len; i++) {
    if (s.op === "remove") model.delete(s.lblk + i);
    else model.set(s.lblk + i, { pblk: s.status & MAPPED ? s.pblk + i : 0, status: s.status });
  }
}

function check(inode: inode, model: model): void {
  const es = new_extent_status();
  for (let b = 0; b < 90; b++) {
    const want = model.get(b);
    const found = ext4_es_lookup_extent(inode, b, es);
    assert.is(found, want !== undefined, `block ${b}`);
    if (!want) continue;
    assert.is(es.es_status, want.status, `status of block ${b}`);
    const pblk = want.status & MAPPED ? es.es_pblk + (b - es.es_lblk) : es.es_pblk;
    assert.is(pblk, want.pblk, `place of block ${b}`);
  }
  const tree = EXT4_I(inode).i_es_tree;
  for (let i = 1; i < tree.lblk.length; i++) {
    const end = tree.lblk[i - 1]! + tree.len[i - 1]!;
    assert.ok(end <= tree.lblk[i]!, "runs are sorted and disjoint");
  }
  const first = [...model].filter(([, v]) => v.status & EXTENT_STATUS_DELAYED).map(([b]) => b);
  const any = ext4_es_find_extent_range(inode, ext4_es_is_delayed, 0, 100, es);
  assert.is(any, first.length > 0);
  if (any) assert.is(es.es_lblk, Math.min(...first));
}

t("the extent status cache knows block by block what it was told", () => {
  fc.assert(
    fc.property(fc.array(step_arb, { maxLength: 40 }), (steps) => {
      const inode = bare_inode();
      const model: model = new Map();
      for (const s of steps) {
        apply(inode, model, s);
        check(inode, model);
      }
    }),
    { numRuns: 150, seed: 1 },
  );
});

t("neighbours that continue each other become one run", () => {
  const inode = bare_inode();
  ext4_es_insert_extent(inode, 0, 4, 100, EXTENT_STATUS_WRITTEN);
  ext4_es_insert_extent(inode, 8, 4, 108, EXTENT_STATUS_WRITTEN);
  ext4_es_insert_extent(inode, 4, 4, 104, EXTENT_STATUS_WRITTEN);
  assert.equal(EXT4_I(inode).i_es_tree.len, [12]);
});

const new_iomap = (): iomap => ({
  addr: 0,
  offset: 0,
  length: 0,
  type: 0,
  flags: 0,
  bdev: null,
  dax_dev: null,
  inline_data: null,
  private: null,
});

async function with_file(
  image: string,
  path: string[],
  fn: (inode: inode) => Promise<void>,
): Promise<void> {
  const kernel = boot_kernel();
  attach_pmem(kernel, { image: read_image("ext4", image), mode: "raw", name: "pmem0" });
  await in_task(kernel, async () => {
    const { root } = await mount_pmem(kernel);
    let d = root.dentry;
    const held = [];
    for (const name of path) {
      const dir = d.d_inode!;
      const p = dir.i_rwsem.down_read();
      if (p) await p;
      d = await __lookup(d, name, 0);
      dir.i_rwsem.up_read();
      held.push(d);
    }
    await fn(d.d_inode!);
    for (const x of held.reverse()) await dput(x);
    await mntput(root.mnt);
  });
}

t("a run that was looked up once is answered without a promise", () =>
  with_file("ext4-extents", ["striped"], async (inode) => {
    const map = new_map(0, 100);
    const n = await ext4_map_blocks(null, inode, map, 0);
    const again = new_map(0, 100);
    const answer = ext4_map_blocks(null, inode, again, 0);
    assert.is(answer, n, "the same number, at once");
    assert.equal(again, map);
    const iomap = new_iomap();
    const begin = ext4_iomap_ops.iomap_begin;
    const p = begin(inode, 0, 4096, IOMAP_DAX, iomap, new_iomap());
    assert.is(p, undefined, "no promise");
    assert.is(iomap.length, 4096);
    assert.is(iomap.type === IOMAP_MAPPED, (map.m_flags & 16) !== 0);
  }),
);

t("a block beyond the largest file is refused", () =>
  with_file("ext4-extents", ["striped"], async (inode) => {
    assert.throws(() => ext4_map_blocks(null, inode, new_map(0xffffffff, 1), 0));
  }),
);

t.run();

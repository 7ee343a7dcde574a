/**
 * Every checksum of every recorded ext4 image, recomputed: superblocks (with backups), group
 * descriptors, bitmaps, inodes, extent nodes, directory and hash tree blocks, attribute blocks.
 * An image without metadata_csum has to have none of them.
 */
import {
  DX_HASH_HALF_MD4,
  DX_HASH_LEGACY,
  DX_HASH_TEA,
  EXT4_BG_BLOCK_UNINIT,
  EXT4_BG_INODE_UNINIT,
  EXT4_EXTENTS_FL,
  EXT4_EXT_MAGIC,
  EXT4_FEATURE_INCOMPAT_64BIT,
  EXT4_FEATURE_INCOMPAT_META_BG,
  EXT4_INDEX_FL,
  EXT4_INLINE_DATA_FL,
  EXT4_SUPER_MAGIC,
  ext4_extent,
  ext4_extent_header,
  ext4_extent_idx,
  ext4_group_desc,
  ext4_inode,
  ext4_super_block,
} from "../../../fs/ext4/ext4.ts";
import * as csum from "../../../fs/ext4/csum.ts";
import { ext4fs_dirhash } from "../../../fs/ext4/hash.ts";
import type { struct_of } from "../../../kernel/lib/struct.ts";
import { image_names, read_image } from "../../lib/images.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/format");

class image {
  b: Uint8Array;
  es: struct_of<typeof ext4_super_block>;
  bs: number;
  seed: number;
  checked = { desc: 0, bitmap: 0, inode: 0, extent: 0, leaf: 0, dx: 0, xattr: 0, hash: 0 };
  constructor(name: string) {
    this.b = read_image("ext4", name);
    this.es = ext4_super_block.at(this.b, 1024);
    assert.is(this.es.s_magic, EXT4_SUPER_MAGIC);
    this.bs = 1024 << this.es.s_log_block_size;
    this.seed = csum.ext4_csum_seed(this.es);
  }
  get desc_size(): number {
    return this.es.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT ? this.es.s_desc_size : 32;
  }
  get groups(): number {
    const { s_blocks_count_lo, s_first_data_block, s_blocks_per_group } = this.es;
    return Math.ceil((s_blocks_count_lo - s_first_data_block) / s_blocks_per_group);
  }
  block(nr: number): Uint8Array {
    return this.b.subarray(nr * this.bs, (nr + 1) * this.bs);
  }
  has_super(group: number): boolean {
    const first = this.es.s_first_data_block + group * this.es.s_blocks_per_group;
    const at = group === 0 ? 1024 : first * this.bs;
    const copy = ext4_super_block.at(this.b, at);
    return copy.s_magic === EXT4_SUPER_MAGIC && copy.s_block_group_nr === group;
  }
  desc_offset(group: number): number {
    const per_block = this.bs / this.desc_size;
    const nr = Math.floor(group / per_block);
    let at = this.es.s_first_data_block + 1 + nr;
    if (
      this.es.s_feature_incompat & EXT4_FEATURE_INCOMPAT_META_BG &&
      nr >= this.es.s_first_meta_bg
    ) {
      const first_group = nr * per_block;
      at = this.es.s_first_data_block + first_group * this.es.s_blocks_per_group;
      if (this.has_super(first_group)) at++;
    }
    return at * this.bs + (group % per_block) * this.desc_size;
  }

  /** Physical blocks of an extent-mapped inode in order, checking the tree's blocks. */
  *extent_blocks(node: Uint8Array, inode_seed: number): Generator<[number, number]> {
    const eh = ext4_extent_header.at(node);
    assert.is(eh.eh_magic, EXT4_EXT_MAGIC);
    for (let i = 0; i < eh.eh_entries; i++) {
      if (eh.eh_depth === 0) {
        const ex = ext4_extent.at(node, 12 + 12 * i);
        const unwritten = ex.ee_len > 32768;
        for (let k = 0; !unwritten && k < ex.ee_len; k++) {
          yield [ex.ee_block + k, ex.ee_start_hi * 2 ** 32 + ex.ee_start_lo + k];
        }
      } else {
        const ix = ext4_extent_idx.at(node, 12 + 12 * i);
        const child = this.block(ix.ei_leaf_hi * 2 ** 32 + ix.ei_leaf_lo);
        if (csum.ext4_has_metadata_csum(this.es)) {
          assert.ok(csum.ext4_extent_block_csum_verify(inode_seed, child), "extent block");
          this.checked.extent++;
        }
        yield* this.extent_blocks(child, inode_seed);
      }
    }
  }

  check_directory(off: number, inode_seed: number, indexed: boolean): void {
    const node = this.b.subarray(off + 40, off + 100);
    let ranges: [number, number][] = [];
    for (const [lblk, pblk] of this.extent_blocks(node, inode_seed)) {
      const block = this.block(pblk);
      const dx = indexed && csum.ext4_dx_count_offset(block) !== undefined;
      if (dx) {
        assert.ok(csum.ext4_dx_csum_verify(inode_seed, block), "hash tree block");
        this.checked.dx++;
        if (lblk === 0 || block[30] === 0) ranges = ranges.concat(this.dx_ranges(block));
      } else {
        assert.ok(csum.ext4_dirblock_csum_verify(inode_seed, block), "directory block");
        this.checked.leaf++;
        const range = ranges.find(([leaf]) => leaf === lblk);
        if (range) this.check_hashes(block, range[1]);
      }
    }
  }
  /** [logical block, lowest hash] of a root without inner levels. */
  dx_ranges(root: Uint8Array): [number, number][] {
    if (root[30] !== 0 || root[4] !== 12) return [];
    const v = new DataView(root.buffer, root.byteOffset, root.byteLength);
    const out: [number, number][] = [];
    for (let i = 0; i < v.getUint16(34, true); i++) {
      const hash = i === 0 ? 0 : v.getUint32(32 + 8 * i, true);
      out.push([v.getUint32(36 + 8 * i, true), hash]);
    }
    return out;
  }
  check_hashes(block: Uint8Array, lowest: number): void {
    const unsigned = this.es.s_flags & 2 ? 3 : 0;
    for (let at = 0; at < block.length - 12; ) {
      const v = new DataView(block.buffer, block.byteOffset + at);
      if (v.getUint32(0, true) !== 0) {
        const name = block.subarray(at + 8, at + 8 + v.getUint8(6));
        const version = this.es.s_def_hash_version + unsigned;
        const h = ext4fs_dirhash(name, version, this.es.s_hash_seed);
        assert.ok(h !== undefined && h.hash >= (lowest & ~1) >>> 0, "hash below its leaf's range");
        this.checked.hash++;
      }
      at += v.getUint16(4, true);
    }
  }

  check_inode(ino: number, off: number): void {
    const raw = ext4_inode.at(this.b, off);
    const inode_seed = csum.ext4_inode_csum_seed(this.seed, ino, raw.i_generation);
    if (csum.ext4_has_metadata_csum(this.es) && (raw.i_mode !== 0 || raw.i_checksum_lo !== 0)) {
      const size = this.es.s_inode_size;
      assert.ok(csum.ext4_inode_csum_verify(inode_seed, this.b, off, size), `inode ${ino}`);
      this.checked.inode++;
    }
    if (raw.i_mode === 0 || raw.i_links_count === 0) return;
    const mapped = raw.i_flags & EXT4_EXTENTS_FL && !(raw.i_flags & EXT4_INLINE_DATA_FL);
    const type = raw.i_mode & 0xf000;
    if (type === 0x4000 && mapped && csum.ext4_has_metadata_csum(this.es)) {
      this.check_directory(off, inode_seed, (raw.i_flags & EXT4_INDEX_FL) !== 0);
    } else if (mapped && (type === 0x8000 || type === 0x4000)) {
      for (const _ of this.extent_blocks(this.b.subarray(off + 40, off + 100), inode_seed));
    }
    const acl = raw.i_file_acl_high * 2 ** 32 + raw.i_file_acl_lo;
    if (acl !== 0 && csum.ext4_has_metadata_csum(this.es)) {
      assert.ok(csum.ext4_xattr_block_csum_verify(this.seed, acl, this.block(acl)), "attributes");
      this.checked.xattr++;
    }
  }

  check_group(group: number): void {
    const { es } = this;
    const off = this.desc_offset(group);
    const size = this.desc_size;
    assert.ok(
      csum.ext4_group_desc_csum_verify(es, this.seed, group, this.b, off, size),
      `group ${group}`,
    );
    this.checked.desc++;
    const gdp = ext4_group_desc.at(this.b, off);
    const itable = gdp.bg_inode_table_lo;
    const uninit = csum.ext4_has_group_desc_csum(es) ? gdp.bg_flags : 0;
    const bitmap = this.block(gdp.bg_inode_bitmap_lo);
    if (csum.ext4_has_metadata_csum(es)) {
      if (!(uninit & EXT4_BG_INODE_UNINIT)) {
        const c = csum.ext4_bitmap_csum(this.seed, bitmap, es.s_inodes_per_group / 8);
        assert.ok(csum.ext4_inode_bitmap_csum_verify(gdp, size, c), `inode bitmap ${group}`);
        this.checked.bitmap++;
      }
      if (!(uninit & EXT4_BG_BLOCK_UNINIT)) {
        const blocks = this.block(gdp.bg_block_bitmap_lo);
        const c = csum.ext4_bitmap_csum(this.seed, blocks, es.s_clusters_per_group / 8);
        assert.ok(csum.ext4_block_bitmap_csum_verify(gdp, size, c), `block bitmap ${group}`);
        this.checked.bitmap++;
      }
    }
    if (uninit & EXT4_BG_INODE_UNINIT) return;
    for (let i = 0; i < es.s_inodes_per_group; i++) {
      if (!(bitmap[i >> 3]! & (1 << (i & 7)))) continue;
      const ino = group * es.s_inodes_per_group + i + 1;
      this.check_inode(ino, itable * this.bs + i * es.s_inode_size);
    }
  }
}

const total = { desc: 0, bitmap: 0, inode: 0, extent: 0, leaf: 0, dx: 0, xattr: 0, hash: 0 };

for (const name of image_names("ext4")) {
  t(`all checksums of ${name} are those we compute`, () => {
    const im = new image(name);
    if (csum.ext4_has_metadata_csum(im.es)) {
      assert.ok(csum.ext4_superblock_csum_verify(im.b, 1024), "superblock");
      assert.is(csum.ext4_superblock_csum_verify(im.b.slice(1023, 2047)), false);
    }
    for (let group = 0; group < im.groups; group++) im.check_group(group);
    assert.ok(im.checked.desc > 0);
    for (const k of Object.keys(total) as (keyof typeof total)[]) total[k] += im.checked[k];
  });
}

t("the images together hold every kind of checksum", () => {
  for (const [kind, n] of Object.entries(total)) assert.ok(n > 10, `only ${n} of kind ${kind}`);
});

t("each hash version has the value that debugfs prints", () => {
  // debugfs -R 'dx_hash -h VERSION [-s 01020304-0506-0708-090a-0b0c0d0e0f10] NAME'
  const bytes = (name: string) => Uint8Array.from(Buffer.from(name, "utf8"));
  const seed = [0x04030201, 0x08070605, 0x0c0b0a09, 0x100f0e0d];
  const long = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF";
  const facts: [number, string, number[], number, number][] = [
    [DX_HASH_LEGACY, "hello.txt", [], 0x65a05776, 0],
    [DX_HASH_LEGACY, long, seed, 0x70976438, 0],
    [DX_HASH_LEGACY, "räum", [], 0x5d57b456, 0],
    [DX_HASH_HALF_MD4, "hello.txt", [0, 0, 0, 0], 0xa26e1d86, 0x133b3f98],
    [DX_HASH_HALF_MD4, "hello.txt", seed, 0xac15d19c, 0x21f363],
    [DX_HASH_HALF_MD4, "a", [], 0xd5fa7d7a, 0xacb48187],
    [DX_HASH_HALF_MD4, long, [], 0x9ffcfcde, 0xe3f28c3a],
    [DX_HASH_HALF_MD4, long, seed, 0x2ed47f9c, 0x93b5e69e],
    [DX_HASH_HALF_MD4, "räum", [], 0x791f9f7a, 0xa35fa2e7],
    [DX_HASH_TEA, "hello.txt", [], 0x5107c3f2, 0x3840cb7],
    [DX_HASH_TEA, "a", seed, 0xf53528f0, 0xea54fb01],
    [DX_HASH_TEA, long, seed, 0x241b5796, 0x2bd151c],
    [DX_HASH_TEA, "räum", seed, 0xd7199af0, 0xe4272e0a],
  ];
  for (const [version, name, s, hash, minor_hash] of facts) {
    assert.equal(ext4fs_dirhash(bytes(name), version, s), { hash, minor_hash }, name);
  }
  assert.is(ext4fs_dirhash(bytes("a"), 6, []), undefined);
});

t("signed and unsigned hashes differ for bytes above 0x7f only", () => {
  for (const v of [DX_HASH_LEGACY, DX_HASH_HALF_MD4, DX_HASH_TEA]) {
    const plain = Uint8Array.from([0x61, 0x7f, 0x20]);
    const high = Uint8Array.from([0x61, 0xff, 0x20]);
    assert.equal(ext4fs_dirhash(plain, v, []), ext4fs_dirhash(plain, v + 3, []));
    assert.not.equal(ext4fs_dirhash(high, v, []), ext4fs_dirhash(high, v + 3, []));
  }
});

t.run();

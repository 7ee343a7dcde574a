/**
 * What mounting an ext4 image answers: options, DAX rules, features, damaged superblocks, the
 * journal.
 */
import { attach_pmem } from "../../../drivers/nvdimm/pmem.ts";
import { ext4_superblock_csum_set } from "../../../fs/ext4/csum.ts";
import {
  EXT4_FEATURE_INCOMPAT_RECOVER,
  EXT4_FEATURE_RO_COMPAT_METADATA_CSUM,
  ext4_super_block,
} from "../../../fs/ext4/ext4.ts";
import { mntput } from "../../../fs/mount.ts";
import { type Errno, is_errno } from "../../../kernel/include/errno.ts";
import { SB_RDONLY } from "../../../kernel/include/fs.ts";
import type { struct_of } from "../../../kernel/lib/struct.ts";
import { boot_kernel, in_task, mount_pmem } from "../../lib/ext4_machine.ts";
import { read_image } from "../../lib/images.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/mount");

type es_view = struct_of<typeof ext4_super_block>;

interface answer {
  /** "ok" or the code of the error. */
  result: string;
  log: string[];
  /** Options as /proc/mounts shows them. */
  options: string;
  rdonly: boolean;
}

interface how {
  options?: string;
  rw?: boolean;
  type?: "ext2" | "ext3" | "ext4";
  page_shift?: 12 | 16;
  /** Changes the superblock; its checksum is put right afterwards. */
  change?: (es: es_view) => void;
  /** Changes bytes and leaves the checksum wrong. */
  damage?: (image: Uint8Array) => void;
}

async function mount(name: string, how: how = {}): Promise<answer> {
  const image = new Uint8Array(read_image("ext4", name));
  if (how.change) {
    const es = ext4_super_block.at(image, 1024);
    how.change(es);
    if (es.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) {
      ext4_superblock_csum_set(image, 1024);
    }
  }
  how.damage?.(image);
  const kernel = boot_kernel(how.page_shift ? { page_shift: how.page_shift } : {});
  attach_pmem(kernel, { image, mode: "raw", pages: true, name: "pmem0" });
  const a: answer = { result: "ok", log: [], options: "", rdonly: true };
  await in_task(kernel, async () => {
    try {
      const flags = how.rw ? 0 : SB_RDONLY;
      const { sb, root } = await mount_pmem(kernel, how.options ?? "", flags, how.type ?? "ext4");
      a.options = sb.s_op.show_options!(sb);
      a.rdonly = (sb.s_flags & SB_RDONLY) !== 0;
      await mntput(root.mnt);
    } catch (e) {
      if (!is_errno(e)) throw e;
      a.result = (e as Errno).code;
    }
  });
  a.log = kernel.dmesg().map((l) => l.text);
  return a;
}

function has(a: answer, text: string): void {
  assert.ok(
    a.log.some((l) => l.includes(text)),
    `no line with "${text}" in:\n${a.log.join("\n")}`,
  );
}

t("an option that nobody knows is refused", async () => {
  const a = await mount("ext4-nocsum", { options: "nosuchoption" });
  assert.is(a.result, "EINVAL");
  has(a, "ext4: Unknown parameter 'nosuchoption'");
});

t("a value that an option does not take is refused", async () => {
  for (const options of ["dax=sometimes", "errors=ignore", "commit=x", "data=none", "acl=1"]) {
    assert.is((await mount("ext4-nocsum", { options })).result, "EINVAL", options);
  }
});

t("options that differ from the defaults are shown, the others not", async () => {
  const a = await mount("ext4-default", { options: "nodelalloc,errors=continue,nobarrier,noacl" });
  assert.is(a.result, "EINVAL", "noacl is gone since 6.1");
  const b = await mount("ext4-default", { options: "nodelalloc,errors=remount-ro,nobarrier" });
  assert.is(b.options, "nodelalloc,nobarrier,errors=remount-ro");
  const c = await mount("ext4-default");
  assert.is(c.options, "");
});

t("dax=always needs blocks of the page size", async () => {
  const a = await mount("ext4-1k", { options: "dax=always" });
  assert.is(a.result, "EINVAL");
  has(a, "EXT4-fs (pmem0): unsupported blocksize for DAX");
  has(a, "EXT4-fs (pmem0): DAX unsupported by block device.");
  const b = await mount("ext4-1k", { options: "dax=inode" });
  assert.is(b.result, "ok");
  assert.is(b.options, "dax=inode");
});

t("dax=always and inline data exclude each other", async () => {
  const a = await mount("ext4-inline", { options: "dax" });
  assert.is(a.result, "EINVAL");
  has(a, "Cannot use DAX on a filesystem that may contain inline data");
});

t("data=journal is refused read-write while the journal is not written, naming that", async () => {
  const a = await mount("ext4-default", { options: "data=journal", rw: true });
  assert.is(a.result, "EINVAL");
  has(a, "data=journal needs a journal that is written, which is not supported yet");
  assert.is((await mount("ext4-default", { options: "data=journal" })).result, "ok");
});

t("dax=always and data=journal exclude each other", async () => {
  const a = await mount("ext4-default", { options: "dax=always,data=journal" });
  assert.is(a.result, "EINVAL");
  has(a, "can't mount with both data=journal and dax");
});

t("without a journal, options about it are refused", async () => {
  for (const options of ["data=ordered", "commit=10", "journal_async_commit", "data_err=abort"]) {
    assert.is((await mount("ext4-nojournal", { options })).result, "EINVAL", options);
  }
});

t("a clean journal is left empty and the log says what that means", async () => {
  const a = await mount("ext4-default", { rw: true });
  assert.is(a.result, "ok");
  assert.is(a.rdonly, false);
  has(a, "not crash-safe");
});

t("a journal that needs recovery is refused, read-only too, but for noload", async () => {
  const change = (es: es_view) => {
    es.s_feature_incompat |= EXT4_FEATURE_INCOMPAT_RECOVER;
  };
  for (const rw of [true, false]) {
    const a = await mount("ext4-default", { change, rw });
    assert.is(a.result, "EINVAL");
    has(a, "journal needs recovery");
  }
  assert.is((await mount("ext4-default", { change, options: "noload" })).result, "ok");
  const a = await mount("ext4-default", { change, options: "noload", rw: true });
  assert.is(a.result, "EINVAL");
  has(a, "required journal recovery suppressed and not mounted read-only");
});

t("quota files are read but not written", async () => {
  assert.is((await mount("ext4-quota")).result, "ok");
  const a = await mount("ext4-quota", { rw: true });
  assert.is(a.result, "EINVAL");
  has(a, "feature quota");
});

t("features decide which of ext2, ext3 and ext4 an image can be mounted as", async () => {
  const ext3 = await mount("ext4-indirect", { type: "ext3" });
  assert.is(ext3.result, "ok");
  has(ext3, "mounting ext3 file system using the ext4 subsystem");
  for (const type of ["ext2", "ext3"] as const) {
    const a = await mount("ext4-default", { type });
    assert.is(a.result, "EINVAL");
    has(a, `couldn't mount as ${type} due to feature incompatibilities`);
  }
  const none = await mount("ext4-nojournal", { type: "ext3" });
  assert.is(none.result, "EINVAL", "ext3 needs a journal");
});

t("unknown features are refused: all of them, or for writing only", async () => {
  const incompat = await mount("ext4-default", {
    change: (es) => {
      es.s_feature_incompat |= 0x40000000;
    },
  });
  assert.is(incompat.result, "EINVAL");
  has(incompat, "Couldn't mount because of unsupported optional features (40000000)");
  const change = (es: es_view) => {
    es.s_feature_ro_compat |= 0x40000000;
  };
  assert.is((await mount("ext4-default", { change })).result, "ok");
  const rw = await mount("ext4-default", { change, rw: true });
  assert.is(rw.result, "EINVAL");
  has(rw, "couldn't mount RDWR because of unsupported optional features (40000000)");
});

t("the feature read-only turns a mount into a read-only one", async () => {
  const a = await mount("ext4-default", {
    rw: true,
    change: (es) => {
      es.s_feature_ro_compat |= 0x1000;
    },
  });
  assert.is(a.result, "ok");
  assert.is(a.rdonly, true);
  has(a, "filesystem is read-only");
});

const GEOMETRY: [string, (es: es_view) => void, string, string][] = [
  ["a block size of 1 MiB", (es) => (es.s_log_block_size = 10), "EINVAL", "Invalid log block size"],
  [
    "blocks above the page size",
    (es) => (es.s_log_block_size = 3),
    "EINVAL",
    "bad block size 8192",
  ],
  ["a cluster of another size", (es) => (es.s_log_cluster_size = 3), "EINVAL", "fragment/cluster"],
  ["no blocks per group", (es) => (es.s_blocks_per_group = 0), "EINVAL", "Can't find ext4"],
  ["a large group", (es) => (es.s_blocks_per_group = 40000), "EINVAL", "#blocks per group too big"],
  [
    "no inodes per group",
    (es) => (es.s_inodes_per_group = 0),
    "EINVAL",
    "invalid inodes per group",
  ],
  [
    "another number of inodes",
    (es) => (es.s_inodes_count += 1),
    "EINVAL",
    "inodes count not valid",
  ],
  ["odd inodes", (es) => (es.s_inode_size = 300), "EINVAL", "unsupported inode size: 300"],
  ["a low first inode", (es) => (es.s_first_ino = 3), "EINVAL", "invalid first ino: 3"],
  ["more blocks than the device", (es) => (es.s_blocks_count_lo = 1e6), "EINVAL", "bad geometry"],
  ["a first block at the end", (es) => (es.s_first_data_block = 1e6), "EINVAL", "bad geometry"],
  ["odd descriptors", (es) => (es.s_desc_size = 48), "EINVAL", "unsupported descriptor size 48"],
  ["an unknown hash", (es) => (es.s_def_hash_version = 9), "EINVAL", "Invalid default hash"],
  ["no journal inode", (es) => (es.s_journal_inum = 9), "EINVAL", "no journal found"],
  ["many reserved descriptors", (es) => (es.s_reserved_gdt_blocks = 5000), "EINVAL", "insanely"],
  ["too much extra space", (es) => (es.s_want_extra_isize = 500), "EINVAL", "s_want_extra_isize"],
];
for (const [what, change, code, text] of GEOMETRY) {
  t(`a superblock with ${what} is refused, saying why`, async () => {
    const a = await mount("ext4-default", { change: (es) => void change(es) });
    assert.is(a.result, code);
    has(a, text);
  });
}

t("what is no ext4 at all, and a superblock that fails its checksum, are told apart", async () => {
  const none = await mount("ext4-default", { damage: (b) => b.fill(0, 1024, 2048) });
  assert.is(none.result, "EINVAL");
  has(none, "VFS: Can't find ext4 filesystem");
  const bad = await mount("ext4-default", { damage: (b) => (b[1024 + 0x78]! ^= 1) });
  assert.is(bad.result, "EBADMSG");
  has(bad, "invalid superblock checksum");
});

t("group descriptors that fail their checksum stop a read-write mount only", async () => {
  const damage = (b: Uint8Array) => {
    b[4096 + 0x0c]! ^= 1;
  };
  const rw = await mount("ext4-default", { damage, rw: true });
  assert.is(rw.result, "EUCLEAN");
  has(rw, "group descriptors corrupted!");
  const ro = await mount("ext4-default", { damage });
  assert.is(ro.result, "ok");
  has(ro, "Checksum for group 0 failed");
});

t("with pages of 64 KiB no 4 KiB filesystem is DAX capable", async () => {
  const a = await mount("ext4-default", { options: "dax=always", page_shift: 16 });
  assert.is(a.result, "EINVAL");
  has(a, "unsupported blocksize for DAX");
});

t.run();

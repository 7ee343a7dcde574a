/** tools/cmd/mke2fs/extended.ts - the -E options of mkfs.ext4. */

import { EXT2_FLAGS_TEST_FILESYS } from "../../../fs/ext4/ext4.ts";
import { parse_integer, parse_size } from "../size.ts";
import { Mke2fsError } from "./filsys.ts";

export interface extended_opts {
  desc_size?: number;
  hash_seed?: string;
  mmp_update_interval?: number;
  num_backup_sb?: number;
  packed_meta_blocks?: boolean;
  raid_stride?: number;
  raid_stripe_width?: number;
  /** As typed: the unit depends on the block size. */
  resize?: string;
  flags?: number;
  lazy_itable_init?: boolean;
  lazy_journal_init?: boolean;
  root_owner?: readonly [uid: number, gid: number];
  discard?: boolean;
  /** Which of user, group, project. */
  quotatype?: readonly boolean[];
  assume_storage_prezeroed?: boolean;
  orphan_file_size?: number;
  revision?: number;
  encoding?: number;
  encoding_flags?: number;
}

function bad(word: string): Mke2fsError {
  return new Mke2fsError(
    `Bad option(s) specified: ${word}\n\n` +
      "Extended options are separated by commas; some take an argument behind an equals sign:\n" +
      "\tmmp_update_interval=<interval>\n\tnum_backup_sb=<0|1|2>\n\tstride=<blocks>\n" +
      "\tstripe-width=<blocks>\n\tresize=<blocks>\n\tpacked_meta_blocks=<0|1>\n" +
      "\tlazy_itable_init=<0|1>\n\tlazy_journal_init=<0|1>\n\troot_owner=<uid>:<gid>\n" +
      "\ttest_fs\n\tdiscard\n\tnodiscard\n\tassume_storage_prezeroed=<0|1>\n" +
      "\tquotatype=<usrquota:grpquota:prjquota>\n\tencoding=<encoding>\n" +
      "\torphan_file_size=<size>\n\thash_seed=<uuid>\n\tdesc_size=<bytes>\n\trevision=<0|1>",
  );
}

function number_of(word: string, value: string | undefined, hi = 2 ** 32): number {
  const n = value === undefined ? undefined : parse_integer(value);
  if (n === undefined || n > hi) throw bad(word);
  return n;
}
const flag_of = (value: string | undefined): boolean =>
  value === undefined || Number.parseInt(value, 10) > 0;

function owner_of(word: string, value: string | undefined): readonly [number, number] {
  if (value === undefined) return [0, 0];
  const m = /^([0-9]+):([0-9]+)$/.exec(value);
  if (!m) throw bad(word);
  return [Number(m[1]), Number(m[2])];
}

function quota_types(word: string, value: string | undefined): readonly boolean[] {
  const names = (value ?? "").split(":").filter((x) => x !== "");
  const known = ["usrquota", "grpquota", "prjquota"];
  const wrong = names.some((n) => !known.some((k) => n.startsWith(k.slice(0, 3))));
  if (names.length === 0 || wrong) throw bad(word);
  return known.map((k) => names.some((n) => n.startsWith(k.slice(0, 3))));
}

type setter = (e: extended_opts, value: string | undefined, word: string) => void;

const SETTERS: Readonly<Record<string, setter>> = Object.freeze({
  desc_size: (e: extended_opts, v: string | undefined, w: string) => {
    const n = number_of(w, v);
    if (n < 32 || n > 1024 || !Number.isInteger(Math.log2(n))) {
      throw new Mke2fsError(`Invalid desc_size: '${v}'`);
    }
    e.desc_size = n;
  },
  hash_seed: (e: extended_opts, v: string | undefined, w: string) => {
    if (v === undefined) throw bad(w);
    e.hash_seed = v;
  },
  mmp_update_interval: (e: extended_opts, v: string | undefined, w: string) => {
    const n = number_of(w, v);
    if (n > 300) throw new Mke2fsError(`Invalid mmp_update_interval: ${v}`);
    e.mmp_update_interval = n;
  },
  num_backup_sb: (e: extended_opts, v: string | undefined, w: string) => {
    e.num_backup_sb = number_of(w, v, 2);
  },
  packed_meta_blocks: (e: extended_opts, v: string | undefined) => {
    e.packed_meta_blocks = flag_of(v);
  },
  stride: (e: extended_opts, v: string | undefined, w: string) => {
    e.raid_stride = number_of(w, v, 65535);
  },
  "stripe-width": (e: extended_opts, v: string | undefined, w: string) => {
    e.raid_stripe_width = number_of(w, v);
  },
  resize: (e: extended_opts, v: string | undefined, w: string) => {
    if (v === undefined) throw bad(w);
    e.resize = v;
  },
  test_fs: (e: extended_opts) => {
    e.flags = (e.flags ?? 0) | EXT2_FLAGS_TEST_FILESYS;
  },
  lazy_itable_init: (e: extended_opts, v: string | undefined) => {
    e.lazy_itable_init = flag_of(v);
  },
  lazy_journal_init: (e: extended_opts, v: string | undefined) => {
    e.lazy_journal_init = flag_of(v);
  },
  root_owner: (e: extended_opts, v: string | undefined, w: string) => {
    e.root_owner = owner_of(w, v);
  },
  discard: (e: extended_opts) => {
    e.discard = true;
  },
  nodiscard: (e: extended_opts) => {
    e.discard = false;
  },
  quotatype: (e: extended_opts, v: string | undefined, w: string) => {
    e.quotatype = quota_types(w, v);
  },
  assume_storage_prezeroed: (e: extended_opts, v: string | undefined) => {
    e.assume_storage_prezeroed = flag_of(v);
  },
  revision: (e: extended_opts, v: string | undefined, w: string) => {
    e.revision = number_of(w, v, 1);
  },
  encoding: (e: extended_opts, v: string | undefined, w: string) => {
    if (v !== "utf8" && v !== "utf8-12.1") throw bad(w);
    e.encoding = 1;
  },
  encoding_flags: (e: extended_opts, v: string | undefined, w: string) => {
    if (v !== "strict") throw bad(w);
    e.encoding_flags = 1;
  },
  orphan_file_size: (e: extended_opts, v: string | undefined, w: string) => {
    const n = v === undefined ? undefined : parse_size(v);
    if (!n) throw bad(w);
    e.orphan_file_size = n;
  },
});

/** Reads a -E argument into `e`; several add up. */
export function parse_extended_opts(e: extended_opts, text: string): void {
  for (const word of text.split(",")) {
    if (word === "") continue;
    const eq = word.indexOf("=");
    const key = (eq < 0 ? word : word.slice(0, eq)).replace("stripe_width", "stripe-width");
    if (key === "offset" || key === "android_sparse" || key === "no_copy_xattrs") {
      throw new Mke2fsError(`extended option ${key} is not supported by this mkfs`);
    }
    const set = Object.hasOwn(SETTERS, key) ? SETTERS[key] : undefined;
    if (!set) throw bad(word);
    set(e, eq < 0 ? undefined : word.slice(eq + 1), word);
  }
}

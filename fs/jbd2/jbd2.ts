/**
 * fs/jbd2/jbd2.ts - the on-media format of the journal.
 * Linux: include/linux/jbd2.h. All integers are big-endian (unlike the rest of ext4).
 */

import { array, bytes, struct, u8, u16be, u32be, u64be } from "../../kernel/lib/struct.ts";

export const JBD2_MAGIC_NUMBER = 0xc03b3998;
export const JBD2_MIN_JOURNAL_BLOCKS = 1024;
export const JBD2_DEFAULT_FAST_COMMIT_BLOCKS = 256;

/** h_blocktype */
export const JBD2_DESCRIPTOR_BLOCK = 1;
export const JBD2_COMMIT_BLOCK = 2;
export const JBD2_SUPERBLOCK_V1 = 3;
export const JBD2_SUPERBLOCK_V2 = 4;
export const JBD2_REVOKE_BLOCK = 5;

/** h_chksum_type, s_checksum_type */
export const JBD2_CRC32_CHKSUM = 1;
export const JBD2_MD5_CHKSUM = 2;
export const JBD2_SHA1_CHKSUM = 3;
export const JBD2_CRC32C_CHKSUM = 4;
export const JBD2_CRC32_CHKSUM_SIZE = 4;

/** Heads every block of the log that is not a copy of a filesystem block. */
export const journal_header = struct("journal_header_t", {
  h_magic: [u32be, 0],
  h_blocktype: [u32be, 4],
  h_sequence: [u32be, 8],
});

export const commit_header = struct("commit_header", {
  h_magic: [u32be, 0],
  h_blocktype: [u32be, 4],
  h_sequence: [u32be, 8],
  h_chksum_type: [u8, 12],
  h_chksum_size: [u8, 13],
  h_chksum: [array(u32be, 8), 16],
  h_commit_sec: [u64be, 48],
  h_commit_nsec: [u32be, 56],
});

/** With csum v3. The size on media of the others depends on the features: journal_tag_bytes(). */
export const journal_block_tag3 = struct("journal_block_tag3_t", {
  t_blocknr: [u32be, 0],
  t_flags: [u32be, 4],
  t_blocknr_high: [u32be, 8],
  t_checksum: [u32be, 12],
});
export const journal_block_tag = struct("journal_block_tag_t", {
  t_blocknr: [u32be, 0],
  t_checksum: [u16be, 4],
  t_flags: [u16be, 6],
  t_blocknr_high: [u32be, 8],
});
/** The last four bytes of a descriptor or revoke block with csum v2 or v3. */
export const jbd2_journal_block_tail = struct("jbd2_journal_block_tail", {
  t_checksum: [u32be, 0],
});
export const jbd2_journal_revoke_header = struct("jbd2_journal_revoke_header_t", {
  h_magic: [u32be, 0],
  h_blocktype: [u32be, 4],
  h_sequence: [u32be, 8],
  r_count: [u32be, 12], // bytes in use, with this header
});

/** t_flags */
export const JBD2_FLAG_ESCAPE = 1; // the block began with the magic, which was zeroed in the log
export const JBD2_FLAG_SAME_UUID = 2;
export const JBD2_FLAG_DELETED = 4;
export const JBD2_FLAG_LAST_TAG = 8;

/** Block 0 of the journal: 1024 bytes. */
export const journal_superblock = struct(
  "journal_superblock_t",
  {
    h_magic: [u32be, 0x00],
    h_blocktype: [u32be, 0x04],
    h_sequence: [u32be, 0x08],
    s_blocksize: [u32be, 0x0c],
    s_maxlen: [u32be, 0x10],
    s_first: [u32be, 0x14],
    s_sequence: [u32be, 0x18],
    s_start: [u32be, 0x1c], // 0: the log is empty
    s_errno: [u32be, 0x20],
    s_feature_compat: [u32be, 0x24],
    s_feature_incompat: [u32be, 0x28],
    s_feature_ro_compat: [u32be, 0x2c],
    s_uuid: [bytes(16), 0x30],
    s_nr_users: [u32be, 0x40],
    s_dynsuper: [u32be, 0x44],
    s_max_transaction: [u32be, 0x48],
    s_max_trans_data: [u32be, 0x4c],
    s_checksum_type: [u8, 0x50],
    s_num_fc_blks: [u32be, 0x54],
    s_head: [u32be, 0x58], // end of the log when it is empty (Linux 6.6 and later)
    s_checksum: [u32be, 0xfc],
    s_users: [bytes(768), 0x100],
  },
  1024,
);

export const JBD2_FEATURE_COMPAT_CHECKSUM = 0x00000001;
export const JBD2_FEATURE_INCOMPAT_REVOKE = 0x00000001;
export const JBD2_FEATURE_INCOMPAT_64BIT = 0x00000002;
export const JBD2_FEATURE_INCOMPAT_ASYNC_COMMIT = 0x00000004;
export const JBD2_FEATURE_INCOMPAT_CSUM_V2 = 0x00000008;
export const JBD2_FEATURE_INCOMPAT_CSUM_V3 = 0x00000010;
export const JBD2_FEATURE_INCOMPAT_FAST_COMMIT = 0x00000020;
export const JBD2_KNOWN_COMPAT_FEATURES = JBD2_FEATURE_COMPAT_CHECKSUM;
export const JBD2_KNOWN_INCOMPAT_FEATURES = 0x3f;

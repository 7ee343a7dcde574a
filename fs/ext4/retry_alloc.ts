/** fs/ext4/retry_alloc.ts - is it worth asking again after ENOSPC? Linux: fs/ext4/balloc.c. */
import type { super_block } from "../../kernel/include/fs.ts";
import { EXT4_SB } from "./ext4_fs.ts";
import { ext4_has_free_clusters, ext4_mb_discard_all } from "./mballoc.ts";

/**
 * With a journal, blocks freed by the running transaction come back when it commits. Without one
 * nothing comes back by waiting: only runs set aside may.
 */
export async function ext4_should_retry_alloc(sb: super_block, retries: number): Promise<boolean> {
  const sbi = EXT4_SB(sb);
  if (sbi.s_journal === null) return false;
  if (retries >= 3 || !ext4_has_free_clusters(sb, 1, 0)) return false;
  return ext4_mb_discard_all(sb);
}

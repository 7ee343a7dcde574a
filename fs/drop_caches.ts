/** fs/drop_caches.ts - /proc/sys/vm/drop_caches. Linux: fs/drop_caches.c. */
import type { super_block } from "../kernel/include/fs.ts";
import { I_FREEING, I_NEW, I_WILL_FREE, LLONG_MAX } from "../kernel/include/fs.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { iput, prune_icache_sb } from "../kernel/vfs/inode.ts";
import { invalidate_mapping_pages } from "../mm/filemap.ts";
import { shrink_dcache_sb } from "./dcache.ts";
import { iterate_supers } from "./super.ts";

/** Value 1: clean pages that nobody maps. */
async function drop_pagecache_sb(sb: super_block): Promise<void> {
  for (const inode of [...sb.s_inodes.values()]) {
    const going = I_NEW | I_FREEING | I_WILL_FREE;
    if ((inode.i_state & going) !== 0 || inode.i_mapping.nrpages === 0) continue;
    inode.i_count++;
    await invalidate_mapping_pages(inode.i_mapping, 0, LLONG_MAX);
    await iput(inode);
  }
}

/** Value 2: unused names, then unused inodes, again until nothing more goes. */
async function drop_slab_sb(sb: super_block): Promise<void> {
  do await shrink_dcache_sb(sb);
  while ((await prune_icache_sb(sb)) > 0);
}

/** `what`: 1 pages, 2 names and inodes, 3 both. */
export async function drop_caches(kernel: Kernel, what = 3): Promise<void> {
  if ((what & 1) !== 0) await iterate_supers(kernel, drop_pagecache_sb);
  if ((what & 2) !== 0) await iterate_supers(kernel, drop_slab_sb);
}

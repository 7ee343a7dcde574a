/** fs/ext4/mballoc.ts - the block allocator; see mballoc/alloc.ts for the reading order. */
export * from "./mballoc/alloc.ts";
export * from "./mballoc/free.ts";
export { ext4_discard_preallocations, ext4_mb_discard_all } from "./mballoc/prealloc.ts";
export * from "./mballoc/types.ts";

/**
 * mm/filemap.ts - the page cache: the index of mm/filemap/. Linux: mm/filemap.c.
 *
 * Reading order: filemap/lookup.ts (finding, adding, removing pages), filemap/read.ts,
 * filemap/write.ts, filemap/fault.ts, filemap/wait.ts (waiting for writeback, errors of it).
 * Writing back is in page-writeback.ts, taking pages away in truncate.ts, reading ahead in
 * readahead.ts.
 *
 * Lock order: i_rwsem, invalidate_lock, page lock, i_mmap_rwsem, i_pages lock. A page in i_pages
 * holds one reference; page.mapping is set exactly while it is there, and changes only under the
 * page lock.
 */
export {
  filemap_fault,
  filemap_map_pages,
  filemap_page_mkwrite,
  generic_file_mmap,
  generic_file_readonly_mmap,
  generic_file_vm_ops,
} from "./filemap/fault.ts";
export {
  delete_from_page_cache,
  filemap_add_page,
  filemap_get_entry,
  filemap_range_has_page,
  find_get_page,
  find_get_pages_range,
  find_get_pages_tag,
  find_lock_page,
  grab_cache_page_write_begin,
  page_is_of,
  pagecache_get_page,
} from "./filemap/lookup.ts";
export {
  filemap_read,
  generic_file_read_iter,
  mapping_seek_hole_data,
  read_cache_page,
} from "./filemap/read.ts";
export {
  file_check_and_advance_wb_err,
  file_fdatawait_range,
  file_write_and_wait_range,
  filemap_check_errors,
  filemap_fdatawait_range,
  filemap_fdatawrite_range,
  filemap_flush,
  filemap_range_needs_writeback,
  filemap_sample_wb_err,
  filemap_write_and_wait,
  filemap_write_and_wait_range,
} from "./filemap/wait.ts";
export { __generic_file_write_iter, generic_perform_write } from "./filemap/write.ts";
export { dax_mapping, mapping_set_error, new_address_space } from "./address_space.ts";
export {
  PAGECACHE_TAG_DIRTY,
  PAGECACHE_TAG_TOWRITE,
  PAGECACHE_TAG_WRITEBACK,
} from "./address_space.ts";
export { filemap_dirty_folio, noop_dirty_folio, set_page_dirty } from "./page_dirty.ts";
export { write_cache_pages } from "./page-writeback.ts";
export {
  invalidate_inode_pages2_range,
  invalidate_mapping_pages,
  pagecache_isize_extended,
  truncate_inode_pages_range,
  truncate_pagecache,
  truncate_pagecache_range,
  truncate_setsize,
} from "./truncate.ts";
export { unmap_mapping_pages, unmap_mapping_range } from "./memory/rmap.ts";

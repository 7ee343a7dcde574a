/** fs/dax/tags.ts - the marks of the page tree, as mm uses them. Linux: include/linux/fs.h. */
import { XA_MARK_0, XA_MARK_2 } from "../../kernel/lib/xarray.ts";

export const PAGECACHE_TAG_DIRTY = XA_MARK_0;
export const PAGECACHE_TAG_TOWRITE = XA_MARK_2;

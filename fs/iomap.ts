/**
 * fs/iomap.ts - everything that works on a file's block map: the index of fs/iomap/. Linux:
 * fs/iomap/.
 *
 * Reading order: iomap/iter.ts first; the others are its users.
 */
export * from "./iomap/iter.ts";
export * from "./iomap/fiemap.ts";
export * from "./iomap/seek.ts";
export * from "./iomap/direct-io.ts";
export * from "./iomap/swapfile.ts";

/** tools/api/mount_words.ts - mount options as words, as mount(8) takes them. */
import * as F from "../../kernel/include/fcntl.ts";

const MOUNT_WORDS: Readonly<Record<string, number>> = Object.freeze({
  ro: F.MS_RDONLY,
  rw: 0,
  nosuid: F.MS_NOSUID,
  nodev: F.MS_NODEV,
  noexec: F.MS_NOEXEC,
  sync: F.MS_SYNCHRONOUS,
  remount: F.MS_REMOUNT,
  dirsync: F.MS_DIRSYNC,
  noatime: F.MS_NOATIME,
  nodiratime: F.MS_NODIRATIME,
  relatime: F.MS_RELATIME,
  strictatime: F.MS_STRICTATIME,
  lazytime: F.MS_LAZYTIME,
  bind: F.MS_BIND,
  i_version: 1 << 23,
});

/** Splits "ro,dax=always" into mount(2)'s flags and the filesystem's own data. */
export function mount_words(text: string): { flags: number; data: string } {
  let flags = 0;
  const rest: string[] = [];
  for (const w of text.split(",")) {
    if (w === "") continue;
    const bit = MOUNT_WORDS[w];
    if (bit === undefined) rest.push(w);
    else flags |= bit;
  }
  return { flags, data: rest.join(",") };
}

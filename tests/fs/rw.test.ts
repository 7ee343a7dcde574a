/** read, write, lseek and their vector and copying relatives. */
import {
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  RWF_APPEND,
  RWF_DSYNC,
  RWF_NOWAIT,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from "../../kernel/include/fcntl.ts";
import { sys_copy_file_range } from "../../fs/copy_file_range.ts";
import { sys_fadvise64, sys_readahead } from "../../fs/fadvise.ts";
import { sys_preadv2, sys_pwritev2, sys_pread64 } from "../../fs/read_write.ts";
import { sys_sync, sys_sync_file_range, sys_syncfs } from "../../fs/sync.ts";
import { new_iov_iter_bytes } from "../../mm/iov_iter.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs, text, type P } from "./vfs.ts";

const t = suite("fs/rw");
const { is, not } = assert;

const pwritev2 = (p: P, fd: unknown, data: string[], pos: number, flags: number) =>
  p.do((k) =>
    sys_pwritev2(k, fd as number, new_iov_iter_bytes(k.kernel, true, data.map(text)), pos, flags),
  );
const copy = (p: P, a: unknown, oa: number, b: unknown, ob: number, n: number, flags = 0) =>
  p.do((k) => sys_copy_file_range(k, a as number, oa, b as number, ob, n, flags));

t("data comes back across pages, holes read as zeros, the end as nothing", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const long = "0123456789".repeat(1000);
  is(await p.pwrite(f, long, 100_000), 10_000);
  is(await p.pread(f, 20_000, 100_000), long);
  is(await p.pread(f, 3, 50_000), "\0\0\0");
  is(await p.pread(f, 10, 109_995), "56789");
  is(await p.pread(f, 10, 110_000), "");
  is(await p.pread(f, 10, 2 ** 40), "");
  is(await p.show(f as number), "644 nlink=1 0:0 size=110000");
});

t("wrong descriptors, positions and sizes have the errors of Linux", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const r = await p.open("/mnt/a", O_RDONLY);
  const w = await p.open("/mnt/a", O_WRONLY);
  const d = await p.open("/mnt", O_RDONLY);
  is(await p.write(r, "x"), "EBADF");
  is(await p.read(w, 1), "EBADF");
  is(await p.read(d, 1), "EISDIR");
  is(await p.pread(f, 1, -1), "EINVAL");
  is(await p.pwrite(f, "x", -1), "EINVAL");
  is(await p.pwrite(f, "x", 2 ** 63), "EINVAL");
  is(await p.pwrite(f, "x", 2 ** 53), "EFBIG");
  is(await p.open("/mnt/a", O_RDWR | O_DIRECT), "EINVAL");
});

t("lseek knows data and holes, and refuses what is before the start", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  await p.write(f, "0123456789");
  is(await p.lseek(f, -3, SEEK_END), 7);
  is(await p.lseek(f, -8, SEEK_CUR), "EINVAL");
  is(await p.lseek(f, 0, SEEK_CUR), 7);
  is(await p.lseek(f, 100, SEEK_SET), 100);
  is(await p.lseek(f, 4, SEEK_DATA), 4);
  is(await p.lseek(f, 4, SEEK_HOLE), 10);
  is(await p.lseek(f, 10, SEEK_DATA), "ENXIO");
  is(await p.lseek(f, -1, SEEK_HOLE), "ENXIO");
  is(await p.lseek(f, 0, 9), "EINVAL");
});

t("the file size limit shortens a write, then refuses it with SIGXFSZ", async () => {
  const { p } = await boot_vfs();
  p.task.signal!.rlim["FSIZE"] = 1024;
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  is(await p.pwrite(f, "x".repeat(100), 1000), 24);
  is(p.task.signal!.pending.length, 0);
  is(await p.pwrite(f, "x", 1024), "EFBIG");
  is(p.task.signal!.pending.length, 1);
});

t("vectors move pieces in order and obey their flags", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  is(await pwritev2(p, f, ["ab", "", "cde"], 0, 0), 5);
  is(await pwritev2(p, f, ["X"], 0, RWF_APPEND | RWF_DSYNC), 1);
  is(await pwritev2(p, f, ["Y"], -1, 0), 1);
  is(await p.pread(f, 10, 0), "YbcdeX");
  is(await pwritev2(p, f, ["x"], 0, 0x1000), "EOPNOTSUPP");
  is(await pwritev2(p, f, ["x"], 0, RWF_NOWAIT), "EOPNOTSUPP");
  is(await pwritev2(p, f, [], 0, 0x1000), 0);
  is(await pwritev2(p, f, ["x"], -2, 0), "EINVAL");
  const bufs = [new Uint8Array(2), new Uint8Array(10)];
  const n = await p.do((k) =>
    sys_preadv2(k, f as number, new_iov_iter_bytes(k.kernel, false, bufs), 1, 0),
  );
  is(n, 5);
  is(new TextDecoder().decode(bufs[0]!), "bc");
  is(await p.lseek(f, 0, SEEK_CUR), 1);
});

t("copy_file_range copies within a filesystem and checks both ends", async () => {
  const { p } = await boot_vfs();
  const a = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const b = await p.open("/mnt/b", O_RDWR | O_CREAT, 0o644);
  const long = "abcdefghij".repeat(10_000);
  await p.write(a, long);
  is(await copy(p, a, 5, b, 0, 1e9), 99_995);
  is(await p.pread(b, 20, 99_990), "fghij");
  is(await copy(p, a, 100_000, b, 0, 10), 0);
  is(await copy(p, a, 0, a, 5, 10), "EINVAL");
  is(await copy(p, a, 0, a, 200_000, 10), 10);
  is(await copy(p, a, 0, b, 0, 10, 1), "EINVAL");
  const r = await p.open("/mnt/b", O_RDONLY);
  const ap = await p.open("/mnt/b", O_RDWR | O_APPEND);
  const d = await p.open("/mnt", O_RDONLY);
  is(await copy(p, a, 0, r, 0, 10), "EBADF");
  is(await copy(p, a, 0, ap, 0, 10), "EBADF");
  is(await copy(p, d, 0, b, 0, 10), "EISDIR");
  const other = await p.open("/tmp/x", O_RDWR | O_CREAT, 0o644);
  is(await copy(p, a, 0, other, 0, 10), "EXDEV");
  await p.lseek(a, 0, SEEK_SET);
  await p.lseek(b, 0, SEEK_SET);
  is(await copy(p, a, -1, b, -1, 3), 3);
  is(await p.lseek(a, 0, SEEK_CUR), 3);
  is(await p.lseek(b, 0, SEEK_CUR), 3);
});

t("a cached read answers without a promise", async () => {
  const { p, machine } = await boot_vfs();
  const f = (await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644)) as number;
  await p.write(f, "hello");
  const buf = new Uint8Array(5);
  const iter = new_iov_iter_bytes(p.task.kernel, false, [buf]);
  await p.pread(f, 5, 0);
  const r = machine.sched.call(p.task, (k) => sys_pread64(k, f, iter, 0));
  is(r, 5);
  not(r instanceof Promise);
});

t("threads that read one file share its position without losing bytes", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  await p.write(f, "0123456789");
  await p.lseek(f, 0, SEEK_SET);
  const q = p.thread();
  const got = await Promise.all([p.read(f, 3), q.read(f, 3)]);
  assert.equal(got.sort(), ["012", "345"]);
  is(await p.read(f, 9), "6789");
});

t("syncing calls check their arguments", async () => {
  const { p } = await boot_vfs();
  const f = (await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644)) as number;
  await p.write(f, "x");
  const sfr = (off: number, n: number, flags: number) =>
    p.do((k) => sys_sync_file_range(k, f, off, n, flags));
  is(await sfr(0, 0, 2), undefined);
  is(await sfr(-1, 0, 2), "EINVAL");
  is(await sfr(0, 0, 99), "EINVAL");
  is(await p.fsync(f), undefined);
  is(await p.do((k) => sys_syncfs(k, f)), undefined);
  is(await p.do((k) => sys_sync(k)), undefined);
  is(await p.fsync(55), "EBADF");
  is(await p.do((k) => sys_fadvise64(k, f, 0, 0, 4)), undefined);
  is(await p.do((k) => sys_fadvise64(k, f, 0, 0, 99)), "EINVAL");
  is(await p.do((k) => sys_readahead(k, f, 0, 4096)), undefined);
  is(await p.pread(f, 1, 0), "x");
});

t.run();

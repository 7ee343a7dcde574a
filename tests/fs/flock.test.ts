/** flock between open files, with waits (recorded: vfs/flock-dup-offsets). */
import {
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  O_CREAT,
  O_PATH,
  O_RDONLY,
  O_RDWR,
} from "../../kernel/include/fcntl.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs } from "./vfs.ts";

const t = suite("fs/flock");
const { is } = assert;

t("a lock belongs to the open file, not to descriptor or process", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const q = p.fork();
  const g = await p.open("/mnt/a", O_RDWR);
  is(await p.flock(f, LOCK_EX), undefined);
  is(await p.flock(g, LOCK_EX | LOCK_NB), "EAGAIN");
  is(await q.flock(f, LOCK_SH | LOCK_NB), undefined);
  is(await p.flock(g, LOCK_SH | LOCK_NB), undefined);
  is(await p.flock(f, LOCK_UN), undefined);
  is(await p.flock(g, LOCK_EX | LOCK_NB), undefined);
  const h = await q.open("/mnt/a", O_RDONLY);
  is(await q.flock(h, LOCK_SH | LOCK_NB), "EAGAIN");
  is(await p.close(g), undefined);
  is(await q.flock(h, LOCK_SH | LOCK_NB), undefined);
});

t("a waiter gets the lock when the holder goes", async () => {
  const { p, machine } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const q = p.fork();
  const g = await q.open("/mnt/a", O_RDWR);
  is(await p.flock(f, LOCK_EX), undefined);
  let got: unknown = "waits";
  const waiting = q.flock(g, LOCK_EX).then((r) => {
    got = r;
  });
  await machine.settle();
  is(got, "waits");
  await q.close(f).catch(() => {}); // the child's thread is busy: the call is refused
  is(await p.flock(f, LOCK_UN), undefined);
  await waiting;
  is(got, undefined);
  is(await p.flock(f, LOCK_SH | LOCK_NB), "EAGAIN");
});

t("wrong commands and descriptors are refused", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const o = await p.open("/mnt/a", O_PATH);
  is(await p.flock(f, 0), "EINVAL");
  is(await p.flock(f, LOCK_SH | LOCK_EX), "EINVAL");
  is(await p.flock(99, LOCK_EX), "EBADF");
  is(await p.flock(o, LOCK_EX), "EBADF");
});

t.run();

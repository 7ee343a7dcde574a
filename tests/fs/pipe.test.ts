/** Pipes and fifos: order, blocking, ends that go away. */
import { O_CREAT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } from "../../kernel/include/fcntl.ts";
import { S_IFIFO } from "../../kernel/include/stat.ts";
import { SIGPIPE } from "../../kernel/signal.ts";
import { sys_pipe2 } from "../../fs/pipe.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs, type P } from "./vfs.ts";

const t = suite("fs/pipe");
const { is, equal } = assert;

async function pipe(p: P, flags = 0): Promise<[number, number]> {
  const r = await p.do((k) => sys_pipe2(k, flags));
  if (typeof r === "string") throw new Error(r);
  return r;
}

t("bytes come out in order, and the end when the last writer has gone", async () => {
  const { p } = await boot_vfs();
  const [r, w] = await pipe(p);
  equal([r, w], [0, 1]);
  is(await p.write(w, "hello"), 5);
  is(await p.write(w, " world"), 6);
  is(await p.ioctl(r, "FIONREAD"), 11);
  is(await p.read(r, 3), "hel");
  is(await p.read(r, 100), "lo world");
  is(await p.close(w), undefined);
  is(await p.read(r, 1), "");
  is(await p.lseek(r, 0, 0), "ESPIPE");
  is(await p.pread(r, 1, 0), "ESPIPE");
  is(await p.read(w, 1), "EBADF");
});

t("writing without readers is EPIPE and a signal", async () => {
  const { p } = await boot_vfs();
  const [r, w] = await pipe(p);
  await p.close(r);
  is(await p.write(w, "x"), "EPIPE");
  is(p.task.signal!.pending[0]?.signo, SIGPIPE);
});

t("a reader waits for data, a writer for room", async () => {
  const { p, machine } = await boot_vfs();
  const [r, w] = await pipe(p);
  const q = p.fork();
  const reading = q.read(r, 10);
  await machine.settle();
  is(await p.write(w, "late"), 4);
  is(await reading, "late");
  let wrote: unknown = "waits";
  const writing = q.write(w, "x".repeat(70_000)).then((n) => {
    wrote = n;
  });
  await machine.settle();
  is(wrote, "waits");
  is((await p.read(r, 70_000)).length, 65_536);
  await writing;
  is(wrote, 70_000);
  is((await p.read(r, 70_000)).length, 4464);
});

t("without waiting it is EAGAIN, or as much as fits", async () => {
  const { p } = await boot_vfs();
  const [r, w] = await pipe(p, O_NONBLOCK);
  is(await p.read(r, 1), "EAGAIN");
  is(await p.write(w, "x".repeat(70_000)), 65_536);
  is(await p.write(w, "y"), "EAGAIN");
  is((await p.read(r, 4096)).length, 4096);
  is(await p.write(w, "y"), 1);
});

t("opening a fifo waits for the other end", async () => {
  const { p, machine } = await boot_vfs();
  await p.mknod("/mnt/f", S_IFIFO | 0o644);
  const q = p.fork();
  const opening = q.open("/mnt/f", O_RDONLY);
  await machine.settle();
  const w = await p.open("/mnt/f", O_WRONLY);
  is(w, 0);
  const r = await opening;
  is(r, 0);
  is(await p.write(w, "through"), 7);
  is(await q.read(r, 10), "through");
  await p.close(w);
  is(await q.read(r, 10), "");
  is(await p.open("/mnt/f", O_WRONLY | O_NONBLOCK), 0);
  await q.close(r);
  is(await p.open("/mnt/f", O_RDONLY | O_NONBLOCK), 1);
  is(await p.open("/mnt/f", O_RDWR | O_CREAT, 0o600), 2);
});

t.run();

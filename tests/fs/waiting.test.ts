/** Waits without a lock are edges of the wait-for graph: inodes, direct IO, pinned pages. */
import { fget } from "../../fs/file.ts";
import { dax_wait_page_idle } from "../../fs/dax/layout.ts";
import { O_CREAT, O_RDWR } from "../../kernel/include/fcntl.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { MAP_SHARED, PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import { Deadlock, Hang } from "../../kernel/locking/report.ts";
import { sched_yield } from "../../kernel/sched/core.ts";
import {
  iget_locked,
  inode_dio_begin,
  inode_dio_end,
  inode_dio_wait,
  unlock_new_inode,
} from "../../kernel/vfs/inode.ts";
import { page_pinners, pin_user_pages, unpin_user_pages } from "../../mm/gup.ts";
import { Machine } from "../../tools/api/machine.ts";
import type { Process } from "../../tools/api/process.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("fs/waiting");
const PAGE = 4096;

interface world {
  m: Machine;
  p: Process;
  inode: inode;
  /** Two mapped pages of the file, the first one present. */
  addr: number;
  fd: number;
}

async function world(): Promise<world> {
  const m = await Machine.boot({ pmem: [{ size: "8M", mode: "fsdax" }] });
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  const p = m.process("main");
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  const fd = await p.open("/mnt/f", O_RDWR | O_CREAT);
  await p.ftruncate(fd, 2 * PAGE);
  const addr = await p.mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  await p.store(addr, new Uint8Array([1]));
  const inode = await p.in_kernel((_k, task) => fget(task, fd).f_inode);
  return { m, p, inode, addr, fd };
}

async function outcome(w: world): Promise<unknown> {
  return w.m.run().then(
    () => null,
    (e: unknown) => e,
  );
}

async function pause(w: world): Promise<void> {
  const p = sched_yield(w.m.kernel);
  if (p) await p;
}

t("two tasks that read two inodes, each waiting for the other's, are a deadlock", async () => {
  const w = await world();
  const sb = w.inode.i_sb;
  const read = (first: number, second: number) => async (): Promise<void> => {
    const mine = await iget_locked(sb, first);
    await pause(w);
    await iget_locked(sb, second);
    unlock_new_inode(mine);
  };
  w.p.spawn("a", (q) => q.in_kernel(read(901, 902)));
  w.p.spawn("b", (q) => q.in_kernel(read(902, 901)));
  const e = await outcome(w);
  assert.ok(e instanceof Deadlock, String(e));
  assert.match((e as Deadlock).message, /(a|b) -> inode state of pmem0 -> (a|b) -> inode state/);
});

t("waiting for direct IO with the lock that the IO wants is a deadlock", async () => {
  const w = await world();
  const { inode } = w;
  w.p.spawn("io", (q) =>
    q.in_kernel(async () => {
      inode_dio_begin(inode);
      await pause(w);
      await inode.i_rwsem.down_read();
      inode.i_rwsem.up_read();
      inode_dio_end(inode);
    }),
  );
  w.p.spawn("truncate", (q) =>
    q.in_kernel(async () => {
      await inode.i_rwsem.down_write();
      await inode_dio_wait(inode);
      inode.i_rwsem.up_write();
    }),
  );
  const e = await outcome(w);
  assert.ok(e instanceof Deadlock, String(e));
  assert.match((e as Deadlock).message, /io -> &inode->i_rwsem of .* -> truncate -> inode state/);
});

/** Pins the first page, faults on the second, lets go. */
function pinner(w: world): void {
  w.p.spawn("rdma", async (q) => {
    const pages = await q.in_kernel((_k, task) => pin_user_pages(task.mm!, w.addr, 1, true));
    assert.is(page_pinners(w.m.kernel, pages[0]!).length, 1);
    await pause(w);
    try {
      await q.load(w.addr + PAGE, 1);
    } catch (e) {
      if (q.signal_of(e)?.signo !== "SIGBUS") throw e;
    }
    await q.in_kernel((k) => unpin_user_pages(k, pages));
    assert.is(page_pinners(w.m.kernel, pages[0]!).length, 0);
  });
}

t("truncation that waits for a pinned page with faults held off is a deadlock", async () => {
  const w = await world();
  const lock = w.inode.i_mapping.invalidate_lock;
  pinner(w);
  w.p.spawn("truncate", (q) =>
    q.in_kernel(async (k, task) => {
      const pages = await pin_user_pages(task.mm!, w.addr, 1, false);
      unpin_user_pages(k, pages);
      await lock.down_write();
      await dax_wait_page_idle(k, pages[0]!);
      lock.up_write();
    }),
  );
  const e = await outcome(w);
  assert.ok(e instanceof Deadlock, String(e));
  const message = (e as Deadlock).message;
  assert.match(
    message,
    /rdma -> mapping.invalidate_lock of .* -> truncate -> idle DAX page -> rdma/,
  );
});

t("truncation that lets faults in while it waits gets through", async () => {
  const w = await world();
  pinner(w);
  w.p.spawn("truncate", (q) => q.ftruncate(w.fd, 0));
  assert.is(await outcome(w), null);
  assert.is((await w.p.fstat(w.fd)).size, 0);
});

t("a pin that its owner forgot is a hang, not a deadlock", async () => {
  const w = await world();
  w.p.spawn("leaky", (q) =>
    q.in_kernel(async (_k, task) => {
      await pin_user_pages(task.mm!, w.addr, 1, true);
    }),
  );
  w.p.spawn("truncate", async (q) => {
    await pause(w);
    await q.ftruncate(w.fd, 0);
  });
  const e = await outcome(w);
  assert.ok(e instanceof Hang, String(e));
  assert.match((e as Hang).message, /waits for {2}idle DAX page\n +blocked by leaky/);
});

t.run();

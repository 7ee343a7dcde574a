/**
 * The inode cache, write access, links and writeback of inodes (kernel/vfs/inode.ts,
 * fs/fs-writeback.ts).
 */
import { ETXTBSY } from "../../kernel/include/errno.ts";
import type { inode, super_block } from "../../kernel/include/fs.ts";
import {
  I_DIRTY,
  I_DIRTY_PAGES,
  I_DONTCACHE,
  I_FREEING,
  I_NEW,
  SB_ACTIVE,
  WB_SYNC_ALL,
} from "../../kernel/include/fs.ts";
import { new_wait_queue } from "../../kernel/locking/locks.ts";
import {
  __mark_inode_dirty,
  allow_write_access,
  clear_inode,
  clear_nlink,
  current_time,
  deny_write_access,
  drop_nlink,
  get_write_access,
  iget_failed,
  iget_locked,
  igrab,
  inc_nlink,
  insert_inode_locked,
  iput,
  is_bad_inode,
  mark_inode_dirty,
  new_inode,
  prune_icache_sb,
  put_write_access,
  set_nlink,
  unlock_new_inode,
} from "../../kernel/vfs/inode.ts";
import { init_pseudo } from "../../kernel/vfs/super.ts";
import { new_wbc, sync_inodes_sb, writeback_single_inode } from "../../fs/fs-writeback.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs, type vfs_machine } from "./vfs.ts";

const t = suite("fs/inode");
const { is, equal } = assert;

interface disk extends vfs_machine {
  sb: super_block;
  /** What reached the filesystem. */
  log: string[];
  /** Lets an eviction that waits go on. */
  open_gate(): void;
}

async function disk(slow_evict = false): Promise<disk> {
  const m = await boot_vfs();
  const log: string[] = [];
  const gate = new_wait_queue(m.machine, "evict gate");
  const state = { open: !slow_evict };
  const sb = init_pseudo(m.kernel, "disk", 1, {
    alloc_inode: () => ({}),
    dirty_inode: (i, flags) => void log.push(`dirty ${i.i_ino} ${flags}`),
    write_inode: (i) => void log.push(`write ${i.i_ino}`),
    async evict_inode(i) {
      log.push(`evict ${i.i_ino}`);
      const p = gate.wait_event(() => state.open);
      if (p) await p;
      clear_inode(i);
    },
    destroy_inode: (i) => void log.push(`destroy ${i.i_ino}`),
  });
  const open_gate = () => {
    state.open = true;
    gate.wake_up_all();
  };
  return { ...m, sb, log, open_gate };
}

t("a second reader of an inode waits until the first has read it in", async () => {
  const { p, machine, sb } = await disk();
  const q = p.fork();
  const a = (await p.do(() => iget_locked(sb, 12))) as inode;
  is(a.i_state & I_NEW, I_NEW);
  let b: unknown = null;
  const waiting = q
    .do(() => iget_locked(sb, 12))
    .then((i) => {
      b = i;
    });
  await machine.settle();
  is(b, null);
  await p.do(() => unlock_new_inode(a));
  await waiting;
  is(b, a);
  is(a.i_count, 2);
  is(a.i_fs !== null, true);
});

t("when reading in fails, the waiter reads for itself", async () => {
  const { p, machine, sb, log } = await disk();
  const q = p.fork();
  const a = (await p.do(() => iget_locked(sb, 12))) as inode;
  let b: inode | null = null;
  const waiting = q
    .do(() => iget_locked(sb, 12))
    .then((i) => {
      b = i as inode;
    });
  await machine.settle();
  await p.do(() => iget_failed(a));
  await waiting;
  is(is_bad_inode(a), true);
  is(b === a, false);
  is(b!.i_state & I_NEW, I_NEW);
  equal(log, ["evict 12", "destroy 12"]);
});

t("an inode that is going away is waited for and made anew", async () => {
  const { p, machine, sb, open_gate } = await disk(true);
  const q = p.fork();
  const a = (await p.do(() => iget_locked(sb, 5))) as inode;
  await p.do(() => {
    unlock_new_inode(a);
    clear_nlink(a);
  });
  const going = p.do(() => iput(a));
  await machine.settle();
  is(a.i_state & I_FREEING, I_FREEING);
  is(igrab(a), null);
  let b: unknown = null;
  const waiting = q
    .do(() => iget_locked(sb, 5))
    .then((i) => {
      b = i;
    });
  await machine.settle();
  is(b, null);
  await p.fork().do(() => open_gate());
  await going;
  await waiting;
  is(b === a, false);
});

t("an unused inode stays cached until it is pruned; a dirty one is kept", async () => {
  const { p, sb, log } = await disk();
  const a = (await p.do(() => iget_locked(sb, 7))) as inode;
  await p.do(async () => {
    unlock_new_inode(a);
    await mark_inode_dirty(a);
    await iput(a);
  });
  is(await p.do(() => prune_icache_sb(sb)), 0);
  is((await p.do(() => iget_locked(sb, 7))) === a, true);
  await p.do(async () => {
    await iput(a);
    await sync_inodes_sb(sb);
  });
  is(await p.do(() => prune_icache_sb(sb)), 1);
  equal(log, ["dirty 7 3", "write 7", "evict 7", "destroy 7"]);
  is(sb.s_inodes.size, 0);
});

t("an inode that shall not be cached is written and freed with its last reference", async () => {
  const { p, sb, log } = await disk();
  const a = (await p.do(() => iget_locked(sb, 7))) as inode;
  await p.do(async () => {
    unlock_new_inode(a);
    await mark_inode_dirty(a);
    a.i_state |= I_DONTCACHE;
    await iput(a);
  });
  equal(log, ["dirty 7 3", "write 7", "evict 7", "destroy 7"]);
});

t("when the filesystem is going down nothing stays cached", async () => {
  const { p, sb, log } = await disk();
  const a = (await p.do(() => iget_locked(sb, 7))) as inode;
  sb.s_flags &= ~SB_ACTIVE;
  await p.do(async () => {
    unlock_new_inode(a);
    await iput(a);
  });
  equal(log, ["evict 7", "destroy 7"]);
});

t("a number can be taken once", async () => {
  const { p, sb } = await disk();
  const a = new_inode(sb);
  a.i_ino = 9;
  insert_inode_locked(a);
  const b = new_inode(sb);
  b.i_ino = 9;
  is(await p.do(() => insert_inode_locked(b)), "EBUSY");
});

t("inodes without links are counted until they are freed", async () => {
  const { p, sb } = await disk();
  const a = new_inode(sb);
  drop_nlink(a);
  is(sb.s_remove_count, 1);
  inc_nlink(a);
  is(sb.s_remove_count, 0);
  set_nlink(a, 0);
  set_nlink(a, 0);
  is(sb.s_remove_count, 1);
  await p.do(() => iput(a));
  is(sb.s_remove_count, 0);
  assert.throws(() => drop_nlink(a), "without links");
});

t("writing and executing exclude each other", async () => {
  const { sb } = await disk();
  const a = new_inode(sb);
  get_write_access(a);
  assert.throws(
    () => deny_write_access(a),
    (e) => e === ETXTBSY,
  );
  put_write_access(a);
  deny_write_access(a);
  assert.throws(
    () => get_write_access(a),
    (e) => e === ETXTBSY,
  );
  allow_write_access(a);
  get_write_access(a);
  is(a.i_writecount, 1);
});

t("pages alone do not write the inode, and it stays dirty if it is dirtied meanwhile", async () => {
  const { p, sb, log } = await disk();
  const a = (await p.do(() => iget_locked(sb, 3))) as inode;
  await p.do(async () => {
    unlock_new_inode(a);
    await __mark_inode_dirty(a, I_DIRTY_PAGES);
    is(sb.s_dirty_inodes.size, 1);
    await writeback_single_inode(a, new_wbc(WB_SYNC_ALL));
  });
  equal(log, []);
  is(a.i_state & I_DIRTY, 0);
  is(sb.s_dirty_inodes.size, 0);
  a.i_mapping.a_ops = {
    async writepages() {
      log.push("pages");
      await mark_inode_dirty(a);
    },
  };
  await p.do(async () => {
    await mark_inode_dirty(a);
    await writeback_single_inode(a, new_wbc(WB_SYNC_ALL));
  });
  equal(log, ["dirty 3 3", "pages", "dirty 3 3", "write 3"]);
});

t("the time of an inode has the granularity and range of its filesystem", async () => {
  const { sb, machine } = await disk();
  machine.clock.advance(1_234_567_890);
  const a = new_inode(sb);
  is(current_time(a).tv_nsec, 232_000_000);
  sb.s_time_gran = 1_000_000_000;
  is(current_time(a).tv_nsec, 0);
  sb.s_time_max = 1000;
  equal(current_time(a), { tv_sec: 1000, tv_nsec: 0 });
});

t.run();

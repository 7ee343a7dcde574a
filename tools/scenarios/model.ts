/**
 * tools/scenarios/model.ts - small models of subsystems for the scenarios: files, address spaces, a
 * journal with its commit thread. Real locks under their kernel names, nothing else real.
 */
import type { Machine } from "daxlab";
import {
  bit_lock,
  lock_class,
  new_wait_queue,
  rw_semaphore,
  type task_struct,
} from "daxlab/kernel";

const I_RWSEM = lock_class("&inode->i_rwsem");
const INVALIDATE_LOCK = lock_class("mapping.invalidate_lock");
const MMAP_LOCK = lock_class("mmap_lock");
const PAGE_LOCK = lock_class("page lock");
const DAX_ENTRY = lock_class("DAX entry");

export interface file_model {
  name: string;
  i_rwsem: rw_semaphore;
  invalidate_lock: rw_semaphore;
  /** Lock of its only page-cache page. */
  page: bit_lock;
  /** Lock of its only DAX entry. */
  entry: bit_lock;
}

export function model_file(m: Machine, name: string): file_model {
  return {
    name,
    i_rwsem: new rw_semaphore(m, I_RWSEM, name),
    invalidate_lock: new rw_semaphore(m, INVALIDATE_LOCK, name),
    page: new bit_lock(m, PAGE_LOCK, `page 0 of ${name}`),
    entry: new bit_lock(m, DAX_ENTRY, `index 0 of ${name}`),
  };
}

export function model_mm(m: Machine, name: string): rw_semaphore {
  return new rw_semaphore(m, MMAP_LOCK, `mm of ${name}`);
}

/**
 * jbd2 as far as its waits go. A handle keeps the running transaction open; the commit thread locks
 * the transaction (new handles wait), waits until its handles are closed, writes the data of its
 * inodes (ordered mode) and is done.
 */
export class journal_model {
  /** Sequence number of the running transaction. */
  tid = 1;
  committed = 0;
  readonly thread: task_struct;
  private readonly m: Machine;
  private requested = 0;
  private locked = false;
  private handles: task_struct[] = [];
  /** Data to be written before the running transaction commits. */
  private ordered: (() => Promise<void>)[] = [];
  private readonly wait_commit;
  private readonly wait_updates;
  private readonly wait_locked;
  private readonly wait_done;

  constructor(m: Machine) {
    this.m = m;
    this.wait_commit = new_wait_queue(m, "journal->j_wait_commit");
    this.wait_updates = new_wait_queue(m, "jbd2_handle", () => `transaction ${this.tid}`);
    this.wait_locked = new_wait_queue(m, "journal->j_wait_transaction_locked");
    this.wait_done = new_wait_queue(m, "commit", () => `transaction ${this.committed + 1}`);
    this.thread = m.kthread_run(m.kernel, "jbd2/pmem0-8", () => this.kjournald());
  }

  /** Another file's data goes with the running transaction. */
  add_ordered(write: () => Promise<void>): void {
    this.ordered.push(write);
  }

  /** jbd2__journal_start(): a handle of the running transaction. */
  async start(): Promise<void> {
    await this.wait_locked.wait_event(() => !this.locked, { owner: () => this.thread });
    this.handles.push(this.m.kernel.current);
    this.wait_updates.touch();
  }

  /** jbd2_journal_stop() */
  stop(): void {
    this.handles.splice(this.handles.indexOf(this.m.kernel.current), 1);
    this.wait_updates.wake_up_all();
  }

  /** jbd2_log_start_commit(): asks for the commit of `tid`. */
  request(tid: number): void {
    this.requested = Math.max(this.requested, tid);
    this.wait_commit.wake_up_all();
  }

  /** jbd2_complete_transaction(): asks for the commit of `tid` and waits for it. */
  async commit_and_wait(tid: number): Promise<void> {
    this.request(tid);
    await this.jbd2_log_wait_commit(tid);
  }

  private async jbd2_log_wait_commit(tid: number): Promise<void> {
    await this.wait_done.wait_event(() => this.committed >= tid, { owner: () => this.thread });
  }

  private async kjournald(): Promise<void> {
    for (;;) {
      await this.wait_commit.wait_event(() => this.requested > this.committed, { idle: true });
      await this.jbd2_journal_commit_transaction();
    }
  }

  private async jbd2_journal_commit_transaction(): Promise<void> {
    this.locked = true;
    this.wait_locked.touch();
    await this.wait_updates.wait_event(() => this.handles.length === 0, {
      owner: () => this.handles,
    });
    const data = this.ordered;
    this.ordered = [];
    this.tid++;
    this.locked = false;
    this.wait_locked.wake_up_all();
    await this.journal_submit_data_buffers(data);
    this.committed++;
    this.wait_done.wake_up_all();
  }

  private async journal_submit_data_buffers(data: (() => Promise<void>)[]): Promise<void> {
    for (const write of data) await write();
  }
}

/**
 * tools/scenarios/d1.ts - D1: a commit that waits for a page whose lock waits for the commit.
 * MODEL of ext4 in ordered mode with synchronous metadata in DAX faults; no kernel ever did this.
 *
 * File A is not DAX and has a dirty page P whose data belongs to the running transaction t. File B
 * is DAX, has a hole, and is mapped. Somebody writes to A from the mapping of B:
 *
 *   write(): page lock of P > copy from user > DAX fault > block allocation in t >
 *            jbd2_log_wait_commit(t)
 *   commit:  jbd2_journal_commit_transaction > journal_submit_data_buffers > ext4_writepages >
 *            mpage_prepare_extent_to_map > lock_page(P)
 *
 * The page lock is the problem, not mmap_lock: see the two ablations.
 */
import { scenario } from "daxlab";
import { journal_model, model_file, model_mm } from "./model.ts";

export default scenario(
  {
    title: "ordered-mode commit against a write whose source faults",
    bare: true,
    switches: {
      prefault: "write() faults its source in before it locks the page, and copies with faults off",
      "no-mmap-lock": "ablation: the fault does without mmap_lock",
      "no-page-lock": "ablation: write() copies without the page lock",
      "drop-page-lock": "the fault gives the page lock up while it waits for the commit",
    },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["prefault"], verdict: "ok" },
      { with: ["no-mmap-lock"], verdict: "deadlock" },
      { with: ["no-page-lock"], verdict: "ok" },
      { with: ["drop-page-lock"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const journal = new journal_model(m);
    const mmap_lock = model_mm(m, "write");
    const a = model_file(m, "A");
    const b = model_file(m, "B");
    const state = { mapped: false };
    // the commit's side, by its kernel names
    const mpage_prepare_extent_to_map = async (): Promise<void> => {
      await a.page.lock();
      a.page.unlock();
    };
    const ext4_writepages = async (): Promise<void> => {
      await mpage_prepare_extent_to_map();
    };
    journal.add_ordered(async function journal_submit_inode_data_buffers() {
      await ext4_writepages();
    });

    const dax_fault = async (): Promise<void> => {
      if (state.mapped) return;
      if (!on.has("no-mmap-lock")) await mmap_lock.down_read();
      await b.invalidate_lock.down_read();
      await journal.start();
      const tid = journal.tid;
      journal.stop();
      if (on.has("drop-page-lock")) a.page.unlock();
      await journal.commit_and_wait(tid);
      if (on.has("drop-page-lock")) await a.page.lock();
      state.mapped = true;
      b.invalidate_lock.up_read();
      if (!on.has("no-mmap-lock")) mmap_lock.up_read();
    };

    m.spawn(m.kernel, "write", async function ext4_file_write() {
      await a.i_rwsem.down_write();
      if (on.has("prefault")) await dax_fault();
      if (!on.has("no-page-lock")) await a.page.lock();
      if (!on.has("prefault")) await dax_fault();
      if (!on.has("no-page-lock")) a.page.unlock();
      a.i_rwsem.up_write();
    });
    m.spawn(m.kernel, "sync", () => journal.commit_and_wait(journal.tid));
    await m.run();
  },
);

/** Two processes take two inode locks in opposite order: `npx daxlab run docs/examples/two-inodes.ts` */
import { type Process, scenario } from "daxlab";
import { fget, inode_lock, inode_unlock, sched_yield } from "daxlab/kernel";

async function lock_both(p: Process, first: number, second: number): Promise<void> {
  await p.in_kernel(async (kernel, task) => {
    const a = fget(task, first).f_inode;
    const b = fget(task, second).f_inode;
    await inode_lock(a);
    await sched_yield(kernel);
    await inode_lock(b);
    inode_unlock(b);
    inode_unlock(a);
  });
}

export default scenario({}, async (m) => {
  const p = m.process("left");
  const [a, b] = [await p.open("/tmp/a", 0o102), await p.open("/tmp/b", 0o102)];
  const q = await p.fork("right");
  await Promise.all([lock_both(p, a, b), lock_both(q, b, a)]);
});

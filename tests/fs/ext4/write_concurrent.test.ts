/** Tasks that write to one file at the same time, each in a part of its own, in many schedules. */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_CREAT,
  O_RDWR,
} from "../../../kernel/include/fcntl.ts";
import { Random } from "../../../kernel/random.ts";
import { random_strategy } from "../../../kernel/sched/strategy.ts";
import { Machine } from "../../../tools/api/machine.ts";
import type { Process } from "../../../tools/api/process.ts";
import { finish_ext4 } from "../../lib/ext4_write.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/write_concurrent");
const PART = 256 * 1024;
const TASKS = 4;
const KEEP = FALLOC_FL_KEEP_SIZE;

async function one_step(
  p: Process,
  fd: number,
  r: Random,
  base: number,
  model: Uint8Array,
): Promise<void> {
  const off = base + r.below(PART - 30_000);
  const len = 1 + r.below(30_000);
  const kind = r.below(8);
  if (kind < 3) {
    const data = new Uint8Array(len).fill(r.u32() & 255);
    model.set(data, off);
    for (let n = 0; n < len; ) n += await p.pwrite(fd, data.subarray(n), off + n);
  } else if (kind === 3) {
    await p.fallocate(fd, FALLOC_FL_PUNCH_HOLE | KEEP, off, len);
    model.fill(0, off, off + len);
  } else if (kind === 4) {
    await p.fallocate(fd, FALLOC_FL_ZERO_RANGE | KEEP, off, len);
    model.fill(0, off, off + len);
  } else if (kind === 5) await p.fsync(fd);
  else if (kind === 6) await p.fallocate(fd, 0, off, len);
  else {
    const b = new Uint8Array(len);
    await p.pread(fd, b, off);
    assert.equal(b, model.slice(off, off + len), `bytes from ${off}`);
  }
}

async function run_schedule(mkfs: string, mount: string, seed: number): Promise<void> {
  const m = await Machine.boot({
    pmem: [{ size: "64M", name: "pmem0", mode: "raw", pages: true }],
    strategy: new random_strategy(new Random(seed), seed),
    lockdep: true,
  });
  await m.mkfs("ext4", "/dev/pmem0", mkfs);
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", mount);
  const fd = await p.open("/mnt/f", O_RDWR | O_CREAT, 0o644);
  await p.ftruncate(fd, PART * TASKS);
  const model = new Uint8Array(PART * TASKS);
  const failures: unknown[] = [];
  let left = TASKS;
  for (let k = 0; k < TASKS; k++) {
    m.spawn(m.kernel, `writer${k}`, async (task) => {
      const { files, fs, mm, signal } = p.task;
      Object.assign(task, { files, fs, mm, signal });
      const q = m.process_of(task);
      const r = new Random(seed * 100 + k);
      try {
        for (let i = 0; i < 30; i++) await one_step(q, fd, r, k * PART, model);
      } catch (e) {
        failures.push(e);
      }
      left--;
    });
  }
  await m.run();
  if (failures.length > 0) throw failures[0];
  assert.is(left, 0, "tasks that never ended");
  const all = new Uint8Array(model.length);
  await p.pread(fd, all, 0);
  assert.ok(
    all.every((b, i) => b === model[i]),
    `seed ${seed}: the file is not what was written`,
  );
  await p.close(fd);
  await finish_ext4({ m, p });
}

const SETUPS: readonly (readonly [string, string])[] = [
  ["-b 4096", ""],
  ["-b 4096", "dax=always"],
  ["-b 4096", "nodelalloc"],
  ["-b 1024", ""],
  ["-b 4096 -O bigalloc -C 16384", ""],
];
for (const [mkfs, mount] of SETUPS) {
  t(`four tasks in one file: ${mkfs} ${mount}`, async () => {
    for (let seed = 1; seed <= 3; seed++) await run_schedule(mkfs, mount, seed);
  });
}

t.run();

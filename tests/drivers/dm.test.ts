/**
 * tests/drivers/dm.test.ts - device mapper: where bytes go, by bios and by DAX, and who waits. What
 * a script of calls sees is in the recorded cases.
 */
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";
import { lookup_bdev } from "../../drivers/block/bdev.ts";
import { dax_direct_access, fs_dax_get_by_bdev } from "../../drivers/dax/super.ts";
import { dm_find } from "../../drivers/md/dm-ioctl.ts";
import { parse_table } from "../../drivers/md/dm-table.ts";
import { REQ_OP_READ, REQ_OP_WRITE } from "../../kernel/include/blkdev.ts";
import { Machine } from "../../tools/api/machine.ts";
import { scenario } from "../../tools/api/scenario.ts";
import { answers_as_linux, recorded_scripts } from "../lib/answers.ts";
import { outcomes_of } from "../lib/explore.ts";
import { repo_path } from "../lib/paths.ts";
import fc from "../lib/property.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("drivers/md/dm");
const MIB = 2 ** 20;
const FOLDER = repo_path("tests", "drivers", "recorded");

for (const name of recorded_scripts(FOLDER, "dm-")) {
  t(`${name} answers as Linux did`, () => answers_as_linux(FOLDER, name));
}

/** Three disks of 64 MiB. */
async function three_disks(): Promise<Machine> {
  const pmem = [0, 1, 2].map(() => ({ size: 64 * MIB, mode: "raw" as const, pages: true }));
  return Machine.boot({ pmem });
}

async function dmsetup(m: Machine, args: string[]): Promise<string> {
  const r = await m.tool("dmsetup", args);
  if (r.status !== 0) throw new Error(r.stderr);
  return r.stdout;
}

const create = (m: Machine, table: string, name = "x"): Promise<string> =>
  dmsetup(m, ["create", name, "--table", table]);

async function rw(m: Machine, dev: string, op: number, pos: number, b: Uint8Array): Promise<void> {
  await bdev_rw_bytes(lookup_bdev(m.kernel, dev), op, pos, b, 0, b.length);
}

type random_target =
  | { kind: "linear"; disk: number; start: number; pages: number }
  | { kind: "striped"; chunk: number; rows: number; start: number };

const target_arb: fc.Arbitrary<random_target> = fc.oneof(
  fc.record({
    kind: fc.constant("linear" as const),
    disk: fc.nat(2),
    start: fc.nat(1000),
    pages: fc.integer({ min: 1, max: 64 }),
  }),
  fc.record({
    kind: fc.constant("striped" as const),
    chunk: fc.constantFrom(8, 16, 24, 128),
    rows: fc.integer({ min: 1, max: 6 }),
    start: fc.nat(100),
  }),
);

/** The table as text, and for each sector the disk and sector where it lies: our own reckoning. */
function layout(targets: readonly random_target[]): { text: string; at: [number, number][] } {
  const at: [number, number][] = [];
  const lines: string[] = [];
  targets.forEach((x, i) => {
    const begin = at.length;
    // targets keep out of each other's way: each has its own 4 MiB
    const base = 8192 * (i + 1);
    if (x.kind === "linear") {
      const len = x.pages * 8;
      const start = base + x.start * 8;
      for (let s = 0; s < len; s++) at.push([x.disk, start + s]);
      lines.push(`${begin} ${len} linear /dev/pmem${x.disk} ${start}`);
      return;
    }
    const starts = [0, 1, 2].map((k) => base + x.start * 8 + k * 8);
    for (let row = 0; row < x.rows; row++) {
      for (let k = 0; k < 3; k++) {
        for (let s = 0; s < x.chunk; s++) at.push([k, starts[k]! + row * x.chunk + s]);
      }
    }
    const dest = starts.map((s, k) => `/dev/pmem${k} ${s}`).join(" ");
    lines.push(`${begin} ${x.rows * 3 * x.chunk} striped 3 ${x.chunk} ${dest}`);
  });
  return { text: lines.join("\n"), at };
}

t("bytes written through any table lie where it says, also across targets and chunks", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(target_arb, { minLength: 1, maxLength: 4 }),
      fc.nat(),
      fc.integer({ min: 1, max: 200 }),
      async (targets, where, want) => {
        const m = await three_disks();
        const { text, at } = layout(targets);
        await create(m, text);
        const first = where % at.length;
        const n = Math.min(want, at.length - first);
        const data = m.kernel.machine.random.bytes(n * 512);
        await rw(m, "/dev/mapper/x", REQ_OP_WRITE, first * 512, data);
        const got = new Uint8Array(512);
        for (let s = 0; s < n; s++) {
          const [disk, sector] = at[first + s]!;
          await rw(m, `/dev/pmem${disk}`, REQ_OP_READ, sector * 512, got);
          assert.equal(got, data.subarray(s * 512, (s + 1) * 512), `sector ${first + s}`);
        }
        const back = new Uint8Array(n * 512);
        await rw(m, "/dev/dm-0", REQ_OP_READ, first * 512, back);
        assert.equal(back, data);
      },
    ),
    { numRuns: 60 },
  );
});

t(
  "direct access finds the same bytes as bios, and stops where a chunk or target ends",
  async () => {
    const m = await three_disks();
    await create(
      m,
      "0 64 linear /dev/pmem1 80\n64 96 striped 3 16 /dev/pmem0 0 /dev/pmem1 800 /dev/pmem2 0",
    );
    const { dax_dev } = fs_dax_get_by_bdev(lookup_bdev(m.kernel, "dm-0"))!;
    const out = { nr_pages: 0, paddr: 0, pfn: 0 };
    const runs: number[] = [];
    await m.in_task(m.kernel, "t", async () => {
      for (let page = 0; page < 20; page++) {
        const mark = new Uint8Array(4096).fill(page + 1);
        await rw(m, "/dev/dm-0", REQ_OP_WRITE, page * 4096, mark);
        dax_direct_access(dax_dev, page, 100, 0, out);
        const got = new Uint8Array(4096);
        m.kernel.phys.copy_from(out.paddr, got, 0, 4096);
        assert.equal(got, mark, `page ${page}`);
        runs.push(out.nr_pages);
      }
    });
    assert.equal(runs, [8, 7, 6, 5, 4, 3, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]);
  },
);

t(
  "an error target fails what touches it and leaves the rest alone; zero reads zeroes",
  async () => {
    const m = await three_disks();
    await create(m, "0 8 linear /dev/pmem0 0\n8 8 error\n16 8 zero\n24 8 linear /dev/pmem0 8");
    const b = new Uint8Array(4096).fill(7);
    await rw(m, "/dev/dm-0", REQ_OP_WRITE, 0, b);
    await assert.rejects(() => rw(m, "/dev/dm-0", REQ_OP_READ, 4096, b));
    await assert.rejects(() => rw(m, "/dev/dm-0", REQ_OP_READ, 0, new Uint8Array(8192)));
    await rw(m, "/dev/dm-0", REQ_OP_WRITE, 8192, b);
    await rw(m, "/dev/dm-0", REQ_OP_READ, 8192, b);
    assert.ok(b.every((x) => x === 0));
    assert.is(m.block_info("/dev/dm-0").dax, false);
  },
);

t("tables are shown as they were given, by device number", async () => {
  const m = await three_disks();
  await create(
    m,
    "0 64 linear /dev/pmem1 80\n64 48 striped 3 16 /dev/pmem0 0 /dev/pmem1 8 259:2 0",
  );
  const lines = (await dmsetup(m, ["table", "x"])).trimEnd().split("\n");
  assert.equal(lines, ["0 64 linear 259:1 80", "64 48 striped 3 16 259:0 0 259:1 8 259:2 0"]);
  assert.equal(parse_table(lines.join("\n")).length, 2);
  assert.match(await dmsetup(m, ["info", "x"]), /^State: +ACTIVE$/m);
  assert.is(await dmsetup(m, ["ls"]), "x\t(254:0)\n");
  assert.is(await dmsetup(m, ["deps", "x"]), "3 dependencies\t: (259, 1) (259, 0) (259, 2)\n");
});

t("a device without a loaded table has no disk; mistakes are said in words", async () => {
  const m = await three_disks();
  await dmsetup(m, ["create", "n", "--notable"]);
  assert.throws(() => lookup_bdev(m.kernel, "/dev/mapper/n"));
  const wrong = async (...args: string[]): Promise<string> => {
    const r = await m.tool("dmsetup", args);
    assert.is(r.status, 1, args.join(" "));
    return r.stderr;
  };
  assert.match(await wrong("create", "n", "--notable"), /Device or resource busy/);
  assert.match(await wrong("resume", "nobody"), /No such device or address/);
  assert.match(await wrong("load", "n", "--table", "0 8"), /Invalid format on line 1/);
  assert.match(await wrong("load", "n"), /--table/);
  assert.match(await wrong("frobnicate"), /Unknown command: frobnicate/);
  assert.match(await wrong("create"), /Incorrect number of arguments/);
  assert.match(await wrong("load", "n", "--table", "0 8 linear /dev/pmem0 x"), /Invalid argument/);
  assert.match(m.dmesg(), /linear: Invalid device sector/);
  assert.is((await dm_find(m.kernel, "n")).new_map, null);
});

t("a refused table gives its devices back", async () => {
  const m = await three_disks();
  const r = await m.tool("dmsetup", [
    "create",
    "x",
    "--table",
    "0 8 linear /dev/pmem0 0\n16 8 error",
  ]);
  assert.is(r.status, 1);
  assert.is(lookup_bdev(m.kernel, "pmem0").bd_holder, null);
  assert.is(lookup_bdev(m.kernel, "pmem0").bd_openers, 0);
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
});

t("IO that meets a suspension is done after it, in every order", async () => {
  const s = scenario(
    { pmem: [{ size: 64 * MIB, mode: "raw", pages: true }] },
    async (m: Machine) => {
      await create(m, "0 64 linear /dev/pmem0 0");
      const b = new Uint8Array(512).fill(5);
      const writer = m.in_task(m.kernel, "writer", () => rw(m, "/dev/dm-0", REQ_OP_WRITE, 0, b));
      await Promise.all([
        writer,
        dmsetup(m, ["suspend", "x"]).then(() => dmsetup(m, ["resume", "x"])),
      ]);
      const got = new Uint8Array(1);
      m.kernel.phys.copy_from(m.pmem[0]!.region.start, got, 0, 1);
      return got[0];
    },
  );
  const { outcomes, result } = await outcomes_of(s);
  assert.equal(outcomes, ["5"]);
  assert.ok(result.complete, result.promise);
});

t("two writers that wait for one bitmap under a suspended device share no block", async () => {
  const m = await three_disks();
  await create(m, "0 65536 linear /dev/pmem0 0");
  await m.mkfs("ext4", "/dev/mapper/x", "-b 4096");
  const p = m.process("one");
  await p.mount("/dev/mapper/x", "/mnt", "ext4", "dax=always");
  const fds = [await p.open("/mnt/a", 0o102), await p.open("/mnt/b", 0o102)];
  const q = await p.fork("two");
  await dmsetup(m, ["suspend", "--nolockfs", "x"]);
  const writes = [p, q].map((w, i) => w.pwrite(fds[i]!, new Uint8Array(65536).fill(65 + i), 0));
  await dmsetup(m, ["resume", "x"]);
  await Promise.all(writes);
  for (const [i, fd] of fds.entries()) {
    const got = new Uint8Array(65536);
    await p.pread(fd, got, 0);
    assert.ok(
      got.every((b) => b === 65 + i),
      `file ${i}`,
    );
  }
  await q.exit();
  for (const fd of fds) await p.close(fd);
  await p.umount("/mnt");
  const r = await m.tool("e2fsck", ["-fn", "/dev/mapper/x"]);
  assert.is(r.status, 0, r.stdout + r.stderr);
});

t.run();

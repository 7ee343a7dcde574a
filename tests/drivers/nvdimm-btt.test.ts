/** Sector mode: atomic sectors under power cuts, map and log, error and zero entries, sizes. */
import { EIO, ENXIO } from "../../kernel/include/errno.ts";
import { REQ_OP_READ, REQ_OP_WRITE } from "../../kernel/include/blkdev.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";
import { type btt, btt_attach, btt_check_arena, btt_detach } from "../../drivers/nvdimm/btt.ts";
import {
  btt_arena_layout,
  btt_lbasize_supported,
  log_older,
  log_places,
  map_decode,
  map_encode,
} from "../../drivers/nvdimm/btt_format.ts";
import { snapshot_region, track_persistence } from "../../mm/phys.ts";
import type { phys_region } from "../../kernel/include/phys.ts";
import { assert, suite } from "../lib/suite.ts";
import { MIB, drivers_kernel } from "./kernel.ts";

const t = suite("drivers/nvdimm-btt");
const SIZE = 17 * MIB;

interface sector_disk {
  kernel: Kernel;
  region: phys_region;
  b: btt;
}

function attach(kernel: Kernel, region: phys_region, lbasize = 512): btt {
  return btt_attach(kernel, {
    start: region.start,
    size: region.size,
    initial_offset: 0,
    version: [2, 0],
    uuid: "11111111-2222-4333-8444-555555555555",
    parent_uuid: "00000000-0000-0000-0000-000000000000",
    lbasize,
    disk_name: "pmem0s",
    ro: false,
  });
}

function new_disk(lbasize = 512, image?: unknown): sector_disk {
  const kernel = drivers_kernel();
  const region = kernel.phys.add_region({
    name: "region0",
    kind: "pmem",
    size: SIZE,
    ...(image === undefined ? {} : { image }),
  });
  return { kernel, region, b: attach(kernel, region, lbasize) };
}

function write(d: sector_disk, lba: number, fill: number): void {
  const bytes = new Uint8Array(d.b.sector_size).fill(fill);
  void bdev_rw_bytes(d.b.disk.part0, REQ_OP_WRITE, lba * d.b.sector_size, bytes, 0, bytes.length);
}

function read(d: sector_disk, lba: number): Uint8Array {
  const bytes = new Uint8Array(d.b.sector_size);
  void bdev_rw_bytes(d.b.disk.part0, REQ_OP_READ, lba * d.b.sector_size, bytes, 0, bytes.length);
  return bytes;
}

function errno_of(fn: () => unknown): Errno | undefined {
  try {
    fn();
  } catch (e) {
    return e as Errno;
  }
  return undefined;
}

t("arenas are divided as Linux divides them", () => {
  const l = btt_arena_layout(32 * MIB, 4096);
  assert.equal([l.external_nlba, l.internal_nlba, l.mapoff], [7921, 8177, 33501184]);
  assert.equal([l.logoff, l.info2off], [33533952, 33550336]);
  assert.is(btt_arena_layout(48 * MIB, 520).internal_lbasize, 576);
});

for (const lbasize of btt_lbasize_supported) {
  t(`sectors of ${lbasize}: what was written is read, also after attaching again`, () => {
    const d = new_disk(lbasize);
    assert.is(d.b.sector_size, lbasize < 4096 ? 512 : 4096);
    for (let i = 0; i < 40; i++) write(d, i % 7, i + 1);
    write(d, d.b.nlba - 1, 99);
    const check = (x: sector_disk): void => {
      for (let lba = 0; lba < 7; lba++) {
        const last = Math.floor((39 - lba) / 7) * 7 + lba + 1;
        assert.ok(read(x, lba).every((v) => v === last));
      }
      assert.ok(read(x, x.b.nlba - 1).every((v) => v === 99));
      assert.ok(btt_check_arena(x.kernel, x.b.arenas[0]!));
    };
    check(d);
    btt_detach(d.b);
    check({ ...d, b: attach(d.kernel, d.region) });
  });
}

t("IO beyond the end and of half sectors fails", () => {
  const d = new_disk(4096);
  assert.is(
    errno_of(() => read(d, d.b.nlba)),
    EIO,
  );
  const half = new Uint8Array(512);
  assert.is(
    errno_of(() => bdev_rw_bytes(d.b.disk.part0, REQ_OP_WRITE, 0, half, 0, 512)),
    EIO,
  );
});

t("too small a namespace is refused", () => {
  const kernel = drivers_kernel();
  const region = kernel.phys.add_region({ name: "r", kind: "pmem", size: 8 * MIB });
  assert.is(
    errno_of(() => attach(kernel, region)),
    ENXIO,
  );
});

t("map entries: initial, error, zero, normal", () => {
  assert.equal(map_decode(0, 7), { block: 7, error: false, zero: false });
  assert.equal(map_decode(5, 7).block, 7, "low bits say nothing in the initial state");
  for (const e of [
    { block: 9, error: true, zero: false },
    { block: 9, error: false, zero: true },
    { block: 9, error: false, zero: false },
  ]) {
    assert.equal(map_decode(map_encode(e), 7), e);
  }
});

t("a sector with a media error fails, stays failed, and is healed by a write", () => {
  const d = new_disk();
  write(d, 3, 7);
  const a = d.b.arenas[0]!;
  const entry = a.base + a.mapoff + 3 * 4;
  const block = d.kernel.phys.read_u32(entry) & 0x3fffffff;
  const first = (a.dataoff + block * a.internal_lbasize) / 512;
  d.b.bb.set(first, 1);
  assert.is(
    errno_of(() => read(d, 3)),
    EIO,
  );
  d.b.bb.clear(first, 1);
  assert.is(
    errno_of(() => read(d, 3)),
    EIO,
    "the map remembers",
  );
  write(d, 3, 8);
  assert.ok(read(d, 3).every((v) => v === 8));
});

t("a zero entry reads as zeroes", () => {
  const d = new_disk();
  write(d, 4, 1);
  const a = d.b.arenas[0]!;
  const entry = a.base + a.mapoff + 4 * 4;
  const block = d.kernel.phys.read_u32(entry) & 0x3fffffff;
  d.kernel.phys.write_u32(entry, map_encode({ block, error: false, zero: true }));
  assert.ok(read(d, 4).every((v) => v === 0));
});

t("the older of two log entries, and the places of old kernels", () => {
  assert.equal([log_older(0, 0), log_older(1, 0), log_older(1, 2), log_older(2, 1)], [0, 1, 0, 1]);
  assert.equal([log_older(3, 1), log_older(1, 3), log_older(2, 2)], [0, 1, -1]);
  const log = new DataView(new ArrayBuffer(2 * 64));
  log.setUint32(4, 100, true);
  log.setUint32(64 + 4, 101, true);
  assert.equal(log_places(log, 2), [0, 1]);
  log.setUint32(32 + 12, 2, true);
  assert.equal(log_places(log, 2), [0, 2]);
  log.setUint32(16 + 12, 2, true);
  assert.is(log_places(log, 2), null);
});

/** What a power cut now leaves, attached again: sectors whole, old or new, the arena consistent. */
function check_cut(d: sector_disk, done: number, sectors: number): void {
  const now = new_disk(512, snapshot_region(d.region, { lose: true }));
  assert.ok(btt_check_arena(now.kernel, now.b.arenas[0]!), "map and log disagree");
  for (let lba = 0; lba < sectors; lba++) {
    const got = read(now, lba);
    const first = got[0]!;
    assert.ok(
      got.every((v) => v === first),
      "a torn sector",
    );
    const last = done - 1 - ((((done - 1 - lba) % sectors) + sectors) % sectors);
    const old = last >= 0 ? 2 + (last % 250) : 1;
    const may = lba === done % sectors ? [old, 2 + (done % 250)] : [old];
    assert.ok(may.includes(first), `sector ${lba}: ${first} is none of ${may.join()}`);
  }
}

/** Power goes at every event of the memory, until there were that many. */
function cut_everywhere(cuts: number, sectors: number): number {
  const d = new_disk();
  for (let lba = 0; lba < sectors; lba++) write(d, lba, 1);
  let done = 0;
  let seen = 0;
  track_persistence(d.region, () => {
    seen++;
    check_cut(d, done, sectors);
  });
  for (; seen < cuts; done++) write(d, done % sectors, 2 + (done % 250));
  return done;
}

t("300 power cuts in the middle of writes: each sector is old or new, never torn", () => {
  assert.ok(cut_everywhere(300, 5) > 10);
});

t(
  "20,000 power cuts in the middle of writes",
  () => {
    assert.ok(cut_everywhere(20_000, 16) > 600);
  },
  { groups: ["long"], timeout_ms: 1_800_000 },
);

t.run();

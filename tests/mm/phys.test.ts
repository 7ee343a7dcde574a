import fc from "../lib/property.ts";
import {
  attach_snapshot,
  begin_undo,
  host_flush,
  media_snapshot,
  new_phys,
  nr_volatile_lines,
  region_bytes,
  rollback,
  snapshot_region,
  track_persistence,
} from "../../mm/phys.ts";
import type { pmem_event } from "../../mm/phys.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot } from "./lib/fake.ts";

const t = suite("mm/phys");
const MIB = 1 << 20;

function pmem(size = 8 * MIB, extra: object = {}) {
  const phys = new_phys();
  phys.add_region({ name: "dram", kind: "dram", size: 16 * MIB });
  const r = phys.add_region({ name: "pmem", kind: "pmem", size, ...extra });
  return { phys, r };
}
const bytes = (...b: number[]) => new Uint8Array(b);
function load(phys: ReturnType<typeof new_phys>, at: number, len: number): Uint8Array {
  const out = new Uint8Array(len);
  phys.copy_from(at, out, 0, len);
  return out;
}

t("memory never written reads as zeros and costs no chunk", () => {
  const { phys, r } = pmem(1024 * MIB * 4);
  assert.equal(load(phys, r.start + r.size - 5000, 5000), new Uint8Array(5000));
  assert.ok(phys.is_zero(r.start, r.size));
});

t("a store crosses chunk borders", () => {
  const { phys, r } = pmem();
  const data = new Uint8Array(10_000).map((_, i) => i * 7);
  phys.copy_to(r.start + 2 * MIB - 4000, data, 0, data.length);
  assert.equal(load(phys, r.start + 2 * MIB - 4000, 10_000), data);
  phys.zero(r.start + 2 * MIB - 10, 20);
  data.fill(0, 3990, 4010);
  assert.equal(load(phys, r.start + 2 * MIB - 4000, 10_000), data);
  phys.copy(r.start + 4 * MIB - 77, r.start + 2 * MIB - 4000, 10_000);
  assert.equal(load(phys, r.start + 4 * MIB - 77, 10_000), data);
});

t("words are little endian", () => {
  const { phys, r } = pmem();
  phys.write_u32(r.start + 3, 0xfedcba98);
  assert.equal(load(phys, r.start + 3, 4), bytes(0x98, 0xba, 0xdc, 0xfe));
  assert.is(phys.read_u32(r.start + 3), 0xfedcba98);
});

t("an access outside every region is our own bug", () => {
  const { phys, r } = pmem();
  assert.throws(() => phys.read_u8(r.start + r.size), /outside every region/);
  assert.throws(() => phys.copy_from(r.start + r.size - 1, new Uint8Array(2), 0, 2), /outside/);
});

t("frames come zeroed, are reused, and end with ENOMEM", () => {
  const phys = new_phys();
  phys.add_region({ name: "dram", kind: "dram", size: 64 * 4096 });
  const got: number[] = [];
  assert.throws(() => {
    for (;;) got.push(phys.alloc_page());
  }, "ENOMEM");
  assert.is(got.length, 63);
  assert.is(new Set(got).size, 63);
  phys.page_view(got[5]!).fill(9);
  phys.free_page(got[5]!);
  assert.is(phys.alloc_page(), got[5]);
  assert.equal(phys.page_view(got[5]!), new Uint8Array(4096));
});

t("an image is attached without copying and never written to", () => {
  const image = new Uint8Array(5 * MIB).fill(7);
  const { phys, r } = pmem(8 * MIB, { image });
  phys.copy_to(r.start + 10, bytes(1, 2, 3), 0, 3);
  phys.zero(r.start + 4 * MIB, 100);
  assert.ok(image.every((b) => b === 7));
  const all = region_bytes(r);
  assert.equal(all.subarray(8, 14), bytes(7, 7, 1, 2, 3, 7));
  assert.is(all[5 * MIB], 0);
  assert.is(all[4 * MIB + 50], 0);
});

t("a snapshot keeps its bytes while both sides go on writing", () => {
  const { phys, r } = pmem();
  phys.copy_to(r.start + 100, bytes(1), 0, 1);
  const image = snapshot_region(r);
  phys.copy_to(r.start + 100, bytes(2), 0, 1);
  const other = new_phys();
  const snap = { regions: [{ kernel: 0, name: "p", size: r.size, domain: "adr" as const, image }] };
  const [copy] = attach_snapshot(other, snap, 0);
  assert.is(other.read_u8(copy!.start + 100), 1);
  other.write_u8(copy!.start + 100, 3);
  assert.is(phys.read_u8(r.start + 100), 2);
  const again = new_phys();
  assert.is(again.read_u8.call(again, attach_snapshot(again, snap, 0)[0]!.start + 100), 1);
});

t("rollback returns to the mark, whatever was stored since", () => {
  const op = fc.record({
    at: fc.nat(6 * MIB - 20_000),
    len: fc.integer({ min: 1, max: 9000 }),
    value: fc.nat(255),
    zero: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(op, { maxLength: 20 }), fc.array(op, { maxLength: 20 }), (a, b) => {
      const { phys, r } = pmem(6 * MIB);
      const apply = (ops: typeof a) => {
        for (const o of ops) {
          if (o.zero) phys.zero(r.start + o.at, o.len);
          else phys.copy_to(r.start + o.at, new Uint8Array(o.len).fill(o.value), 0, o.len);
        }
      };
      apply(a);
      const before = region_bytes(r);
      begin_undo(r);
      apply(b);
      rollback(r);
      assert.equal(region_bytes(r), before);
      apply(a);
      rollback(r);
      assert.equal(region_bytes(r), before);
    }),
    { numRuns: 25 },
  );
});

t("going back costs the lines that were changed", () => {
  const { phys, r } = pmem();
  phys.copy_to(r.start, new Uint8Array(4 * MIB).fill(1), 0, 4 * MIB);
  begin_undo(r);
  for (let i = 0; i < 10; i++) phys.write_u8(r.start + 64 * i, 5);
  for (let i = 0; i < 10; i++) phys.write_u8(r.start + 64 * i + 1, 6);
  assert.is(rollback(r), 10);
});

t("with ADR a store is durable after clwb and sfence, not before", () => {
  const { phys, r } = pmem();
  track_persistence(r, null);
  const durable = (off: number) => snapshot_region(r, { lose: true }).chunks[0]?.[off] ?? 0;
  phys.write_u8(r.start + 5, 1);
  assert.is(durable(5), 0);
  phys.sfence();
  assert.is(durable(5), 0);
  phys.clwb(r.start + 5, 1);
  assert.is(durable(5), 0);
  phys.write_u8(r.start + 6, 2);
  phys.sfence();
  assert.is(durable(5), 1);
  assert.is(durable(6), 0, "stored after the write-back of its line");
  assert.is(nr_volatile_lines(r), 1);
  phys.memcpy_flushcache(r.start + 200, bytes(9), 0, 1);
  assert.is(durable(200), 0);
  phys.sfence();
  assert.is(durable(200), 9);
  assert.is(snapshot_region(r).chunks[0]![6], 2, "an orderly snapshot has every store");
});

t("with eADR a store is durable at once; with no domain only the host's flush helps", () => {
  const e = pmem(2 * MIB, { domain: "eadr" });
  track_persistence(e.r, null);
  e.phys.write_u8(e.r.start, 1);
  assert.is(nr_volatile_lines(e.r), 0);
  const n = pmem(2 * MIB, { domain: "none" });
  track_persistence(n.r, null);
  n.phys.memcpy_flushcache(n.r.start, bytes(1), 0, 1);
  n.phys.sfence();
  assert.is(nr_volatile_lines(n.r), 1);
  host_flush(n.r);
  assert.is(nr_volatile_lines(n.r), 0);
});

t("a Machine's media start another Machine, and neither sees the other's stores", () => {
  const a = boot();
  const r = a.kernel.phys.add_region({
    name: "pmem0",
    kind: "pmem",
    size: 4 * MIB,
    domain: "eadr",
  });
  a.kernel.phys.write_u8(r.start + 3 * MIB, 42);
  const snap = media_snapshot(a.machine);
  assert.equal(
    snap.regions.map((x) => [x.kernel, x.name, x.size, x.domain]),
    [[0, "pmem0", 4 * MIB, "eadr"]],
  );
  const b = boot();
  const [copy] = attach_snapshot(b.kernel.phys, snap, 0);
  b.kernel.phys.write_u8(copy!.start, 1);
  a.kernel.phys.write_u8(r.start + 3 * MIB, 43);
  assert.is(b.kernel.phys.read_u8(copy!.start + 3 * MIB), 42);
  assert.is(a.kernel.phys.read_u8(r.start), 0);
});

t("every persistence event reaches the sink in program order", () => {
  const { phys, r } = pmem();
  const log: string[] = [];
  track_persistence(r, (e: pmem_event) => {
    if (e.type === "store") log.push(`${e.nt ? "nt" : "st"} ${e.off} ${[...e.data]}`);
    else if (e.type === "clwb") log.push(`clwb ${e.off}+${e.len}`);
    else log.push(e.type);
  });
  phys.copy_to(r.start + 1, bytes(1, 2), 0, 2);
  phys.clwb(r.start, 64);
  phys.memcpy_flushcache(r.start + 64, bytes(3), 0, 1);
  phys.sfence();
  phys.zero(r.start + 1, 1);
  assert.equal(log, ["st 1 1,2", "clwb 0+64", "nt 64 3", "sfence", "st 1 0"]);
});

t.run();

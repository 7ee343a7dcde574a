import fc from "../lib/property.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import { new_iov_iter_bytes, new_iov_iter_user } from "../../mm/iov_iter.ts";
import { sys_mmap, sys_munmap } from "../../mm/mmap.ts";
import { user_load, user_store } from "../../mm/uaccess.ts";
import { assert, suite } from "../lib/suite.ts";
import { PAGE, boot } from "./lib/fake.ts";

const t = suite("mm/iov_iter");
const RW = PROT_READ | PROT_WRITE;

/** Lengths of segments and what is done to the iterator, in order. */
const script = fc.record({
  segs: fc.array(fc.nat(3000), { minLength: 1, maxLength: 6 }),
  ops: fc.array(
    fc.record({
      op: fc.constantFrom("copy", "phys", "advance", "revert", "zero", "atomic"),
      n: fc.nat(5000),
    }),
    { maxLength: 12 },
  ),
});

t("both kinds move the same bytes as one flat array, in either direction", async () => {
  await fc.assert(
    fc.asyncProperty(script, fc.boolean(), fc.boolean(), async ({ segs, ops }, user, source) => {
      const w = boot();
      const r = w.kernel.phys.add_region({ name: "p", kind: "pmem", size: 1 << 20 });
      await w.run(async (task) => {
        const total = segs.reduce((a, b) => a + b, 0);
        const m = await sys_mmap(task, 0, 1 << 16, RW, MAP_PRIVATE | MAP_ANONYMOUS, null, 0);
        // Segments lie apart by 100 bytes, across page borders.
        let at = m + 3000;
        const user_segs = segs.map((len) => {
          const s = { addr: at, len };
          at += len + 100;
          return s;
        });
        const bufs = segs.map((len) => new Uint8Array(len));
        const flat = new Uint8Array(total).map((_, i) => (source ? i * 31 + (i >> 8) : 0));
        for (let i = 0, pos = 0; i < segs.length; pos += segs[i++]!) {
          const part = flat.subarray(pos, pos + segs[i]!);
          bufs[i]!.set(part);
          await user_store(task, user_segs[i]!.addr, part);
        }
        const it = user
          ? new_iov_iter_user(w.kernel, source, user_segs)
          : new_iov_iter_bytes(w.kernel, source, bufs);
        let pos = 0;
        for (const { op, n } of ops) {
          const left = Math.min(n, total - pos);
          const data = new Uint8Array(n).map((_, i) => i * 7 + 3);
          if (op === "advance") {
            it.advance(left);
            pos += left;
          } else if (op === "revert") {
            const back = Math.min(n, pos);
            it.revert(back);
            pos -= back;
          } else if (source) {
            const got = new Uint8Array(n);
            let moved: number;
            if (op === "phys") {
              moved = await it.copy_iter_to_phys(r.start + 4090, n, n % 2 === 0);
              w.kernel.phys.copy_from(r.start + 4090, got, 0, n);
            } else if (op === "atomic") moved = it.copy_from_iter_atomic(got, 0, n);
            else moved = await it.copy_from_iter(got, 0, n);
            assert.is(moved, left);
            assert.equal(got.subarray(0, moved), flat.subarray(pos, pos + moved));
            pos += moved;
          } else {
            let moved: number;
            if (op === "phys") {
              w.kernel.phys.copy_to(r.start + 4090, data, 0, n);
              moved = await it.copy_phys_to_iter(r.start + 4090, n);
            } else if (op === "zero") {
              data.fill(0);
              moved = await it.zero_iter(n);
            } else moved = await it.copy_to_iter(data, 0, n);
            assert.is(moved, left);
            flat.set(data.subarray(0, moved), pos);
            pos += moved;
          }
          assert.is(it.count, total - pos);
        }
        for (let i = 0, p = 0; i < segs.length; p += segs[i++]!) {
          const want = flat.subarray(p, p + segs[i]!);
          const got = user ? new Uint8Array(segs[i]!) : bufs[i]!;
          if (user) await user_load(task, user_segs[i]!.addr, got);
          assert.equal(got, want);
        }
      });
    }),
    { numRuns: 120 },
  );
});

t("a truncated iterator gives no more, and the rest comes back with reexpand", async () => {
  const w = boot();
  const it = new_iov_iter_bytes(w.kernel, true, [
    new Uint8Array([1, 2, 3]),
    new Uint8Array([4, 5]),
  ]);
  const out = new Uint8Array(5);
  it.truncate(4);
  assert.is(it.copy_from_iter(out, 0, 5), 4);
  it.reexpand(1);
  assert.is(it.copy_from_iter(out, 4, 5), 1);
  assert.equal([...out], [1, 2, 3, 4, 5]);
});

t("alignment is the OR of addresses and lengths", async () => {
  const w = boot();
  await w.run(async () => {
    const a = new_iov_iter_user(w.kernel, false, [{ addr: 0x7f0000000200, len: 512 }]);
    assert.is(a.alignment() % 512, 0);
    const b = new_iov_iter_user(w.kernel, false, [{ addr: 0x7f0000000200, len: 513 }]);
    assert.is(b.alignment() % 512, 1);
  });
});

t(
  "a copy to memory that ends is short, and an atomic one stops where a fault would be",
  async () => {
    const w = boot();
    await w.run(async (task) => {
      const m = await sys_mmap(task, 0, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, null, 0);
      await sys_munmap(task, m + 2 * PAGE, PAGE);
      const data = new Uint8Array(3 * PAGE).fill(1);
      const it = new_iov_iter_user(w.kernel, false, [{ addr: m + 10, len: 3 * PAGE }]);
      assert.is(it.copy_to_iter_atomic(data, 0, data.length), 0, "nothing is present yet");
      assert.is(await it.copy_to_iter(data, 0, data.length), 2 * PAGE - 10);
      assert.is(it.count, PAGE + 10);
      it.revert(2 * PAGE - 10);
      assert.is(it.copy_to_iter_atomic(data, 0, data.length), 2 * PAGE - 10);
      it.revert(2 * PAGE - 10);
      assert.is(await it.fault_in_writeable(3 * PAGE), PAGE + 10);
      assert.is(await it.fault_in_readable(PAGE), 0);
    });
  },
);

t.run();

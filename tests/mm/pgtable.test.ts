import fc from "../lib/property.ts";
import { mm_alloc } from "../../mm/mm_init.ts";
import {
  PGD,
  _PAGE_ACCESSED,
  _PAGE_DIRTY,
  _PAGE_PRESENT,
  _PAGE_PSE,
  _PAGE_RW,
  free_pgtables,
  geometry,
  lookup_entry,
  mk_entry,
  pmd_alloc,
  pmd_index,
  pte_alloc,
  pte_clear_flags,
  pte_flags,
  pte_index,
  pte_modify,
  pte_offset,
  pte_pfn,
  pte_set,
  walk_page_range,
} from "../../mm/pgtable.ts";
import { TLB_ENTRIES, tlb } from "../../mm/tlb.ts";
import { assert, suite } from "../lib/suite.ts";
import { PAGE, PMD, boot } from "./lib/fake.ts";

const t = suite("mm/pgtable");

t("an entry keeps its frame and its flags, for frames beyond 32 bits too", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 2 ** 40 - 1 }),
      fc.nat(4095),
      fc.nat(4095),
      (pfn, a, b) => {
        const e = mk_entry(pfn, a);
        assert.equal([pte_pfn(e), pte_flags(e)], [pfn, a]);
        assert.equal([pte_pfn(pte_set(e, b)), pte_flags(pte_set(e, b))], [pfn, a | b]);
        assert.is(pte_flags(pte_clear_flags(e, b)), a & ~b);
        assert.is(pte_pfn(pte_modify(e, b)), pfn);
      },
    ),
  );
});

t("a change of protection leaves dirty, accessed and kind", () => {
  const e = mk_entry(7, _PAGE_PRESENT | _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED | _PAGE_PSE);
  const ro = pte_modify(e, _PAGE_PRESENT);
  assert.is(pte_flags(ro), _PAGE_PRESENT | _PAGE_DIRTY | _PAGE_ACCESSED | _PAGE_PSE);
});

/** Addresses near borders of every level. */
const address = fc
  .tuple(
    fc.constantFrom(0, 2 ** 21, 2 ** 30, 2 ** 39, 2 ** 47, 2 ** 52),
    fc.integer({ min: -1100, max: 1100 }),
  )
  .map(([base, pages]) => Math.max(0, base + pages * PAGE));

t("tables with any sequence of entries agree with a Map, and walks find exactly those", () => {
  const w = boot();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(address, fc.nat(2 ** 30), fc.nat(9))),
      address,
      address,
      (ops, a, b) => {
        const mm = mm_alloc(w.kernel);
        const g = geometry(mm);
        const model = new Map<number, number>();
        for (const [addr, pfn, kind] of ops) {
          if (kind === 0) {
            const base = Math.floor(addr / PMD) * PMD;
            const pmd = pmd_alloc(mm, g, base);
            const i = pmd_index(g, base);
            pmd.child[i] = null;
            pmd.leaf[i] = mk_entry(pfn, _PAGE_PRESENT | _PAGE_PSE);
            for (let p = 0; p < 512; p++) model.set(base + p * PAGE, pmd.leaf[i]!);
            continue;
          }
          const pmd = pmd_alloc(mm, g, addr);
          if (pmd.leaf[pmd_index(g, addr)] !== 0) continue;
          pte_alloc(mm, g, addr)[pte_index(g, addr)] = mk_entry(pfn, _PAGE_PRESENT);
          model.set(addr, mk_entry(pfn, _PAGE_PRESENT));
        }
        for (const [addr, e] of model) assert.is(lookup_entry(mm, addr).entry, e);
        const [from, to] = a < b ? [a, b] : [b, a];
        const seen = new Map<number, number>();
        let covered = from;
        walk_page_range(mm, from, to, {
          pte(table, first, last, addr) {
            assert.is(addr, covered);
            covered += (last - first) * PAGE;
            for (let i = first; i < last; i++, addr += PAGE)
              if (table[i]) seen.set(addr, table[i]!);
          },
          huge(leaf, i, _addr, _size, x, y) {
            assert.is(x, covered);
            covered = y;
            for (let p = x; p < y; p += PAGE) seen.set(p, leaf[i]!);
          },
          hole(x, y) {
            assert.is(x, covered);
            covered = y;
          },
        });
        assert.is(covered, from === to ? from : to, "the pieces add up to the range");
        const want = [...model].filter(([addr]) => addr >= from && addr < to);
        assert.equal(new Map([...seen].sort()), new Map(want.sort()));
      },
    ),
    { numRuns: 60 },
  );
});

t("freeing tables keeps those that reach into the neighbours", () => {
  const w = boot();
  const mm = mm_alloc(w.kernel);
  const g = geometry(mm);
  const base = 2 ** 40;
  for (let i = 0; i < 4; i++) pte_alloc(mm, g, base + i * PMD);
  free_pgtables(mm, base, base + 4 * PMD, base - 1, base + 3 * PMD + PAGE);
  assert.is(pte_offset(mm, g, base), null);
  assert.is(pte_offset(mm, g, base + 2 * PMD), null);
  assert.not(pte_offset(mm, g, base + 3 * PMD) === null);
  free_pgtables(mm, base, base + 4 * PMD, 0, Number.MAX_SAFE_INTEGER);
  assert.is(PGD(mm).size, 0);
});

t("flushing a range forgets exactly its pages", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(2000)), fc.nat(2000), fc.nat(600), (vpns, first, n) => {
      const c = new tlb();
      const last = new Map<number, number>();
      for (const v of vpns) {
        c.fill(v, v * PAGE, true);
        last.set(v % TLB_ENTRIES, v);
      }
      c.flush_range({ page_size: PAGE } as never, first * PAGE, (first + n) * PAGE);
      for (const [slot, v] of last) {
        assert.is(c.tag[slot] === v, !(v >= first && v < first + n));
      }
    }),
  );
});

t("a kernel of 16 or 64 KiB pages has tables of that size", () => {
  for (const page_shift of [14, 16] as const) {
    const w = boot({ page_shift });
    const mm = mm_alloc(w.kernel);
    const g = geometry(mm);
    assert.is(g.ptrs, 2 ** (page_shift - 3));
    pte_alloc(mm, g, 2 ** 45)[pte_index(g, 2 ** 45)] = mk_entry(5, _PAGE_PRESENT);
    assert.is(lookup_entry(mm, 2 ** 45).size, 2 ** page_shift);
    assert.is(pte_pfn(lookup_entry(mm, 2 ** 45).entry), 5);
  }
});

t.run();

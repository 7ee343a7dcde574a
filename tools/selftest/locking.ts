/**
 * tools/selftest/locking.ts - the lock validator's selftest: every cell of the kernel's own table.
 * Linux: lib/locking-selftest.c (6.1.192, SMP, with rt_mutexes, queued rwlocks and raw lock
 * nesting). The events of each cell and its verdict are the kernel's, the code is ours.
 *
 * Reading order: locking_groups below, locking/world.ts, then the cells.
 */
import {
  local_rows,
  mixed_rows,
  queued_rows,
  reclaim_rows,
  wait_columns,
  wait_rows,
} from "./locking/other_cells.ts";
import { irq_rows, plain_rows, rw_rows, triple_rows } from "./locking/order_cells.ts";
import type { locking_cell, locking_group, locking_row } from "./locking/table.ts";
import { run_cell } from "./locking/world.ts";
import { ww_pair_rows, ww_rows } from "./locking/ww_cells.ts";

export const locking_groups: readonly locking_group[] = [
  {
    title: "plain",
    columns: ["spin", "wlock", "rlock", "mutex", "wsem", "rsem", "rtmutex"],
    rows: plain_rows,
    read_recursive: true,
  },
  { title: "reader/writer", columns: ["rwlock", "rwsem"], rows: rw_rows, read_recursive: true },
  { title: "triples, six orders", columns: ["rwlock"], rows: triple_rows, read_recursive: true },
  {
    title: "interrupts: hard, soft, all orders",
    columns: ["spin", "wlock", "rlock"],
    rows: irq_rows,
    read_recursive: true,
  },
  { title: "wound/wait", columns: ["ww"], rows: ww_rows, read_recursive: true },
  {
    title: "wound/wait: second by",
    columns: ["block", "try", "context"],
    rows: ww_pair_rows,
    read_recursive: true,
  },
  { title: "queued rwlock", columns: [""], rows: queued_rows, read_recursive: false },
  { title: "reclaim", columns: [""], rows: reclaim_rows, read_recursive: false },
  {
    title: "wait types: inner in outer",
    columns: wait_columns,
    rows: wait_rows,
    read_recursive: false,
  },
  { title: "local lock", columns: [""], rows: local_rows, read_recursive: false },
  { title: "mixed", columns: [""], rows: mixed_rows, read_recursive: false },
];

export interface locking_cell_result {
  readonly group: string;
  readonly row: string;
  readonly column: string;
  readonly variant: string;
  readonly expect: "report" | "silent";
  readonly got: "report" | "silent" | "error";
  /** What was reported or went wrong, "" if silent. */
  readonly what: string;
}

export interface locking_selftest_result {
  readonly cells: readonly locking_cell_result[];
  readonly passed: number;
  readonly reported: number;
}

function run_one(
  g: locking_group,
  row: locking_row,
  column: string,
  c: locking_cell,
): locking_cell_result {
  const { report, error } = run_cell(c.body, g.read_recursive);
  const { variant, expect } = c;
  const got = error !== "" ? "error" : report === null ? "silent" : "report";
  const what = error !== "" ? error : report === null ? "" : report.bug;
  return { group: g.title, row: row.name, column, variant, expect, got, what };
}

/** Runs the cells whose "group / row" `want` accepts. */
export function run_locking_selftest(
  want: (name: string) => boolean = () => true,
): locking_selftest_result {
  const cells: locking_cell_result[] = [];
  for (const g of locking_groups) {
    for (const row of g.rows) {
      if (!want(`${g.title} / ${row.name}`)) continue;
      for (const column of g.columns) {
        for (const c of row.cells[column] ?? []) cells.push(run_one(g, row, column, c));
      }
    }
  }
  return {
    cells,
    passed: cells.filter((c) => c.got === c.expect).length,
    reported: cells.filter((c) => c.got === "report").length,
  };
}

const SIGNS = Object.freeze({ report: "!", silent: ".", error: "E" });

function signs(cells: readonly locking_cell_result[]): string {
  const all = cells.map((c) => (c.got === c.expect ? SIGNS[c.got] : "X"));
  const width = all.length === 24 || all.length === 12 ? 6 : all.length;
  let out = "";
  for (let i = 0; i < all.length; i += width) {
    out += `${i > 0 ? " " : ""}${all.slice(i, i + width).join("")}`;
  }
  return out;
}

function group_lines(g: locking_group, cells: readonly locking_cell_result[]): string[] {
  const mine = cells.filter((c) => c.group === g.title);
  if (mine.length === 0) return [];
  const rows = g.rows.filter((r) => mine.some((c) => c.row === r.name));
  const of = (row: string, column: string): string =>
    signs(mine.filter((c) => c.row === row && c.column === column));
  const widths = g.columns.map((col) =>
    Math.max(col.length, ...rows.map((r) => of(r.name, col).length)),
  );
  const line = (name: string, parts: readonly string[]): string =>
    `${name.padEnd(40)}${parts.map((p, i) => p.padEnd(widths[i]! + 2)).join("")}`.trimEnd();
  const reported = mine.filter((c) => c.expect === "report").length;
  return [
    line(g.title, g.columns),
    ...rows.map((r) =>
      line(
        `  ${r.name}`,
        g.columns.map((col) => of(r.name, col)),
      ),
    ),
    `  ${mine.length} cells: ${reported} reported, ${mine.length - reported} silent`,
    "",
  ];
}

/** "!" reported, "." silent, "X" otherwise than the kernel; the last line is the total. */
export function format_locking_selftest(r: locking_selftest_result): string {
  const out = ["! reported, . silent, X otherwise than the kernel", ""];
  for (const g of locking_groups) out.push(...group_lines(g, r.cells));
  for (const c of r.cells) {
    if (c.got === c.expect) continue;
    const name = [c.group, c.row, c.column, c.variant].filter((s) => s !== "").join(" / ");
    out.push(`otherwise: ${name}: ${c.got}${c.what === "" ? "" : ` (${c.what})`}, not ${c.expect}`);
  }
  const total = r.cells.length;
  out.push(`${total} cells: ${r.reported} reported, ${total - r.reported} silent`);
  out.push(`locking: ${r.passed} of ${total} as the kernel`);
  return out.join("\n");
}

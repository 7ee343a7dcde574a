/**
 * tools/cli/locks_draw.ts - the lock order as text, DOT and SVG. Only steps that other steps do not
 * imply are drawn.
 */
import {
  known_after,
  known_classes,
  order_skeleton,
  type order_rule,
  recursive_classes,
  same_class_rules,
  unseen_classes,
} from "../../kernel/locking/order.ts";

/** Each class with its depth: 0 for those that nothing is taken around. */
export function order_ranks(): ReadonlyMap<string, number> {
  const rules = order_skeleton().filter((r) => !recursive_classes.includes(r.outer));
  const ranks = new Map(known_classes().map((c) => [c, 0]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const r of rules) {
      const rank = ranks.get(r.outer)! + 1;
      if (rank <= ranks.get(r.inner)!) continue;
      ranks.set(r.inner, rank);
      changed = true;
    }
  }
  return ranks;
}

function rows(): string[][] {
  const out: string[][] = [];
  for (const [name, rank] of order_ranks()) (out[rank] ??= []).push(name);
  return out;
}

function note(name: string): string {
  if (unseen_classes.includes(name)) return "  (not shown to Linux's validator)";
  return recursive_classes.includes(name) ? "  (its readers nest)" : "";
}

export function order_text(): string {
  const rules = order_skeleton();
  const out = [
    "Lock order, outermost first: what stands after > may be taken while the lock is held,",
    "and so may all that follows from it.",
    "",
  ];
  const width = Math.max(...known_classes().map((c) => c.length)) + 2;
  for (const row of rows()) {
    for (const name of row) {
      out.push(`${name}${note(name)}`);
      for (const r of rules.filter((x) => x.outer === name)) {
        out.push(`    > ${r.inner.padEnd(width)}${r.why}`);
      }
    }
  }
  out.push("", "Two locks of one class:");
  for (const r of same_class_rules) out.push(`    ${r.outer.padEnd(width + 2)}${r.why}`);
  return out.join("\n");
}

export function order_json(): unknown {
  return {
    classes: known_classes().map((name) => ({
      name,
      rank: order_ranks().get(name)!,
      unseen: unseen_classes.includes(name),
      inside: [...known_after(name)!.keys()],
    })),
    rules: order_skeleton(),
    same_class: same_class_rules,
  };
}

export function order_dot(): string {
  const quote = (s: string): string => `"${s.replaceAll('"', '\\"')}"`;
  const out = ["digraph lock_order {", "  rankdir=TB;", "  node [shape=box, fontsize=11];"];
  for (const name of unseen_classes) out.push(`  ${quote(name)} [style=dashed];`);
  for (const row of rows()) out.push(`  { rank=same; ${row.map(quote).join("; ")}; }`);
  for (const r of order_skeleton()) {
    out.push(`  ${quote(r.outer)} -> ${quote(r.inner)} [tooltip=${quote(r.why)}];`);
  }
  out.push("}");
  return out.join("\n");
}

// ------------------------------------------------------------------ SVG

interface box {
  name: string;
  x: number;
  y: number;
  w: number;
}

const CHAR = 7.3;
const ROW = 72;
const BOX_H = 26;
const GAP = 22;

/** Rows of boxes; within a row near those above that lead here. */
function layout(): { boxes: Map<string, box>; width: number; height: number } {
  const boxes = new Map<string, box>();
  const rules = order_skeleton();
  const all = rows();
  let width = 0;
  for (const [y, row] of all.entries()) {
    const pull = (name: string): number => {
      const above = rules.filter((r) => r.inner === name && boxes.has(r.outer));
      if (above.length === 0) return 0;
      const sum = above.reduce((s, r) => s + boxes.get(r.outer)!.x, 0);
      return sum / above.length;
    };
    const placed = row.map((name) => ({ name, at: pull(name) })).sort((a, b) => a.at - b.at);
    let x = GAP;
    for (const { name } of placed) {
      const w = name.length * CHAR + 16;
      boxes.set(name, { name, x: x + w / 2, y: GAP + y * ROW + BOX_H / 2, w });
      x += w + GAP;
    }
    width = Math.max(width, x);
  }
  center(all, boxes, width);
  return { boxes, width, height: all.length * ROW + GAP };
}

function center(all: string[][], boxes: Map<string, box>, width: number): void {
  for (const row of all) {
    const right = Math.max(...row.map((n) => boxes.get(n)!.x + boxes.get(n)!.w / 2));
    const shift = (width - right - GAP) / 2;
    for (const n of row) boxes.get(n)!.x += shift;
  }
}

function escape(s: string): string {
  return s.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function arrow(r: order_rule, boxes: ReadonlyMap<string, box>): string {
  const a = boxes.get(r.outer)!;
  const b = boxes.get(r.inner)!;
  const down = b.y > a.y ? 1 : -1;
  const y1 = a.y + (down * BOX_H) / 2;
  const y2 = b.y - (down * BOX_H) / 2;
  const bend = (y2 - y1) / 2;
  const n = (v: number): string => v.toFixed(1);
  const by_way_of = `${n(a.x)},${n(y1 + bend)} ${n(b.x)},${n(y2 - bend)}`;
  const d = `M${n(a.x)},${n(y1)} C${by_way_of} ${n(b.x)},${n(y2)}`;
  const title = escape(`${r.outer} > ${r.inner}: ${r.why}`);
  return `<path d="${d}" marker-end="url(#end)"><title>${title}</title></path>`;
}

export function order_svg(): string {
  const { boxes, width, height } = layout();
  const w = Math.ceil(width);
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${height}" ` +
      `width="${w}" height="${height}">`,
    "<title>Lock order: an arrow leads from the outer to the inner lock</title>",
    "<style>text{font:12px monospace;text-anchor:middle;dominant-baseline:central}",
    "rect{fill:#fff;stroke:#333}rect.unseen{stroke-dasharray:4}",
    "path{fill:none;stroke:#888}path:hover{stroke:#c00;stroke-width:2}</style>",
    '<marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7"' +
      ' orient="auto"><path d="M0,0 L8,4 L0,8 z" style="fill:#888"/></marker>',
    ...order_skeleton().map((r) => arrow(r, boxes)),
  ];
  for (const b of boxes.values()) {
    const unseen = unseen_classes.includes(b.name) ? ' class="unseen"' : "";
    const x = (b.x - b.w / 2).toFixed(1);
    const y = (b.y - BOX_H / 2).toFixed(1);
    out.push(
      `<g><rect x="${x}" y="${y}" width="${b.w.toFixed(1)}" height="${BOX_H}" rx="4"${unseen}/>` +
        `<text x="${b.x.toFixed(1)}" y="${b.y.toFixed(1)}">${escape(b.name)}</text></g>`,
    );
  }
  out.push("</svg>");
  return out.join("\n");
}

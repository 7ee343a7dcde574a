/**
 * kernel/lib/xarray/dump.ts - the tree as text, one line per node and entry.
 * Linux: lib/xarray.c (xa_dump). Differs: returns the text; nodes have no addresses; runs of
 * siblings are one line.
 */
import { node_get_marks } from "./marks.ts";
import { xa_is_node, xa_marked, xa_slot } from "./node.ts";
import type { xa_node, xarray } from "./node.ts";
import { XA_MAX_MARKS, xa_is_retry, xa_is_sibling, xa_is_value, xa_is_zero } from "./value.ts";
import type { xa_entry } from "./value.ts";

function marks_text(bits: number): string {
  let text = "";
  for (let mark = 0; mark < XA_MAX_MARKS; mark++) if (bits & (1 << mark)) text += ` mark${mark}`;
  return text;
}

function entry_text(entry: xa_entry): string {
  if (xa_is_value(entry)) return `value ${entry} (0x${entry.toString(16)})`;
  if (xa_is_zero(entry)) return "zero";
  if (xa_is_retry(entry)) return "retry";
  return typeof entry === "number" ? `internal ${entry}` : "pointer";
}

function dump_node(lines: string[], node: xa_node, base: number, depth: number): void {
  const span = 2 ** node.shift;
  const pad = "  ".repeat(depth);
  const where = node.parent === null ? "root" : `slot ${node.offset}`;
  const counts = `count ${node.count} values ${node.nr_values}`;
  lines.push(`${pad}node ${where} shift ${node.shift} ${counts}`);
  for (let at = 0; at <= node.mask; at++) {
    const entry = xa_slot(node, at);
    if (entry === null || xa_is_sibling(entry)) continue;
    const first = base + at * span;
    if (node.shift !== 0 && xa_is_node(entry)) {
      dump_node(lines, entry, first, depth + 1);
      continue;
    }
    let end = at + 1;
    while (end <= node.mask && xa_is_sibling(xa_slot(node, end))) end++;
    const last = base + end * span - 1;
    const range = first === last ? `${first}` : `${first}-${last}`;
    lines.push(`${pad}  ${range}: ${entry_text(entry)}${marks_text(node_get_marks(node, at))}`);
  }
}

/** Indices above 2^53 are printed rounded. */
export function xa_dump(xa: xarray): string {
  let bits = 0;
  for (let mark = 0; mark < XA_MAX_MARKS; mark++) if (xa_marked(xa, mark)) bits |= 1 << mark;
  const flags = (xa.xa_flags & 0xffff).toString(16);
  const empty = xa.xa_head === null ? " empty" : "";
  const lines = [`xarray flags 0x${flags}${marks_text(bits)}${empty}`];
  if (xa_is_node(xa.xa_head)) dump_node(lines, xa.xa_head, 0, 1);
  else if (xa.xa_head !== null) lines.push(`  0: ${entry_text(xa.xa_head)}`);
  return lines.join("\n");
}

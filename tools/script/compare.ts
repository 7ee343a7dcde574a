/**
 * tools/script/compare.ts - does an output say the same as a recorded one?
 * Optional parts (`{...}` and whole `?` lines) are left out, as the language allows, unless
 * `strict`.
 */
export interface compare_options {
  strict?: boolean;
  trace?: boolean;
  log?: boolean;
}

interface norm_line {
  key: string;
  text: string;
}

/** Reduces an output to the lines that count. */
export function normalise(text: string, o: compare_options = {}): norm_line[] {
  const out: norm_line[] = [];
  const klog = new Set<string>();
  for (const line of text.split(/\r?\n/)) {
    if (line === "") continue;
    const m = /^(\d+)([:|~!?]) ?(.*)$/.exec(line);
    if (!m) {
      out.push({ key: "setup", text: line });
      continue;
    }
    const n = m[1]!;
    const mark = m[2]!;
    let body = m[3]!;
    if (mark === "?" && !o.strict) continue;
    if (mark === "~" && o.trace === false) continue;
    if (mark === ":" && o.log === false && /^(p\d:)?klog = /.test(body)) {
      klog.add(n);
      body = body.replace(/= .*/, "=");
    }
    if (mark === "|" && klog.has(n)) continue;
    if (!o.strict) body = body.replace(/ ?\{[^}]*\}/g, "");
    out.push({ key: `${n}${mark}`, text: `${n}${mark} ${body.trimEnd()}` });
  }
  return out;
}

/** Lines of a longest-common-subsequence difference: `- recorded`, `+ ours`. */
export function difference(expected: string, actual: string, o: compare_options = {}): string[] {
  const a = normalise(expected, o).map((l) => l.text);
  const b = normalise(actual, o).map((l) => l.text);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let ea = a.length;
  let eb = b.length;
  while (ea > start && eb > start && a[ea - 1] === b[eb - 1]) {
    ea--;
    eb--;
  }
  const x = a.slice(start, ea);
  const y = b.slice(start, eb);
  if (x.length * y.length > 4e6) return [...x.map((l) => `- ${l}`), ...y.map((l) => `+ ${l}`)];
  return walk_table(x, y);
}

function walk_table(x: string[], y: string[]): string[] {
  const width = y.length + 1;
  const t = new Uint32Array((x.length + 1) * width);
  for (let i = x.length - 1; i >= 0; i--) {
    for (let j = y.length - 1; j >= 0; j--) {
      const at = i * width + j;
      t[at] = x[i] === y[j] ? t[at + width + 1]! + 1 : Math.max(t[at + width]!, t[at + 1]!);
    }
  }
  const out: string[] = [];
  let i = 0;
  let j = 0;
  while (i < x.length || j < y.length) {
    const at = i * width + j;
    if (i < x.length && j < y.length && x[i] === y[j]) {
      i++;
      j++;
    } else if (i < x.length && (j >= y.length || t[at + width]! >= t[at + 1]!)) {
      out.push(`- ${x[i++]}`);
    } else {
      out.push(`+ ${y[j++]}`);
    }
  }
  return out;
}

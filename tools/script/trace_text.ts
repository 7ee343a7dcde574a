/**
 * tools/script/trace_text.ts - an event of the fs_dax trace group as a `.sys` output shows it.
 * Works on the ftrace text of the event: device, inode, frame and vma numbers are left out,
 * addresses become `mapping+offset`.
 */
const DROP = new Set(["dev", "ino", "pfn", "zero_page", "vm_start", "vm_end"]);
const NUMBERED = new Set(["pgoff", "max_pgoff", "length", "pglen"]);

function entry_kind(value: string): string {
  const e = Number(value);
  if (e % 2 !== 1) return "";
  const bits = Math.floor(e / 2);
  const kinds: string[] = [];
  if (bits & 2) kinds.push("PMD");
  if (bits & 4) kinds.push("ZERO");
  if (bits & 8) kinds.push("EMPTY");
  return ` entry=${kinds.length > 0 ? kinds.join("|") : "PTE"}`;
}

/** `text` is `name: field value ...`; `at` names an address. */
export function trace_line(text: string, at: (address: number) => string): string {
  const words = text.split(" ").filter((w) => w !== "");
  const name = words[0]!.replace(/:$/, "");
  let out = name;
  for (let i = 1; i < words.length; i++) {
    const w = words[i]!;
    if (DROP.has(w)) i++;
    else if (w === "radix_entry") out += entry_kind(words[++i]!);
    else if (w === "address") out += ` at=${at(Number(words[++i]))}`;
    else if (NUMBERED.has(w)) {
      i++;
      // The index where the walk stopped says nothing about the file.
      if (!name.endsWith("writeback_range_done")) out += ` ${w}=${words[i]}`;
    } else out += ` ${w.replace(/\|0x800$/, "|ORIG_PTE_VALID")}`;
  }
  return out;
}

/** Equal neighbours are counted: `event x3`. */
export function fold_repeats(lines: readonly string[]): string[] {
  const out: string[] = [];
  for (let i = 0; i < lines.length; ) {
    let n = 1;
    while (i + n < lines.length && lines[i + n] === lines[i]) n++;
    out.push(n > 1 ? `${lines[i]} x${n}` : lines[i]!);
    i += n;
  }
  return out;
}

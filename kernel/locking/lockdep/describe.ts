/**
 * kernel/locking/lockdep/describe.ts - a lockdep report as the text of a kernel splat: what is
 * wrong, which lock, the order seen before, how it can hang, what the task holds.
 */
import type { lock_use } from "../report.ts";
import type { lockdep_report, order_step } from "./report.ts";

function name(u: lock_use): string {
  const which = u.label === "" ? u.lock : `${u.lock} of ${u.label}`;
  return u.mode === "exclusive" ? which : `${which} (${u.mode})`;
}

function at(site: string | null, indent: string): string[] {
  return site === null || site === "" ? [] : [`${indent}at ${site}`];
}

function lock_lines(u: lock_use): string[] {
  return [`    ${name(u)}`, ...at(u.site, "        ")];
}

function step_lines(s: order_step): string[] {
  const seen = s.by === "" ? "" : `, first by ${s.by}${s.modes === "" ? "" : ` (${s.modes})`}`;
  const why = s.why === "" ? "" : `, by the lock order: ${s.why}`;
  return [`    ${s.outer} -> ${s.inner}${seen}${why}`, ...at(s.site, "        ")];
}

function who(r: lockdep_report): string {
  const call = r.syscall === "" ? "" : ` in ${r.syscall}()`;
  return `${r.comm} (pid ${r.pid})${call}`;
}

function circle_lines(r: lockdep_report): string[] {
  const [fresh, ...before] = r.steps;
  const out = ["", "new step:", `    ${fresh!.outer} -> ${fresh!.inner}`];
  out.push("", "but the other way round is known:", ...before.flatMap(step_lines));
  out.push("", "it hangs when at the same time");
  r.steps.forEach((s, i) => {
    out.push(`    task ${i + 1} holds ${s.outer} and wants ${s.inner}`);
  });
  return out;
}

export function describe_lockdep(r: lockdep_report): string {
  const title = `WARNING: lockdep: ${r.title}`;
  const line = "=".repeat(title.length);
  const out = [line, title, line.replaceAll("=", "-")];
  if (r.lock === null) out.push(who(r));
  else out.push(`${who(r)} ${r.verb}`, ...lock_lines(r.lock));
  if (r.other !== null) out.push("while it holds", ...lock_lines(r.other));
  out.push(...r.notes.map((n) => `  ${n}`));
  if (r.bug === "circular") out.push(...circle_lines(r));
  else if (r.steps.length > 0) out.push("", "by this chain:", ...r.steps.flatMap(step_lines));
  out.push("");
  const n = r.holds.length;
  if (n === 0) out.push(`${r.comm} (pid ${r.pid}) holds no lock`);
  else out.push(`${r.comm} (pid ${r.pid}) holds, oldest first:`, ...r.holds.flatMap(lock_lines));
  return out.join("\n");
}

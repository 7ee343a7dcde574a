/**
 * kernel/locking/describe.ts - a deadlock or hang told so that a kernel developer sees at once what
 * happened.
 */
import type { deadlock_report, lock_use, task_report } from "./report.ts";

const COUNT = Object.freeze(["no", "one", "two", "three", "four", "five", "six"]);

function which(u: lock_use): string {
  return u.label === "" ? u.lock : `${u.lock} of ${u.label}`;
}

function mode(u: lock_use): string {
  if (u.mode === "read") return " (read)";
  return u.mode === "write" ? " (write)" : "";
}

function who(t: task_report): string {
  return `${t.comm} (pid ${t.pid})`;
}

function site_line(u: lock_use, indent: string): string[] {
  return u.site === null || u.site === "" ? [] : [`${indent}at ${u.site}`];
}

/** One task: what it holds, what it waits for, who stands in the way. */
function task_lines(t: task_report, by_pid: ReadonlyMap<number, task_report>): string[] {
  const out = [`${who(t)}${t.syscall === "" ? "" : ` in ${t.syscall}()`}`];
  for (const h of t.holds) {
    out.push(`    holds      ${which(h)}${mode(h)}`, ...site_line(h, "               "));
  }
  if (t.waits === null) {
    out.push(t.holds.length > 0 ? "    and is not in the kernel" : "    is not in the kernel");
    return out;
  }
  const verb = t.waits.mode === "event" ? "waits for " : "wants     ";
  out.push(
    `    ${verb} ${which(t.waits)}${mode(t.waits)}`,
    ...site_line(t.waits, "               "),
  );
  const names = t.blocked_by.map((pid) => {
    const b = by_pid.get(pid);
    return pid === t.pid ? "itself" : b === undefined ? `pid ${pid}` : who(b);
  });
  if (names.length > 0) out.push(`    blocked by ${names.join(", ")}`);
  else out.push("    and nobody is known who would wake it");
  return out;
}

/** "a -> &x -> b -> &y -> a" */
function chain(r: deadlock_report, by_pid: ReadonlyMap<number, task_report>): string {
  const parts: string[] = [];
  for (const pid of r.cycle) {
    const t = by_pid.get(pid)!;
    parts.push(t.comm, t.waits === null ? "?" : which(t.waits));
  }
  parts.push(by_pid.get(r.cycle[0]!)!.comm);
  return parts.join(" -> ");
}

function headline(r: deadlock_report): string {
  const n = r.cycle.length;
  if (r.kind === "hang") {
    const asleep = r.tasks.filter((t) => t.waits !== null).length;
    const tasks = asleep === 1 ? "one task sleeps" : `${COUNT[asleep] ?? asleep} tasks sleep`;
    return `HANG: ${tasks} and nothing is left that could wake ${asleep === 1 ? "it" : "them"}`;
  }
  if (n === 1) return "DEADLOCK: a task waits for itself";
  return `DEADLOCK: ${COUNT[n] ?? n} tasks wait for each other`;
}

/** The whole report as text, without a final newline. */
export function describe_deadlock(r: deadlock_report): string {
  const by_pid = new Map(r.tasks.map((t) => [t.pid, t]));
  const out = [headline(r)];
  if (r.cycle.length > 0) out.push(`  ${chain(r, by_pid)}`);
  const core = r.kind === "hang" ? r.tasks : r.tasks.slice(0, r.cycle.length);
  for (const t of core) out.push("", ...task_lines(t, by_pid).map((l) => `  ${l}`));
  const rest = r.tasks.slice(core.length);
  if (rest.length > 0) {
    out.push("", "Stuck behind them:");
    for (const t of rest) out.push(...task_lines(t, by_pid).map((l) => `  ${l}`));
  }
  return out.join("\n");
}

/**
 * kernel/locking/site.ts - where in the source a lock was taken, when a run is repeated for its
 * report.
 *
 * A captured stack costs 5-20 us, so this runs only with machine.stacks. Frames of the lock and
 * scheduler code itself and of the runtime say nothing and are left out.
 */
const OWN_FRAME =
  /kernel[\\/](locking|sched)[\\/]|node:|node_modules|<anonymous>|Promise\.|new Promise/;
const PLACE = /(?:\(|at (?:async )?)(?:[a-z]+:\/\/)?([^()\s]+?):(\d+):\d+\)?$/;
const NAME = /at (?:async )?(?:new )?([\w.$<>[\] ]+?) \(/;
const FRAMES_MAX = 6;
/** Lockdep and the lock itself take up to ten. */
const DEPTH_MAX = 24;

function frame(line: string): string | null {
  const place = PLACE.exec(line);
  if (place === null) return null;
  const file = place[1]!.replace(/\\/g, "/");
  const root = /(?:^|\/)((?:kernel|mm|drivers|fs|tools|tests)\/.*)$/.exec(file);
  const short = root ? root[1]! : file.slice(file.lastIndexOf("/") + 1);
  const name = NAME.exec(line);
  const where = `${short}:${place[2]}`;
  if (name === null) return where;
  // A task's body is called as a method of the task, which says nothing.
  const called = name[1]!.replace(/ \[as \w+\]$/, "").replace(/^(Object|task_struct)\./, "");
  return `${called} (${where})`;
}

/** "inode_lock (fs/open.ts:12) < do_truncate (fs/open.ts:60) < ...", innermost first. */
export function call_site(): string {
  const host = Error as { stackTraceLimit?: number };
  const limit = host.stackTraceLimit ?? 10;
  host.stackTraceLimit = DEPTH_MAX;
  const stack = new Error("site").stack ?? "";
  host.stackTraceLimit = limit;
  const lines = stack.split("\n").slice(1);
  const out: string[] = [];
  for (const line of lines) {
    if (OWN_FRAME.test(line)) continue;
    const text = frame(line);
    if (text !== null) out.push(text);
    if (out.length === FRAMES_MAX) break;
  }
  return out.join(" < ");
}

/**
 * tools/script/run.ts - runs a `.sys` script on an emulated machine and prints what a real one
 * would.
 *
 * Reading order: run_script -> run_line -> perform (one operation) -> render.
 * An operation started with `&` goes on while later lines run; `await` asks whether it has ended
 * once nothing in the machine can go on by itself.
 */
import { is_not_implemented } from "../../kernel/assert.ts";
import { SIGBUS, SIGPIPE, SIGSEGV, SIGTERM, SIGUSR1, SIGXFSZ } from "../../kernel/signal.ts";
import { event_text } from "../../kernel/trace.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import { boot_lab, type booted_lab, type lab_options } from "../api/lab.ts";
import type { Machine } from "../api/machine.ts";
import type { Process } from "../api/process.ts";
import { op_context, script_process, type operation, type script_run } from "./context.ts";
import { admin_ops } from "./ops_admin.ts";
import { file_ops } from "./ops_file.ts";
import { layout_ops } from "./ops_layout.ts";
import { memory_ops } from "./ops_memory.ts";
import { parse_script, type sys_line, type sys_script } from "./parse.ts";
import { fold_repeats, trace_line } from "./trace_text.ts";
import { BadArgument, eval_number, NoHandle } from "./values.ts";

export interface script_options extends lab_options {
  /** Print the trace of every operation, also outside `trace on`. */
  trace_all?: boolean;
  /** Called with each line of output as it is made. */
  on_line?: (line: string) => void;
  /** Called with the machine before the first operation. */
  on_boot?: (m: Machine) => void;
}

export interface script_result {
  output: string;
  /** The first `notImplemented()` met, or null. */
  unsupported: string | null;
  machine: Machine;
  /** What the script cannot have meant: the cause of each BADOP, names that nothing has. */
  complaints: readonly script_complaint[];
}

interface script_complaint {
  line: number;
  text: string;
}

const OPERATIONS: Readonly<Record<string, operation>> = Object.freeze({
  ...file_ops,
  ...layout_ops,
  ...memory_ops,
  ...admin_ops,
});

/** One operation that has been started: its output once it is done. */
interface pending_op {
  line: sys_line;
  result: string[] | null;
  /** It has ended, with a result or with a bug of ours. */
  over: boolean;
  /** Never rejects. */
  promise: Promise<void>;
}

/** Time passes between operations, as it does where they are recorded: a tick of the clock. */
const OPERATION_MS = 4;
/** Turns of the microtask queue that an operation gets before anybody asks whether it is stuck. */
const GRACE = 256;

/** The recorder had handlers for these and ignored SIGPIPE; children inherit that. */
function take_signals_as_recorded(p: Process): void {
  const s = p.task.signal;
  if (s === null) return;
  for (const signo of [SIGBUS, SIGSEGV, SIGXFSZ, SIGUSR1, SIGTERM]) s.handled.add(signo);
  s.ignored.add(SIGPIPE);
}

function names_given(script: sys_script): Set<string> {
  const of = ({ assign, argv }: sys_line): string[] => {
    const made = argv[0] === "pipe" ? argv.slice(1) : [];
    return assign === null ? made : [assign, ...made];
  };
  return new Set(script.lines.flatMap(of));
}

class runner implements script_run {
  readonly lab: Machine;
  klog_seen: number;
  private tracing = false;
  private stop_listening: (() => void) | null = null;
  readonly procs = new Map<number, script_process>();
  readonly pending = new Map<number, pending_op>();
  readonly out: string[] = [];
  readonly opts: script_options;
  unsupported: string | null = null;
  readonly complaints: script_complaint[] = [];
  /** Names that some line gives: one that never came to be is an answer, any other a mistake. */
  private readonly given: ReadonlySet<string>;
  private bug: { error: unknown } | null = null;
  events: string[] = [];

  constructor(booted: booted_lab, opts: script_options, script: sys_script) {
    this.given = names_given(script);
    this.lab = booted.machine;
    this.opts = opts;
    this.klog_seen = this.lab.kernel.dmesg().length;
    this.procs.set(1, new script_process(booted.process));
    take_signals_as_recorded(booted.process);
    if (opts.trace_all) this.listen(true);
  }

  /** Tracepoints cost nothing while nobody listens. */
  listen(on: boolean): void {
    this.stop_listening?.();
    this.stop_listening = on
      ? this.lab.kernel.trace.subscribe(
          (e) => this.events.push(`${e.name} ${event_text(e)}`),
          ["fs_dax"],
        )
      : null;
  }
  set trace_on(on: boolean) {
    this.tracing = on;
    if (!this.opts.trace_all) this.listen(on);
  }
  get trace_on(): boolean {
    return this.tracing;
  }

  print(text: string): void {
    this.out.push(text);
    this.opts.on_line?.(text);
  }

  async run_line(l: sys_line): Promise<void> {
    const op = l.argv[0]!;
    if (op === "kill") return this.do_kill(l);
    if (op === "await") return this.do_await(l);
    const pre = l.proc > 1 ? `p${l.proc}:` : "";
    const names = this.procs.get(l.proc);
    if (!names) return this.print(`${l.line}: ${pre}${op} = NOPROC`);
    if (this.pending.has(l.proc)) return this.print(`${l.line}: ${pre}${op} = BUSY`);
    if (op === "exit") return this.do_exit(l, names, pre);
    if (this.pending.size === 0) await this.lab.advance_ms(OPERATION_MS);
    if (!l.background) {
      const p = this.begin(l, names, pre);
      if (!(await this.answers(p, names))) return this.print(`${l.line}: ${pre}${op} = HANG`);
      this.pending.delete(l.proc);
      for (const t of p.result!) this.print(t);
      return;
    }
    this.begin(l, names, pre);
    this.print(`${l.line}: ${pre}${op} = started`);
  }

  begin(l: sys_line, names: script_process, pre: string): pending_op {
    const p: pending_op = { line: l, result: null, over: false, promise: Promise.resolve() };
    this.pending.set(l.proc, p);
    const run = async (): Promise<void> => {
      try {
        p.result = await this.perform(l, names, pre);
      } catch (e) {
        this.bug ??= { error: e };
      } finally {
        p.over = true;
      }
    };
    p.promise = run();
    return p;
  }

  /** What no script can cause, met by any operation, also one in the background. */
  throw_bug(): void {
    if (this.bug !== null) throw this.bug.error;
  }

  /** Waits for an operation; false when nothing in the machine can go on and it has not ended. */
  async answers(p: pending_op, names: script_process): Promise<boolean> {
    const stuck = async (): Promise<void> => {
      // most operations end at once: the machine need not be asked about them
      for (let i = 0; i < GRACE && !p.over; i++) await undefined;
      while (!p.over) {
        await this.lab.settle();
        if (this.lab.sched.stuck(names.process.task)) return;
      }
    };
    await Promise.race([p.promise, stuck()]);
    this.throw_bug();
    return p.result !== null;
  }

  /** Runs one operation to its end and gives the lines it prints. */
  async perform(l: sys_line, names: script_process, pre: string): Promise<string[]> {
    const traced = this.trace_on;
    this.events = [];
    let x = new op_context(this, names, l.argv, l.assign, l.line);
    if (l.argv[0] === "repeat") x = await this.repeat(x);
    else await this.attempt(x);
    if ((traced || this.opts.trace_all) && l.argv[0] !== "trace") {
      const lines = this.events.map((t) => trace_line(t, (a) => names.address_name(a)));
      for (const t of fold_repeats(lines)) x.details.push({ mark: "~", text: t });
    }
    for (const s of names.process.take_signals()) {
      x.details.push({ mark: "!", text: this.signal_text(s, names) });
    }
    const killed = names.process.killed_by();
    if (killed !== null) {
      this.procs.delete(l.proc);
      return [`${l.line}: ${pre}${l.argv[0]} = KILLED ${killed}`];
    }
    const head = `${l.line}: ${pre}${l.argv[0]} = ${x.head}`;
    return [head, ...x.details.map((d) => `${l.line}${d.mark} ${d.text}`)];
  }

  /** Carries the operation out; its failures become its result. */
  async attempt(x: op_context): Promise<void> {
    const op = x.argv[0]!;
    try {
      if (op === "fork") await this.do_fork(x);
      else {
        const fn = Object.hasOwn(OPERATIONS, op) ? OPERATIONS[op] : undefined;
        if (!fn) throw new BadArgument(`unknown operation '${op}'`);
        await fn(x);
      }
    } catch (e) {
      x.head = this.failure(e, x);
      if (e instanceof BadArgument || e instanceof NoHandle) x.details.length = 0;
    }
  }

  complain(line: number, text: string): void {
    if (!this.complaints.some((c) => c.line === line)) this.complaints.push({ line, text });
  }

  failure(e: unknown, x: op_context): string {
    const about = `${x.argv[0]}: `;
    if (e instanceof BadArgument) {
      const what = e.message.includes(" ") ? e.message : `"${e.message}" is not understood here`;
      this.complain(x.line, about + what);
    }
    if (e instanceof NoHandle && !this.given.has(e.message)) {
      const what = `"${e.message}" is no constant, and no handle or mapping is called so`;
      this.complain(x.line, about + what);
    }
    if (e instanceof NoHandle) return "NOHANDLE";
    if (e instanceof BadArgument) return "BADOP";
    if (is_errno(e)) return e.code;
    const code = x.p.error_code(e);
    if (code !== null) return code;
    const sig = x.p.signal_of(e);
    if (sig) {
      const counted = ["store", "load", "touch"].includes(x.argv[0]!);
      // the recorder's compiler kept the count in a register: what a signal left is always 0
      return this.signal_text(sig, x.names) + (counted ? " after=0" : "");
    }
    if (is_not_implemented(e)) {
      const what = (e as Error).message;
      this.unsupported ??= what;
      return `NOTIMPLEMENTED ${what}`;
    }
    throw e;
  }

  signal_text(
    s: { signo: string; code: string; addr: number; lsb: number },
    names: script_process,
  ): string {
    let t = `${s.signo} ${s.code}`;
    if (s.code.startsWith("BUS_MCEERR")) t += ` lsb=${s.lsb}`;
    if (s.code.startsWith("BUS_") || s.code.startsWith("SEGV_"))
      t += ` at=${names.address_name(s.addr)}`;
    return t;
  }

  /** `repeat N op args`: `%d` is the round; stops at the first error; answers the count. */
  async repeat(x: op_context): Promise<op_context> {
    const all = new op_context(this, x.names, x.argv, null, x.line);
    try {
      const n = x.num(1);
      const words = x.argv.slice(2);
      if (words.length === 0) throw new BadArgument("repeat what?");
      let i = 0;
      let why = "";
      for (; i < n; i++) {
        const argv = words.map((w) => w.replace("%d", String(i)));
        const one = new op_context(this, x.names, argv, x.assign, x.line);
        await this.attempt(one);
        if (one.head === "NOHANDLE" || one.head === "BADOP") {
          all.head = one.head;
          return all;
        }
        if (/^(E|SIG|NOTIMPL)/.test(one.head)) {
          why = one.head;
          break;
        }
      }
      if (why === "ENOSPC") all.head = `some then ENOSPC {${i}}`;
      else if (why.startsWith("SIG") || why.startsWith("NOTIMPL")) all.head = why;
      else all.head = why === "" ? String(i) : `${i} then ${why}`;
    } catch (e) {
      all.head = this.failure(e, all);
    }
    return all;
  }

  async do_fork(x: op_context): Promise<void> {
    const m = /^p([2-8])$/.exec(x.arg(1));
    if (!m) throw new BadArgument(x.arg(1));
    const child = await x.p.fork();
    this.procs.set(Number(m[1]), x.names.fork_names(child));
    x.ok();
  }

  async do_exit(l: sys_line, names: script_process, pre: string): Promise<void> {
    const code = l.argv[1] === undefined ? 0 : Number.parseInt(l.argv[1], 10) || 0;
    await names.process.exit(code);
    this.procs.delete(l.proc);
    this.print(`${l.line}: ${pre}exit = ${code & 0xff}`);
  }

  async do_kill(l: sys_line): Promise<void> {
    const t = Number(l.argv[1]?.slice(1));
    const target = this.procs.get(t);
    if (!target) return this.print(`${l.line}: kill = ESRCH`);
    const sig = l.argv[2] === undefined ? 9 : eval_number(l.argv[2], () => 0);
    await this.lab.kill(target.process, sig);
    if (sig === 9) {
      this.procs.delete(t);
      this.pending.delete(t);
    }
    this.print(`${l.line}: kill = ok`);
  }

  async do_await(l: sys_line): Promise<void> {
    const t = Number(l.argv[1]?.slice(1));
    const p = this.pending.get(t);
    if (!p) return this.print(`${l.line}: await = nothing`);
    const names = this.procs.get(t);
    const answered = p.result !== null || (names !== undefined && (await this.answers(p, names)));
    if (!answered) return this.print(`${l.line}: await = blocked`);
    this.pending.delete(t);
    this.print(`${l.line}: await = done`);
    for (const text of p.result ?? []) this.print(text);
  }
}

/**
 * Runs a script on a machine booted for it. The first line of the output is the set-up's verdict.
 * @throws ScriptError when the text is not a script; other errors are our own bugs
 */
export async function run_script(text: string, opts: script_options = {}): Promise<script_result> {
  const script = parse_script(text);
  const booted = await boot_lab(script.setup, opts);
  const lines: string[] = [`@setup = ${booted.verdict}`];
  opts.on_line?.(lines[0]!);
  opts.on_boot?.(booted.machine);
  const r = new runner(booted, opts, script);
  r.unsupported = booted.unsupported;
  if (booted.verdict !== "ok" && booted.unsupported === null) {
    const why = booted.why === "" ? "" : ` (${booted.why})`;
    r.complain(script.setup_line, `@setup: ${booted.verdict}${why}`);
  }
  for (const l of script.lines) {
    // what comes after something that is not built would only mislead
    if (r.unsupported !== null) break;
    await r.run_line(l);
  }
  r.throw_bug();
  lines.push(...r.out);
  const output = `${lines.join("\n")}\n`;
  const { unsupported, complaints } = r;
  return { output, unsupported, machine: booted.machine, complaints };
}

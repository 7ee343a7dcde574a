/**
 * kernel/signal.ts - signals: what a fault or another process tells a task. Linux: kernel/signal.c,
 * include/uapi/asm-generic/siginfo.h.
 *
 * A synchronous signal (a bad access) is thrown where it happens as a `siginfo` and reaches the
 * user as the rejection of the call. An asynchronous one (kill, memory failure) is queued on the
 * process and ends sleeps that allow it.
 */
import { ERESTARTSYS } from "./include/errno.ts";
import { TASK_BLOCKED, WAIT_INTERRUPTIBLE, WAIT_KILLABLE, type task_struct } from "./sched/task.ts";

export const SIGHUP = 1;
export const SIGINT = 2;
export const SIGILL = 4;
export const SIGTRAP = 5;
export const SIGABRT = 6;
export const SIGBUS = 7;
export const SIGFPE = 8;
export const SIGKILL = 9;
export const SIGUSR1 = 10;
export const SIGSEGV = 11;
export const SIGUSR2 = 12;
export const SIGPIPE = 13;
export const SIGALRM = 14;
export const SIGTERM = 15;
export const SIGCHLD = 17;
export const SIGXFSZ = 25;
export const SIGIO = 29;

export const SI_USER = 0;
export const SEGV_MAPERR = 1;
export const SEGV_ACCERR = 2;
export const BUS_ADRALN = 1;
export const BUS_ADRERR = 2;
export const BUS_OBJERR = 3;
export const BUS_MCEERR_AR = 4;
export const BUS_MCEERR_AO = 5;
export const POLL_HUP = 6;

const SIGNAL_NAMES: Readonly<Record<number, string>> = Object.freeze({
  [SIGHUP]: "SIGHUP",
  [SIGINT]: "SIGINT",
  [SIGILL]: "SIGILL",
  [SIGTRAP]: "SIGTRAP",
  [SIGABRT]: "SIGABRT",
  [SIGBUS]: "SIGBUS",
  [SIGFPE]: "SIGFPE",
  [SIGKILL]: "SIGKILL",
  [SIGUSR1]: "SIGUSR1",
  [SIGSEGV]: "SIGSEGV",
  [SIGUSR2]: "SIGUSR2",
  [SIGPIPE]: "SIGPIPE",
  [SIGALRM]: "SIGALRM",
  [SIGTERM]: "SIGTERM",
  [SIGCHLD]: "SIGCHLD",
  [SIGXFSZ]: "SIGXFSZ",
  [SIGIO]: "SIGIO",
});
const BUS_CODES: readonly string[] = Object.freeze([
  "SI_USER",
  "BUS_ADRALN",
  "BUS_ADRERR",
  "BUS_OBJERR",
  "BUS_MCEERR_AR",
  "BUS_MCEERR_AO",
]);
const SEGV_CODES: readonly string[] = Object.freeze(["SI_USER", "SEGV_MAPERR", "SEGV_ACCERR"]);

/** What a handler gets. Thrown as such for synchronous signals; no Error, no stack. */
export interface siginfo {
  readonly is_signal: true;
  readonly signo: number;
  readonly code: number;
  /** Faulting address, null if there is none. */
  readonly addr: number | null;
  /** Memory errors: log2 of the bytes lost from addr on; 0 otherwise. */
  readonly lsb: number;
  /** Sender of a kill(), else 0. */
  readonly pid: number;
}

export function make_siginfo(
  signo: number,
  code: number,
  addr: number | null = null,
  lsb = 0,
  pid = 0,
): siginfo {
  return { is_signal: true, signo, code, addr, lsb, pid };
}

export function is_signal(e: unknown): e is siginfo {
  return typeof e === "object" && e !== null && (e as { is_signal?: unknown }).is_signal === true;
}

export function signal_name(signo: number): string {
  return SIGNAL_NAMES[signo] ?? `SIG${signo}`;
}

/** "BUS_ADRERR"; the number as text for a code without a name. */
export function signal_code_name(info: siginfo): string {
  const names = info.signo === SIGBUS ? BUS_CODES : info.signo === SIGSEGV ? SEGV_CODES : [];
  return names[info.code] ?? (info.code === SI_USER ? "SI_USER" : String(info.code));
}

/** "SIGBUS BUS_MCEERR_AR lsb=12" */
export function signal_text(info: siginfo): string {
  const name = signal_name(info.signo);
  if (info.signo !== SIGBUS && info.signo !== SIGSEGV) return name;
  return `${name} ${signal_code_name(info)}${info.lsb > 0 ? ` lsb=${info.lsb}` : ""}`;
}

/** Shared by the threads of a process. */
export class signal_struct {
  /** Not yet delivered, oldest first. */
  pending: siginfo[] = [];
  /** Signals with a handler installed, and what SIG_IGN covers: others that arrive kill. */
  readonly handled = new Set<number>();
  readonly ignored = new Set<number>([SIGCHLD]);
  /** Soft resource limits by name (FSIZE, NOFILE, MEMLOCK, AS) where set; fork copies them. */
  rlim: Record<string, number> = {};
  /** The process has been killed by this signal; 0 if it lives. */
  killed_by = 0;
}

function struct_of(t: task_struct): signal_struct {
  t.signal ??= new signal_struct();
  return t.signal;
}

/** Will this signal end the process? */
export function is_fatal(s: signal_struct, signo: number): boolean {
  if (signo === SIGKILL) return true;
  return !s.handled.has(signo) && !s.ignored.has(signo);
}

/**
 * Queues an asynchronous signal for the process of `t` and ends the sleeps of `threads` that allow
 * it.
 */
export function send_signal(
  t: task_struct,
  info: siginfo,
  threads: Iterable<task_struct> = t.kernel.machine.sched.tasks,
): void {
  const s = struct_of(t);
  if (s.ignored.has(info.signo) && info.signo !== SIGKILL) return;
  s.pending.push(info);
  t.kernel.sched.observer?.touch(s, true);
  const fatal = is_fatal(s, info.signo);
  if (fatal && s.killed_by === 0) s.killed_by = info.signo;
  const how = fatal ? WAIT_KILLABLE | WAIT_INTERRUPTIBLE : WAIT_INTERRUPTIBLE;
  const sched = t.kernel.machine.sched;
  for (const thread of [...threads]) {
    if (thread.signal !== s || thread.state !== TASK_BLOCKED) continue;
    sched.interrupt(thread, how, ERESTARTSYS);
  }
}

/**
 * A signal that the running task cannot refuse, for what it is doing: the call under way ends with
 * it (take_forced_signal). One that is pending already stays.
 */
export function force_sig(t: task_struct, info: siginfo): void {
  t.forced_signal ??= info;
}

export function take_forced_signal(t: task_struct): siginfo | null {
  const info = t.forced_signal;
  t.forced_signal = null;
  return info;
}

/** kill(2) as seen from the sender. */
export function kill_task(t: task_struct, signo: number, from_pid = 0): void {
  send_signal(t, make_siginfo(signo, SI_USER, null, 0, from_pid));
}

export function signal_pending(t: task_struct): boolean {
  return t.signal !== null && t.signal.pending.length > 0;
}
export function fatal_signal_pending(t: task_struct): boolean {
  return t.signal !== null && t.signal.killed_by !== 0;
}

/** Would a pending signal end a sleep of this kind (WAIT_*) at once? */
export function signal_wakes(t: task_struct, flags: number): boolean {
  if (t.signal === null) return false;
  t.kernel.sched.observer?.touch(t.signal, false);
  if ((flags & WAIT_INTERRUPTIBLE) !== 0 && t.signal.pending.length > 0) return true;
  return (flags & WAIT_KILLABLE) !== 0 && t.signal.killed_by !== 0;
}

/** Takes the oldest pending signal for delivery, or null. */
export function dequeue_signal(t: task_struct): siginfo | null {
  return t.signal?.pending.shift() ?? null;
}

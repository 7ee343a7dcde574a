/**
 * tools/api/process_base.ts - how a call from a user's script gets into the kernel and back.
 *
 * A call runs on the process's thread. It answers at once when nothing has to wait (a plain value),
 * else with a promise; `await` serves both. Errors are dressed here, once: SyscallError,
 * SignalError. Our own bugs and `notImplemented()` pass through untouched.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import type { Sometime } from "../../kernel/include/fs.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { ENTER_NO, is_promise } from "../../kernel/sched/sched.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import {
  dequeue_signal,
  is_signal,
  signal_code_name,
  signal_name,
  take_forced_signal,
  type siginfo,
} from "../../kernel/signal.ts";
import { SignalError, SyscallError, type signal_info, WouldBlock } from "./errors.ts";

/**
 * Bytes of the caller's, a piece of the process's memory, or bytes displaced from page alignment.
 */
export type user_buffer =
  | Uint8Array
  | { readonly addr: number; readonly len: number }
  | { readonly bytes: Uint8Array; readonly skew: number };

/** A fault that ended an access part-way: thrown by mm, with the bytes done before. */
interface partial_access {
  readonly info: siginfo;
  readonly completed: number;
}

function info_of(info: siginfo, completed: number): signal_info {
  return {
    signo: signal_name(info.signo),
    code: signal_code_name(info),
    addr: info.addr ?? 0,
    lsb: info.lsb,
    completed,
  };
}

export class ProcessBase {
  readonly kernel: Kernel;
  /** The thread that runs the calls of this object. */
  readonly task: task_struct;

  constructor(task: task_struct) {
    this.kernel = task.kernel;
    this.task = task;
  }

  get pid(): number {
    return this.task.tgid;
  }

  /** Runs `fn` as system call `name` on this process's thread. */
  syscall<T>(name: string, fn: (t: task_struct) => Sometime<T>, path?: string): Sometime<T> {
    const t = this.task;
    const s = t.kernel.sched;
    const how = s.enter(t);
    if (how === ENTER_NO) return this.queued(name, fn, path);
    t.syscall = name;
    let r: Sometime<T>;
    try {
      r = fn(t);
    } catch (e) {
      s.leave_failed(t, how, e);
      throw this.dress(e, name, path);
    }
    if (is_promise(r)) return this.dressed(s.leave_async(t, how, r), name, path);
    s.leave(t, how);
    return r;
  }

  private queued<T>(name: string, fn: (t: task_struct) => Sometime<T>, path?: string): Sometime<T> {
    const run = (t: task_struct): Sometime<T> => {
      t.syscall = name;
      return fn(t);
    };
    const r = this.kernel.sched.call(this.task, run);
    return is_promise(r) ? this.dressed(r, name, path) : r;
  }

  protected async dressed<T>(r: Promise<T>, name: string, path?: string): Promise<T> {
    let value: T;
    try {
      value = await r;
    } catch (e) {
      const forced = take_forced_signal(this.task);
      throw this.dress(forced ?? e, name, path);
    }
    // Forced signals come from what sleeps: a call that ends at once has none.
    const forced = take_forced_signal(this.task);
    if (forced !== null) throw this.dress(forced, name, path);
    return value;
  }

  /** The error a user sees for what the kernel threw. */
  dress(e: unknown, name: string, path?: string): unknown {
    if (is_errno(e)) return new SyscallError(e, name, path);
    if (is_signal(e)) return new SignalError(info_of(e, 0));
    const part = e as Partial<partial_access> | null;
    if (part?.info && is_signal(part.info)) {
      return new SignalError(info_of(part.info, part.completed ?? 0));
    }
    return e;
  }

  /** The plain result of a call, for callers that cannot wait: it takes no turn either. */
  protected at_once<T>(name: string, call: () => Sometime<T>): T {
    const s = this.kernel.sched;
    const in_turn = s.calls_in_turn;
    s.calls_in_turn = false;
    let r: Sometime<T>;
    try {
      r = call();
    } finally {
      s.calls_in_turn = in_turn;
    }
    if (!is_promise(r)) return r;
    // the call goes on; its end must not go unheard
    r.catch(() => undefined);
    throw new WouldBlock(name);
  }

  /** True for an error that Linux would have answered. */
  is_error(e: unknown): boolean {
    return this.error_code(e) !== null;
  }
  /** "ENOSPC", or null when `e` is no error of a system call. */
  error_code(e: unknown): string | null {
    if (e instanceof SyscallError) return e.code;
    return is_errno(e) ? e.code : null;
  }
  signal_of(e: unknown): signal_info | null {
    return e instanceof SignalError ? e : null;
  }
  /** The same signal with another count of what was done before it. */
  with_progress(e: unknown, completed: number): unknown {
    if (!(e instanceof SignalError)) return e;
    const { signo, code, addr, lsb } = e;
    return new SignalError({ signo, code, addr, lsb, completed });
  }

  /**
   * Asynchronous signals that arrived since the last call of this; a handler would have got them.
   */
  take_signals(): signal_info[] {
    const out: signal_info[] = [];
    for (let s = dequeue_signal(this.task); s; s = dequeue_signal(this.task)) {
      out.push(info_of(s, 0));
    }
    return out;
  }
  /** Name of the signal that killed the process, or null. */
  killed_by(): string | null {
    const n = this.task.signal?.killed_by ?? 0;
    return n === 0 ? null : signal_name(n);
  }
}

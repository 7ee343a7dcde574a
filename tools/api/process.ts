/**
 * tools/api/process.ts - a process as a script sees it: every system call as a method.
 *
 * Reading order: process_base (how a call gets in and out), process_file, process_memory, this.
 */
import { notImplemented } from "../../kernel/assert.ts";
import { cred_with_cap, make_cred } from "../../kernel/cred.ts";
import * as C from "../../kernel/include/cred.ts";
import { EINVAL, EPERM } from "../../kernel/include/errno.ts";
import type { Sometime } from "../../kernel/include/fs.ts";
import { capable } from "../../kernel/cred.ts";
import { kill_task, signal_struct } from "../../kernel/signal.ts";
import { copy_fs_struct, exit_fs, task_fs } from "../../fs/fs_struct.ts";
import { dup_files, exit_files, task_files } from "../../fs/file.ts";
import { dup_mm, exit_mm } from "../../mm/fork.ts";
import { hwpoison_inject, mapped_pfn, set_mce_kill } from "../../mm/memory-failure.ts";
import { PF_MCE_EARLY, PF_MCE_PROCESS } from "../../kernel/sched/task.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { ProcessNames } from "./process_names.ts";

export type { user_buffer } from "./process_base.ts";

const CAPS: Readonly<Record<string, number>> = Object.freeze({
  CAP_CHOWN: C.CAP_CHOWN,
  CAP_DAC_OVERRIDE: C.CAP_DAC_OVERRIDE,
  CAP_FOWNER: C.CAP_FOWNER,
  CAP_FSETID: C.CAP_FSETID,
  CAP_LINUX_IMMUTABLE: C.CAP_LINUX_IMMUTABLE,
  CAP_SYS_ADMIN: C.CAP_SYS_ADMIN,
  CAP_IPC_LOCK: C.CAP_IPC_LOCK,
  CAP_SYS_RESOURCE: C.CAP_SYS_RESOURCE,
  CAP_MKNOD: C.CAP_MKNOD,
  CAP_SYS_RAWIO: C.CAP_SYS_RAWIO,
  CAP_DAC_READ_SEARCH: C.CAP_DAC_READ_SEARCH,
});

const LIMITS: readonly string[] = Object.freeze(["FSIZE", "MEMLOCK", "AS", "NOFILE"]);

export class Process extends ProcessNames {
  /** fork(2): a child with copies of descriptors, credentials and memory. */
  fork(name = this.task.comm): Sometime<Process> {
    return this.syscall("fork", async (t) => {
      const child = t.kernel.machine.new_thread(t.kernel, name);
      child.cred = t.cred;
      child.flags |= t.flags & (PF_MCE_PROCESS | PF_MCE_EARLY);
      child.files = dup_files(task_files(t));
      child.fs = copy_fs_struct(task_fs(t));
      child.signal = new signal_struct();
      for (const s of t.signal?.handled ?? []) child.signal.handled.add(s);
      child.signal.rlim = { ...t.signal?.rlim };
      child.mm = await dup_mm(t);
      return new Process(child);
    });
  }

  /** Another thread of the same process: shares memory, descriptors, credentials and signals. */
  thread(name = `${this.task.comm}-thread`): Process {
    const t = this.task;
    const other = t.kernel.machine.new_thread(t.kernel, name);
    other.tgid = t.tgid;
    other.cred = t.cred;
    other.flags |= t.flags & (PF_MCE_PROCESS | PF_MCE_EARLY);
    other.mm = t.mm;
    if (t.mm) t.mm.mm_users++;
    other.files = t.files;
    task_files(other).count++;
    other.fs = t.fs;
    task_fs(other).users++;
    other.signal = t.signal;
    return new Process(other);
  }

  /**
   * Another thread of the same process with a body of its own, for scenarios: it runs once m.run()
   * is awaited, and gets its own process object for its calls.
   */
  spawn(name: string, fn: (p: Process) => unknown): task_struct {
    const other = this.thread(name);
    return this.kernel.sched.spawn(other.task, async () => {
      const value = await fn(other);
      await exit_task(other.task);
      return value;
    });
  }

  /** exit(2): descriptors are closed, memory is unmapped. */
  async exit(_code = 0): Promise<void> {
    await this.syscall("exit", (t) => exit_task(t));
    this.kernel.sched.exit_thread(this.task);
  }

  /** kill(2) from this process. */
  kill(other: Process, signo: number): Sometime<void> {
    return this.syscall("kill", (t) => {
      kill_task(other.task, signo, t.pid);
    });
  }

  /** setresuid and setresgid to `id`, without supplementary groups. */
  setuid(id: number): Sometime<void> {
    return this.syscall("setuid", (t) => {
      if (!capable(t.kernel, C.CAP_SETUID) && t.cred.uid !== id) throw EPERM;
      t.cred = make_cred(id, id);
    });
  }
  /** Gives up one capability ("CAP_SYS_ADMIN"), or "all". */
  dropcap(name: string): Sometime<void> {
    return this.syscall("capset", (t) => {
      if (name === "all") {
        t.cred = { ...t.cred, cap_lo: 0, cap_hi: 0 };
        return;
      }
      const cap = CAPS[name];
      if (cap === undefined) throw EINVAL;
      t.cred = cred_with_cap(t.cred, cap, false);
    });
  }
  /** Soft and hard limit: "FSIZE", "MEMLOCK", "AS" or "NOFILE". */
  setrlimit(name: string, value: number): Sometime<void> {
    return this.syscall("setrlimit", (t) => {
      if (!LIMITS.includes(name) || !(value >= 0)) throw EINVAL;
      t.signal ??= new signal_struct();
      t.signal.rlim[name] = value;
    });
  }
  /** prctl(PR_MCE_KILL): hear of bad pages "early", "late", or ("default") as the sysctl says. */
  mce_kill(when: string): Sometime<void> {
    return this.syscall("prctl", (t) => set_mce_kill(t, when));
  }
  /**
   * Fails the page frame under `addr`, nobody's access being in progress (debugfs
   * hwpoison/corrupt-pfn). @throws SyscallError ENOENT EPERM EBUSY EHWPOISON, SignalError SIGBUS
   */
  poison_pfn(addr: number): Sometime<void> {
    return this.syscall("hwpoison", (t) => hwpoison_inject(t, mapped_pfn(t, addr)));
  }
  putexe(_path: string): Sometime<void> {
    return notImplemented("programs (putexe)");
  }
  exec(_path: string): Sometime<number> {
    return notImplemented("execve");
  }
  swapon(_path: string): Sometime<void> {
    return notImplemented("swapon");
  }
  swapoff(_path: string): Sometime<void> {
    return notImplemented("swapoff");
  }
  swaps(): Sometime<{ path: string; type: string; kib: number }[]> {
    return notImplemented("/proc/swaps");
  }

  /**
   * Runs kernel functions (of `daxlab/kernel`) on this thread: `p.in_kernel(async (k) => {...})`.
   * A lock still held at the end is reported.
   */
  in_kernel<T>(fn: (kernel: Process["kernel"], task: task_struct) => Sometime<T>): Sometime<T> {
    return this.syscall("in_kernel", (t) => fn(t.kernel, t));
  }
}

/** What a task gives back when it ends. */
export async function exit_task(t: task_struct): Promise<void> {
  await exit_mm(t);
  await exit_files(t);
  await exit_fs(t);
}

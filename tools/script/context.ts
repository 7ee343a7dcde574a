/**
 * tools/script/context.ts - what one operation of a script sees: its arguments, its process, its
 * output.
 *
 * Reading order: `script_process` (names of a process) -> `op_context` (one operation).
 */
import { EBADF } from "../../kernel/include/errno.ts";
import type { kstat } from "../../kernel/include/fs.ts";
import type { Process } from "../api/process.ts";
import type { Machine } from "../api/machine.ts";
import { expand_path } from "./parse.ts";
import { BadArgument, eval_number, make_data, NoHandle } from "./values.ts";

/** A named mapping. `ok` false: its making failed, so the name stands for nothing. */
interface map_handle {
  base: number;
  len: number;
  ok: boolean;
  /** Youngest name wins when several cover an address. */
  seq: number;
}

/** Names and state of one process of the script. */
export class script_process {
  readonly process: Process;
  readonly fds = new Map<string, number | null>();
  readonly maps = new Map<string, map_handle>();
  readonly snaps = new Map<string, kstat>();
  seq = 0;

  constructor(process: Process) {
    this.process = process;
  }

  /** The child inherits every name. */
  fork_names(process: Process): script_process {
    const child = new script_process(process);
    for (const [k, v] of this.fds) child.fds.set(k, v);
    for (const [k, v] of this.maps) child.maps.set(k, { ...v });
    for (const [k, v] of this.snaps) child.snaps.set(k, v);
    child.seq = this.seq;
    return child;
  }

  set_map(name: string, base: number | null, len: number): void {
    const old = this.maps.get(name);
    this.seq++;
    if (base === null) {
      this.maps.set(name, { base: old?.base ?? 0, len: old?.len ?? 0, ok: false, seq: this.seq });
    } else {
      const rounded = Math.ceil(len / 4096) * 4096;
      this.maps.set(name, { base, len: rounded, ok: true, seq: this.seq });
    }
  }

  /** `m+0x2000`, or `-` when no named mapping holds the address. */
  address_name(addr: number): string {
    let best: [string, map_handle] | null = null;
    for (const e of this.maps) {
      const h = e[1];
      if (!h.ok || addr < h.base || addr >= h.base + h.len) continue;
      if (best === null || h.seq > best[1].seq) best = e;
    }
    return best ? `${best[0]}+0x${(addr - best[1].base).toString(16)}` : "-";
  }
}

/** What the whole run shares. */
export interface script_run {
  readonly lab: Machine;
  trace_on: boolean;
  /** dmesg entries already given to a klog. */
  klog_seen: number;
  readonly procs: Map<number, script_process>;
}

export class op_context {
  readonly run: script_run;
  readonly names: script_process;
  readonly argv: string[];
  readonly assign: string | null;
  readonly line: number;
  /** The result after `=`. */
  head = "";
  /** Detail lines with their mark. */
  readonly details: { mark: "|" | "?" | "~" | "!"; text: string }[] = [];

  constructor(
    run: script_run,
    names: script_process,
    argv: string[],
    assign: string | null,
    line: number,
  ) {
    this.run = run;
    this.names = names;
    this.argv = argv;
    this.assign = assign;
    this.line = line;
  }

  get p(): Process {
    return this.names.process;
  }
  get argc(): number {
    return this.argv.length;
  }
  ok(): void {
    this.head += "ok";
  }
  say(text: string | number): void {
    this.head += text;
  }
  detail(text: string): void {
    this.details.push({ mark: "|", text });
  }
  remark(text: string): void {
    this.details.push({ mark: "?", text });
  }

  arg(i: number): string {
    const a = this.argv[i];
    if (a === undefined) throw new BadArgument(`argument ${i} is missing`);
    return a;
  }
  /** Argument i as a number. */
  num(i: number): number {
    return this.number(this.arg(i));
  }
  num_or(i: number, otherwise: number): number {
    return i < this.argc ? this.num(i) : otherwise;
  }
  number(text: string): number {
    return eval_number(text, (name) => {
      const h = this.names.maps.get(name);
      if (!h?.ok) throw new NoHandle(name);
      return h.base;
    });
  }
  data(i: number): Uint8Array {
    return make_data(this.arg(i), (t) => this.number(t));
  }
  path(i: number): string {
    return expand_path(this.arg(i));
  }
  fd(i: number): number {
    return this.fd_of(this.arg(i));
  }
  fd_of(text: string): number {
    if (/^[-\d]/.test(text)) return Number.parseInt(text, 10);
    if (text === "AT_FDCWD") return -100;
    const fd = this.names.fds.get(text);
    if (fd === undefined || fd === null) throw new NoHandle(text);
    return fd;
  }
  /** `name=value` among the arguments. */
  option(name: string): string | undefined {
    const hit = this.argv.find((a, i) => i > 0 && a.startsWith(`${name}=`));
    return hit?.slice(name.length + 1);
  }
  is_path(i: number): boolean {
    const a = this.arg(i);
    return a.includes("/") || a === "." || a === "..";
  }

  /** Makes the descriptor's name, or closes it when nobody wants it. */
  async new_fd(open: () => Promise<number> | number): Promise<void> {
    let fd: number;
    try {
      fd = await open();
    } catch (e) {
      if (this.assign) this.names.fds.set(this.assign, null);
      throw e;
    }
    if (this.assign) this.names.fds.set(this.assign, fd);
    else await this.p.close(fd);
    this.ok();
  }

  /** Runs `fn` with a descriptor for a path or handle argument; opens a path read-only for it. */
  async with_fd(i: number, fn: (fd: number) => Promise<void>): Promise<void> {
    if (!this.is_path(i)) {
      const fd = this.fd(i);
      if (fd < 0) throw EBADF;
      return fn(fd);
    }
    const fd = await this.p.open(this.path(i), 0o4000, 0);
    try {
      return await fn(fd);
    } finally {
      await this.p.close(fd);
    }
  }
}

export type operation = (x: op_context) => Promise<void>;

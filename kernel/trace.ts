/**
 * kernel/trace.ts - tracepoints. Linux: include/linux/tracepoint.h, kernel/trace/.
 *
 * A tracepoint is one frozen constant: name, fields, and how ftrace prints them. From it come the
 * TypeScript type of the event, the text line and the object that observers get. Callers test
 * `kernel.trace.enabled` first, so that a run nobody watches builds no events.
 */
import type { Kernel } from "./kernel.ts";

/**
 * Field kinds: all numbers but "str" and "value" (an object for observers; printed with String()).
 */
export type field_kind = "dec" | "hex" | "str" | "bool" | "value";
type field_value<K extends field_kind> = K extends "str"
  ? string
  : K extends "bool"
    ? boolean
    : K extends "value"
      ? unknown
      : number;
export type field_table = Readonly<Record<string, field_kind>>;
export type fields_of<F extends field_table> = { readonly [K in keyof F]: field_value<F[K]> };

export interface tracepoint<N extends string = string, F extends field_table = field_table> {
  readonly system: string;
  readonly name: N;
  readonly fields: F;
  /** Text after "name: " in an ftrace line; null: "field=value ..." in order. */
  readonly print: ((f: fields_of<F>) => string) | null;
}

export interface trace_event<N extends string = string, F extends field_table = field_table> {
  readonly seq: number;
  /** Nanoseconds since boot. */
  readonly time: number;
  readonly pid: number;
  readonly comm: string;
  readonly system: string;
  readonly name: N;
  readonly fields: fields_of<F>;
  readonly point: tracepoint<N, F>;
}

/** A tracepoint; at module level only. `system` is the kernel's TRACE_SYSTEM ("fs_dax"). */
export function define_trace<const N extends string, const F extends field_table>(
  system: string,
  name: N,
  fields: F,
  print: ((f: fields_of<F>) => string) | null = null,
): tracepoint<N, F> {
  return Object.freeze({ system, name, fields: Object.freeze(fields), print });
}

/** The bits set in `value` by name, joined by "|"; unknown bits in hex at the end. */
export function print_flags(
  value: number,
  names: readonly (readonly [bit: number, name: string])[],
): string {
  const out: string[] = [];
  let rest = value;
  for (const [bit, name] of names) {
    if ((value & bit) === 0) continue;
    out.push(name);
    rest &= ~bit;
  }
  if (rest !== 0 && out.length > 0) out.push(`0x${(rest >>> 0).toString(16)}`);
  return out.join("|");
}

export function hex(v: number): string {
  return v < 0 ? `-0x${(-v).toString(16)}` : `0x${v.toString(16)}`;
}

function field_text(kind: field_kind, v: unknown): string {
  if (kind === "hex") return hex(v as number);
  return String(v);
}

/** What stands after "name: " in an ftrace line. */
export function event_text(e: trace_event): string {
  if (e.point.print !== null) return e.point.print(e.fields);
  const kinds = Object.entries(e.point.fields);
  return kinds.map(([f, kind]) => `${f}=${field_text(kind, e.fields[f])}`).join(" ");
}

/** A line as in /sys/kernel/tracing/trace, without flags: one processor, no interrupts. */
export function ftrace_line(e: trace_event): string {
  const us = Math.floor(e.time / 1000);
  const time = `${Math.floor(us / 1_000_000)}.${String(us % 1_000_000).padStart(6, "0")}`;
  const who = `${e.comm.slice(0, 15).padStart(16)}-${String(e.pid).padEnd(7)}`;
  return `${who} [000] ..... ${time.padStart(13)}: ${e.name}: ${event_text(e)}`;
}

export type trace_listener = (e: trace_event) => void;

const RING_EVENTS = 16_384;

/** kernel.trace */
export class TraceRegistry {
  /** True while someone listens or records. Test it before making the fields of an event. */
  enabled = false;
  private readonly kernel: Kernel;
  private readonly listeners: { fn: trace_listener; only: ReadonlySet<string> | null }[] = [];
  private recording: ReadonlySet<string> | "all" | null = null;
  private ring: trace_event[] = [];
  private first = 0;
  private seq = 0;
  /** Events dropped because the ring was full. */
  overrun = 0;

  constructor(kernel: Kernel) {
    this.kernel = kernel;
  }

  emit<N extends string, F extends field_table>(
    point: tracepoint<N, F>,
    fields: fields_of<F>,
  ): void {
    if (!this.enabled) return;
    const t = this.kernel.current;
    const event: trace_event<N, F> = {
      seq: this.seq++,
      time: this.kernel.machine.clock.now_ns,
      pid: t.pid,
      comm: t.comm,
      system: point.system,
      name: point.name,
      fields,
      point,
    };
    const plain = event as unknown as trace_event;
    if (this.recording !== null && wanted(this.recording, plain)) this.record(plain);
    for (const l of this.listeners) {
      if (l.only === null || l.only.has(event.name) || l.only.has(event.system)) l.fn(plain);
    }
  }

  /**
   * Calls `fn` for every event, or for those whose name or system is in `only`. Returns
   * unsubscribe.
   */
  subscribe(fn: trace_listener, only: Iterable<string> | null = null): () => void {
    const l = { fn, only: only === null ? null : new Set(only) };
    this.listeners.push(l);
    this.update();
    return () => {
      const i = this.listeners.indexOf(l);
      if (i >= 0) this.listeners.splice(i, 1);
      this.update();
    };
  }

  /** Starts keeping events in the ring: all, or those whose name or system is listed. */
  start(only: Iterable<string> | null = null): void {
    this.recording = only === null ? "all" : new Set(only);
    this.update();
  }
  stop(): void {
    this.recording = null;
    this.update();
  }

  /** Recorded events, oldest first. */
  events(): trace_event[] {
    return [...this.ring.slice(this.first), ...this.ring.slice(0, this.first)];
  }
  clear(): void {
    this.ring = [];
    this.first = 0;
  }
  /** The recorded events as ftrace text lines. */
  text(): string[] {
    return this.events().map(ftrace_line);
  }

  private record(e: trace_event): void {
    if (this.ring.length < RING_EVENTS) {
      this.ring.push(e);
      return;
    }
    this.ring[this.first] = e;
    this.first = (this.first + 1) % RING_EVENTS;
    this.overrun++;
  }

  private update(): void {
    this.enabled = this.recording !== null || this.listeners.length > 0;
  }
}

function wanted(only: ReadonlySet<string> | "all", e: trace_event): boolean {
  return only === "all" || only.has(e.name) || only.has(e.system);
}

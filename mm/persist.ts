/**
 * mm/persist.ts - what of a persistent region would survive a power cut.
 * Linux: none; the platform rules of ADR and eADR machines.
 *
 * A line (64 bytes) is in `lines` while its visible bytes may differ from the durable ones. A store
 * makes it dirty; clwb or a flushing store puts a copy on its way (`pending`); sfence makes that
 * copy the durable one. With eADR the caches belong to the domain, so a store is durable at once;
 * with no domain ("none") a fence does not help and only host_flush() does.
 *
 * Events go to the sink in program order with offsets in the region; the crash engine makes its
 * states from them and does not need `lines`.
 */
import { CHUNK_SIZE, LINE_SIZE } from "./chunks.ts";
import type { media } from "./chunks.ts";

export type pmem_event =
  | {
      readonly type: "store";
      readonly off: number;
      readonly data: Uint8Array;
      readonly nt: boolean;
    }
  | { readonly type: "clwb"; readonly off: number; readonly len: number }
  | { readonly type: "sfence" }
  | { readonly type: "host_flush" };

interface line_state {
  /** What a power cut would leave. */
  durable: Uint8Array;
  /** Written back, waiting for a fence. */
  pending: Uint8Array | null;
  /** Stored to since it was last written back. */
  dirty: boolean;
}

export class persistence {
  readonly #media: media;
  readonly #domain: "adr" | "eadr" | "none";
  readonly #sink: ((e: pmem_event) => void) | null;
  readonly #lines = new Map<number, line_state>();
  /** Lines with `pending` set. */
  readonly #wpq = new Set<number>();

  constructor(m: media, domain: "adr" | "eadr" | "none", sink: ((e: pmem_event) => void) | null) {
    this.#media = m;
    this.#domain = domain;
    this.#sink = sink;
  }

  get nr_volatile(): number {
    return this.#lines.size;
  }

  /** Where the line at byte `off` stands: in the cpu cache, on its way, or durable. */
  line_at(off: number): "dirty" | "pending" | "durable" {
    const s = this.#lines.get(Math.floor(off / LINE_SIZE));
    if (!s) return "durable";
    return s.dirty ? "dirty" : "pending";
  }

  #bytes(off: number, len: number): Uint8Array {
    const i = Math.floor(off / CHUNK_SIZE);
    const o = off - i * CHUNK_SIZE;
    return this.#media.rd[i]!.slice(o, o + len);
  }

  /** Before a store: remembers the durable bytes of the lines. */
  will_store(off: number, len: number): void {
    if (this.#domain === "eadr") return;
    const last = Math.floor((off + len - 1) / LINE_SIZE);
    for (let line = Math.floor(off / LINE_SIZE); line <= last; line++) {
      const s = this.#lines.get(line);
      if (s) s.dirty = true;
      else {
        const durable = this.#bytes(line * LINE_SIZE, LINE_SIZE);
        this.#lines.set(line, { durable, pending: null, dirty: true });
      }
    }
  }

  /** After a store (which lies in one chunk). `nt`: it went around the cache. */
  stored(off: number, len: number, nt: boolean): void {
    this.#sink?.({ type: "store", off, data: this.#bytes(off, len), nt });
    if (nt) this.#write_back(off, len);
  }

  clwb(off: number, len: number): void {
    this.#sink?.({ type: "clwb", off, len });
    this.#write_back(off, len);
  }

  #write_back(off: number, len: number): void {
    if (len <= 0) return;
    const last = Math.floor((off + len - 1) / LINE_SIZE);
    for (let line = Math.floor(off / LINE_SIZE); line <= last; line++) {
      const s = this.#lines.get(line);
      if (!s || !s.dirty) continue;
      s.pending = this.#bytes(line * LINE_SIZE, LINE_SIZE);
      s.dirty = false;
      this.#wpq.add(line);
    }
  }

  sfence(): void {
    this.#sink?.({ type: "sfence" });
    if (this.#domain === "none") return;
    for (const line of this.#wpq) {
      const s = this.#lines.get(line)!;
      if (s.dirty) {
        s.durable = s.pending!;
        s.pending = null;
      } else this.#lines.delete(line);
    }
    this.#wpq.clear();
  }

  host_flush(): void {
    this.#sink?.({ type: "host_flush" });
    this.forget();
  }

  /** All that is visible counts as durable. */
  forget(): void {
    this.#lines.clear();
    this.#wpq.clear();
  }

  each_volatile(fn: (off: number, durable: Uint8Array) => void): void {
    for (const [line, s] of this.#lines) fn(line * LINE_SIZE, s.durable);
  }
}

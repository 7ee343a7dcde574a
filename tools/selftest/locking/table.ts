/**
 * tools/selftest/locking/table.ts - shape of the selftest's table: groups of rows of cells.
 */
import type { cell_world } from "./world.ts";

export type cell_body = (w: cell_world) => void;

export interface locking_cell {
  /** Order of the events and kind of interrupt, "" if there is but one cell. */
  readonly variant: string;
  readonly expect: "report" | "silent";
  readonly body: cell_body;
}

export interface locking_row {
  readonly name: string;
  /** By column. */
  readonly cells: Readonly<Record<string, readonly locking_cell[]>>;
}

export interface locking_group {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly locking_row[];
  /** Reads of rwlocks are recursive everywhere, as in the kernel's older tests. */
  readonly read_recursive: boolean;
}

/** "!" reports, "." is silent. */
export function cell(verdict: "!" | ".", body: cell_body, variant = ""): locking_cell {
  return { variant, expect: verdict === "!" ? "report" : "silent", body };
}

/** Every order of the events, named "12", "21" or "123", "132", ... */
export function orders(events: readonly cell_body[]): { name: string; body: cell_body }[] {
  const out: { name: string; body: cell_body }[] = [];
  const walk = (done: number[]): void => {
    if (done.length === events.length) {
      const name = done.map((i) => i + 1).join("");
      const body = (w: cell_world): void => {
        for (const i of done) events[i]!(w);
      };
      out.push({ name, body });
      return;
    }
    for (let i = 0; i < events.length; i++) if (!done.includes(i)) walk([...done, i]);
  };
  walk([]);
  return out;
}

/**
 * tools/cli/progress.ts - where long work is and what is left, on stderr: one line drawn anew on a
 * terminal, one line per tenth elsewhere.
 */
export interface progress {
  /** `done` of the total; `note` replaces the label's tail. */
  update(done: number, note?: string): void;
  /** Clears the line on a terminal. */
  stop(): void;
}

const REDRAW_MS = 100;
const COUNT_MS = 5000;
const WIDTH = 24;

/** Where the end is not known: only what has been done, once a second. */
function make_counter(label: string): progress {
  const err = process.stderr;
  const state = { drawn: performance.now() };
  return {
    update(done, note = "") {
      const now = performance.now();
      if (now - state.drawn < (err.isTTY ? REDRAW_MS : COUNT_MS)) return;
      state.drawn = now;
      const text = `${label} ${done}${note ? `, ${note}` : ""}`;
      err.write(err.isTTY ? `\r\x1b[2K${text}` : `${text}\n`);
    },
    stop() {
      if (err.isTTY) err.write("\r\x1b[2K");
    },
  };
}

/** As make_progress(); a total of 0 means that nobody knows it. */
export function make_open_progress(label: string, total: number): progress {
  return total > 0 ? make_progress(label, total) : make_counter(label);
}

export function make_progress(label: string, total: number): progress {
  const err = process.stderr;
  const started = performance.now();
  const state = { tenth: 0, drawn: 0 };
  const text = (done: number, note: string): string => {
    const part = total > 0 ? Math.min(1, done / total) : 1;
    const seconds = (performance.now() - started) / 1000;
    const left = part > 0 ? Math.round((seconds / part) * (1 - part)) : 0;
    const percent = `${Math.floor(part * 100)}%`.padStart(4);
    return `${label} ${percent} ${done}/${total}, ${left} s left${note ? `, ${note}` : ""}`;
  };
  return {
    update(done, note = "") {
      if (err.isTTY) {
        const now = performance.now();
        if (now - state.drawn < REDRAW_MS && done < total) return;
        state.drawn = now;
        const full = total > 0 ? Math.round((WIDTH * done) / total) : WIDTH;
        const bar = "#".repeat(full).padEnd(WIDTH, ".");
        err.write(`\r\x1b[2K[${bar}] ${text(done, note)}`);
        return;
      }
      const tenth = total > 0 ? Math.floor((done * 10) / total) : 10;
      if (tenth <= state.tenth) return;
      state.tenth = tenth;
      err.write(`${text(done, note)}\n`);
    },
    stop() {
      if (err.isTTY) err.write("\r\x1b[2K");
    },
  };
}

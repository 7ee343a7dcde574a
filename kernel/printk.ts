/**
 * kernel/printk.ts - the kernel log. Linux: kernel/printk/printk.c, kernel/panic.c (WARN).
 *
 * A ring of entries, oldest dropped first. A warning is an entry at level 4 and sets TAINT_WARN,
 * which tests look at: a run that splats is not a clean run.
 */
export const KERN_EMERG = 0;
export const KERN_ALERT = 1;
export const KERN_CRIT = 2;
export const KERN_ERR = 3;
export const KERN_WARNING = 4;
export const KERN_NOTICE = 5;
export const KERN_INFO = 6;
export const KERN_DEBUG = 7;

/** kernel.taint bits, values of Documentation/admin-guide/tainted-kernels.rst */
export const TAINT_DIE = 1 << 7;
export const TAINT_WARN = 1 << 9;

export interface log_entry {
  /** Nanoseconds since boot. */
  readonly time: number;
  readonly level: number;
  readonly text: string;
}

const LOG_ENTRIES_MAX = 4096;

export class printk_log {
  private ring: log_entry[] = [];
  private first = 0;
  /** Entries dropped because the ring was full. */
  dropped = 0;

  add(time: number, level: number, text: string): void {
    for (const line of text.split("\n")) {
      const entry = Object.freeze({ time, level, text: line });
      if (this.ring.length < LOG_ENTRIES_MAX) {
        this.ring.push(entry);
      } else {
        this.ring[this.first] = entry;
        this.first = (this.first + 1) % LOG_ENTRIES_MAX;
        this.dropped++;
      }
    }
  }

  /** Oldest first. */
  entries(): log_entry[] {
    return [...this.ring.slice(this.first), ...this.ring.slice(0, this.first)];
  }

  clear(): void {
    this.ring = [];
    this.first = 0;
  }
}

/** "[    1.234567] text", as dmesg prints it. */
export function format_entry(e: log_entry): string {
  const us = Math.floor(e.time / 1000);
  const sec = String(Math.floor(us / 1_000_000)).padStart(5, " ");
  return `[${sec}.${String(us % 1_000_000).padStart(6, "0")}] ${e.text}`;
}

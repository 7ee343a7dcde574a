/**
 * kernel/time.ts - virtual time. Linux: kernel/time/{timekeeping,hrtimer}.c.
 *
 * Nanoseconds since boot as a number (2^53 ns are 104 days). The wall clock is boot time,
 * 2024-01-01 00:00:00 UTC unless the Machine says otherwise, plus that. Nothing here reads a real
 * clock: time moves only through Sched (every task waits and one waits for time) or `advance()`.
 */
import type { timespec64 } from "./include/fs.ts";

export const NSEC_PER_SEC = 1_000_000_000;
export const NSEC_PER_MSEC = 1_000_000;
/** CONFIG_HZ of the recorded kernel: file times move in ticks of 4 ms. */
export const HZ = 250;
export const TICK_NSEC = NSEC_PER_SEC / HZ;
/** 2024-01-01T00:00:00Z in seconds. */
export const BOOT_TIME_SEC = 1_704_067_200;

export class VirtualClock {
  /** Nanoseconds since boot. Moved by Sched and advance(). */
  now_ns = 0;
  readonly boot_sec: number;
  /** When the tick of `coarse` ends; before that, nothing has to be worked out. */
  private tick_end = -1;
  private coarse: timespec64 = { tv_sec: 0, tv_nsec: 0 };

  constructor(boot_sec: number = BOOT_TIME_SEC) {
    this.boot_sec = boot_sec;
  }

  /** Moves time forward, as a busy processor would; timers due fire when the machine next idles. */
  advance(ns: number): void {
    if (ns > 0) this.now_ns += Math.round(ns);
  }

  /** Exact wall clock (clock_gettime(CLOCK_REALTIME)). */
  real_fine(): timespec64 {
    const ns = this.now_ns;
    return {
      tv_sec: this.boot_sec + Math.floor(ns / NSEC_PER_SEC),
      tv_nsec: ns % NSEC_PER_SEC,
    };
  }

  /** Wall clock at the last tick: what file times are made of. The same object within one tick. */
  real(): timespec64 {
    if (this.now_ns >= this.tick_end) this.tick();
    return this.coarse;
  }

  private tick(): void {
    const ns = Math.floor(this.now_ns / TICK_NSEC) * TICK_NSEC;
    this.tick_end = ns + TICK_NSEC;
    this.coarse = Object.freeze({
      tv_sec: this.boot_sec + Math.floor(ns / NSEC_PER_SEC),
      tv_nsec: ns % NSEC_PER_SEC,
    });
  }
}

/** kernel.time */
export class kernel_time {
  private readonly clock: VirtualClock;
  constructor(clock: VirtualClock) {
    this.clock = clock;
  }
  /** Nanoseconds since boot. */
  ktime_get_ns(): number {
    return this.clock.now_ns;
  }
  /** ktime_get_coarse_real_ts64(): what current_time() truncates to s_time_gran. */
  real(): timespec64 {
    return this.clock.real();
  }
  real_fine(): timespec64 {
    return this.clock.real_fine();
  }
  /** Ticks since boot. */
  get jiffies(): number {
    return Math.floor(this.clock.now_ns / TICK_NSEC);
  }
}

/** -1, 0 or 1. */
export function timespec64_compare(a: timespec64, b: timespec64): number {
  if (a.tv_sec !== b.tv_sec) return a.tv_sec < b.tv_sec ? -1 : 1;
  if (a.tv_nsec !== b.tv_nsec) return a.tv_nsec < b.tv_nsec ? -1 : 1;
  return 0;
}

export function timespec64_equal(a: timespec64, b: timespec64): boolean {
  return a.tv_sec === b.tv_sec && a.tv_nsec === b.tv_nsec;
}

/**
 * kernel/sched/timer.ts - what is due when. Linux: kernel/time/timer.c.
 *
 * A binary heap by time, then by order of arming. A deferrable timer (background work: periodic
 * writeback) fires when time passes for another reason and never makes time pass, else no run would
 * ever end.
 */
export interface timer {
  /** Nanoseconds since boot. */
  readonly expires: number;
  readonly seq: number;
  readonly deferrable: boolean;
  fire: (() => void) | null;
}

export class timer_queue {
  private readonly heap: timer[] = [];
  private seq = 0;
  /** Armed timers that make time pass. */
  driving = 0;

  get empty(): boolean {
    return this.heap.length === 0;
  }

  add(expires: number, deferrable: boolean, fire: () => void): timer {
    const t: timer = { expires, seq: this.seq++, deferrable, fire };
    if (!deferrable) this.driving++;
    this.heap.push(t);
    this.up(this.heap.length - 1);
    return t;
  }

  /** Disarms; harmless if it has fired. */
  del(t: timer): void {
    if (t.fire === null) return;
    t.fire = null;
    if (!t.deferrable) this.driving--;
  }

  /**
   * When time should next stop: the first timer of either kind, if any makes time pass; else
   * Infinity.
   */
  next_stop(): number {
    if (this.driving === 0) return Infinity;
    for (;;) {
      const top = this.heap[0]!;
      if (top.fire !== null) return top.expires;
      this.drop_top();
    }
  }

  /** Takes the first timer due at or before `now`. */
  pop_due(now: number): (() => void) | null {
    for (;;) {
      const top = this.heap[0];
      if (top === undefined || (top.fire !== null && top.expires > now)) return null;
      this.drop_top();
      if (top.fire === null) continue;
      const fire = top.fire;
      this.del(top);
      return fire;
    }
  }

  private drop_top(): void {
    const last = this.heap.pop()!;
    if (this.heap.length === 0) return;
    this.heap[0] = last;
    this.down(0);
  }

  private before(i: number, j: number): boolean {
    const a = this.heap[i]!;
    const b = this.heap[j]!;
    return a.expires < b.expires || (a.expires === b.expires && a.seq < b.seq);
  }

  private swap(i: number, j: number): void {
    const t = this.heap[i]!;
    this.heap[i] = this.heap[j]!;
    this.heap[j] = t;
  }

  private up(i: number): void {
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.before(i, parent)) return;
      this.swap(i, parent);
      i = parent;
    }
  }

  private down(i: number): void {
    for (;;) {
      let least = i;
      const left = 2 * i + 1;
      if (left < this.heap.length && this.before(left, least)) least = left;
      if (left + 1 < this.heap.length && this.before(left + 1, least)) least = left + 1;
      if (least === i) return;
      this.swap(i, least);
      i = least;
    }
  }
}

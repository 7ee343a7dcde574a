/**
 * tools/selftest/locking/order_cells.ts - cells about the order of locks: plain, reader/writer, and
 * in interrupts. Linux: lib/locking-selftest.c, events and verdicts only.
 */
import { cell, type cell_body, type locking_cell, type locking_row, orders } from "./table.ts";
import type { cell_world, irq_kind, lock_kind } from "./world.ts";

const KINDS: readonly lock_kind[] = ["spin", "wlock", "rlock", "mutex", "wsem", "rsem", "rtmutex"];
const IRQS: readonly irq_kind[] = ["hard", "soft"];

type kind_body = (w: cell_world, kind: lock_kind) => void;

// ------------------------------------------------------------------ plain rows

function plain(name: string, verdict: (k: lock_kind) => "!" | ".", body: kind_body): locking_row {
  const cells: Record<string, locking_cell[]> = {};
  for (const k of KINDS) cells[k] = [cell(verdict(k), (w) => body(w, k))];
  return { name, cells };
}

const recursive_reads_pass = (k: lock_kind): "!" | "." => (k === "rlock" ? "." : "!");
const always = (): "!" => "!";

/** "AB BC CA": each pair nested in turn. */
function pairs(text: string): locking_row {
  return plain(text.replaceAll(" ", "-"), recursive_reads_pass, (w, k) => {
    for (const p of text.split(" ")) w.pair(k, p[0]!, p[1]!);
  });
}

export const plain_rows: readonly locking_row[] = [
  plain("A-A", recursive_reads_pass, (w, k) => {
    w.lock(k, "X1");
    w.lock(k, "X2");
  }),
  pairs("AB BA"),
  pairs("AB BC CA"),
  pairs("AB CA BC"),
  pairs("AB BC CD DA"),
  pairs("AB CD BD DA"),
  pairs("AB CD BC DA"),
  plain("double unlock", always, (w, k) => {
    w.lock(k, "A");
    w.unlock(k, "A");
    w.unlock(k, "A");
  }),
  plain("init while held", always, (w, k) => {
    w.lock(k, "A");
    w.init(k, "A");
  }),
];

// ------------------------------------------------------------------ readers and writers

interface rw_kinds {
  read: lock_kind;
  write: lock_kind;
  /** Of Y. */
  other: lock_kind;
}
const RWLOCK: rw_kinds = { read: "rlock", write: "wlock", other: "spin" };
const RWSEM: rw_kinds = { read: "rsem", write: "wsem", other: "mutex" };

function rw_row(
  name: string,
  rwlock: "!" | ".",
  rwsem: "!" | "." | " ",
  body: (w: cell_world, k: rw_kinds) => void,
): locking_row {
  const cells: Record<string, locking_cell[]> = { rwlock: [cell(rwlock, (w) => body(w, RWLOCK))] };
  if (rwsem !== " ") cells.rwsem = [cell(rwsem, (w) => body(w, RWSEM))];
  return { name, cells };
}

/** {`first` X, lock Y}, then {lock Y, `second` X} for each of the seconds. */
function abba(
  first: "read" | "write",
  ...seconds: ("read" | "write")[]
): (w: cell_world, k: rw_kinds) => void {
  return (w, k) => {
    w.held(k[first], "X1", () => w.held(k.other, "Y1"));
    for (const s of seconds) w.held(k.other, "Y1", () => w.held(k[s], "X1"));
  };
}

function two(first: "read" | "write", a: string, second: "read" | "write", b: string) {
  return (w: cell_world, k: rw_kinds): void => {
    w.lock(k[first], a);
    w.lock(k[second], b);
  };
}

export const rw_rows: readonly locking_row[] = [
  rw_row("read, read same instance", ".", "!", two("read", "X1", "read", "X1")),
  rw_row("read, read same class", ".", "!", two("read", "X1", "read", "X2")),
  rw_row("read, write", "!", "!", two("read", "X1", "write", "X2")),
  rw_row("write, read", "!", "!", two("write", "X1", "read", "X2")),
  rw_row("ABBA 1: read X, write X", "!", "!", abba("read", "write")),
  rw_row("ABBA 2: read X, read X", ".", "!", abba("read", "read")),
  rw_row("ABBA 3: write X, write X", "!", "!", abba("write", "write")),
  rw_row("chain cache", "!", " ", abba("read", "read", "write")),
];

/** "WX RY": hold X as a writer, take Y as a reader. */
function rw_event(text: string): cell_body {
  const [outer, inner] = text.split(" ") as [string, string];
  const kind = (s: string): lock_kind => (s[0] === "W" ? "wlock" : "rlock");
  return (w) => w.held(kind(outer), `${outer[1]}1`, () => w.held(kind(inner), `${inner[1]}1`));
}

function triple(name: string, verdict: "!" | ".", ...events: string[]): locking_row {
  const all = orders(events.map(rw_event));
  return { name, cells: { rwlock: all.map((o) => cell(verdict, o.body, o.name)) } };
}

/** The bodies of the last two are the kernel's, whose printed names are swapped. */
export const triple_rows: readonly locking_row[] = [
  triple("W1R2/W2R3/W3R1", "!", "WX RY", "WY RZ", "WZ RX"),
  triple("W1W2/R2R3/W3R1", "!", "WX WY", "RY RZ", "WZ RX"),
  triple("W1W2/R2R3/R3W1", ".", "WX RY", "RY RZ", "WZ WX"),
  triple("W1R2/R2R3/W3W1", ".", "WX WY", "RY RZ", "RZ WX"),
];

// ------------------------------------------------------------------ interrupts

type irq_body = (w: cell_world, kind: lock_kind, irq: irq_kind) => void;

function irq_cells(
  verdict: "!" | ".",
  kind: lock_kind,
  irqs: readonly irq_kind[],
  events: readonly irq_body[],
): locking_cell[] {
  return irqs.flatMap((irq) => {
    const bodies = events.map(
      (e): cell_body =>
        (w) =>
          e(w, kind, irq),
    );
    return orders(bodies).map((o) => cell(verdict, o.body, `${irq} ${o.name}`));
  });
}

function irq_row(name: string, events: readonly irq_body[], irqs = IRQS): locking_row {
  const cells: Record<string, locking_cell[]> = {};
  for (const k of ["spin", "wlock", "rlock"] as const) {
    cells[k] = irq_cells(k === "rlock" ? "." : "!", k, irqs, events);
  }
  return { name, cells };
}

function read_recursion_row(
  name: string,
  verdicts: Readonly<Record<"wlock" | "rlock", "!" | ".">>,
  events: readonly irq_body[],
): locking_row {
  const cells: Record<string, locking_cell[]> = {};
  for (const k of ["wlock", "rlock"] as const) cells[k] = irq_cells(verdicts[k], k, IRQS, events);
  return { name, cells };
}

const lock_a: irq_body = (w, k) => w.held(k, "A");
const lock_b: irq_body = (w, k) => w.held(k, "B");
const read_a: irq_body = (w) => w.held("rlock", "A");
const irq_lock_a: irq_body = (w, k, irq) => w.in_irq(irq, () => w.held(k, "A"));

export const irq_rows: readonly locking_row[] = [
  irq_row("irqs-on + irq-safe A", [irq_lock_a, lock_a]),
  irq_row(
    "soft-safe A, hardirqs on",
    [
      irq_lock_a,
      (w, k) => {
        w.irq_disable("hard");
        w.held(k, "A", () => w.irq_enable("hard"));
      },
    ],
    ["soft"],
  ),
  irq_row("safe A + irqs on", [
    irq_lock_a,
    (w, k, irq) => {
      w.irq_disable(irq);
      w.held(k, "A", () => w.irq_enable(irq));
    },
  ]),
  irq_row("safe A + unsafe B, 1", [(w, k) => w.pair(k, "A", "B"), lock_b, irq_lock_a]),
  irq_row("safe A + unsafe B, 2", [
    (w, k, irq) => w.irq_off(irq, () => w.pair(k, "A", "B")),
    lock_b,
    irq_lock_a,
  ]),
  irq_row("inversion", [
    (w, k, irq) => w.irq_off(irq, () => w.held("wlock", "A", () => w.held(k, "B"))),
    lock_b,
    (w, _k, irq) => w.in_irq(irq, () => w.held("rlock", "A")),
  ]),
  read_recursion_row("read recursion 1", { wlock: "!", rlock: "." }, [
    (w, _k, irq) => w.irq_off(irq, () => w.held("wlock", "A")),
    read_a,
    (w, k, irq) => w.in_irq(irq, () => w.held(k, "A", () => w.held("spin", "B"))),
  ]),
  read_recursion_row("read recursion 2", { wlock: "!", rlock: "." }, [
    (w, k, irq) => w.irq_off(irq, () => w.held("spin", "B", () => w.held(k, "A"))),
    read_a,
    (w, _k, irq) => w.in_irq(irq, () => w.held("spin", "B")),
  ]),
  read_recursion_row("read recursion 3", { wlock: "!", rlock: "." }, [
    (w, k, irq) => w.irq_off(irq, () => w.held("wlock", "B", () => w.held(k, "A"))),
    read_a,
    (w, _k, irq) => w.in_irq(irq, () => w.held("rlock", "B")),
  ]),
];

import { Kernel } from "../../kernel/kernel.ts";
import { FAULT_FLAG_WRITE, VM_FAULT_NOPAGE, VM_SHARED } from "../../kernel/include/mm_types.ts";
import { MKDEV } from "../../kernel/include/stat.ts";
import { trace_dax_pte_fault, trace_dax_writeback_one } from "../../kernel/include/trace_fs_dax.ts";
import { Machine } from "../../kernel/machine.ts";
import { define_trace, event_text, ftrace_line, type trace_event } from "../../kernel/trace.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/trace");
const TEST_EVENT = define_trace("test", "test_event", { n: "dec", at: "hex", who: "str" } as const);

function kernel(): Kernel {
  return new Kernel(new Machine());
}
const pte_fault = {
  dev: MKDEV(259, 1),
  ino: 12,
  vm_flags: VM_SHARED,
  address: 0x7f0000001000,
  pgoff: 1,
  flags: FAULT_FLAG_WRITE,
  result: VM_FAULT_NOPAGE,
};

t("nothing is recorded until somebody asks", () => {
  const k = kernel();
  assert.not.ok(k.trace.enabled);
  k.trace.emit(TEST_EVENT, { n: 1, at: 2, who: "x" });
  assert.equal(k.trace.events(), []);
});

t("a subscriber gets typed events of its system until it unsubscribes", () => {
  const k = kernel();
  const seen: trace_event[] = [];
  const off = k.trace.subscribe((e) => seen.push(e), ["fs_dax"]);
  k.trace.emit(TEST_EVENT, { n: 1, at: 2, who: "x" });
  k.trace.emit(trace_dax_pte_fault, pte_fault);
  assert.is(seen.length, 1);
  assert.is(seen[0]!.name, "dax_pte_fault");
  assert.equal(seen[0]!.fields, pte_fault);
  off();
  assert.not.ok(k.trace.enabled);
});

t("events carry task and time and print as ftrace lines", () => {
  const k = kernel();
  k.trace.start();
  k.machine.clock.advance(1_234_567_000);
  void k.machine.in_task(k, "dd", () => k.trace.emit(trace_dax_pte_fault, pte_fault));
  const e = k.trace.events()[0]!;
  assert.is(e.pid, 1);
  assert.is(
    ftrace_line(e),
    "              dd-1       [000] .....      1.234567: dax_pte_fault: " +
      "dev 259:1 ino 0xc shared WRITE address 0x7f0000001000 pgoff 0x1 NOPAGE",
  );
});

t("a tracepoint without a text of its own prints its fields in order", () => {
  const k = kernel();
  k.trace.start(["test_event"]);
  k.trace.emit(TEST_EVENT, { n: 10, at: 255, who: "x" });
  k.trace.emit(trace_dax_writeback_one, { dev: 0, ino: 1, pgoff: 0, pglen: 1 });
  assert.equal(k.trace.events().map(event_text), ["n=10 at=0xff who=x"]);
});

t("a full ring drops the oldest events and counts them", () => {
  const k = kernel();
  k.trace.start();
  for (let n = 0; n < 16_384 + 3; n++) k.trace.emit(TEST_EVENT, { n, at: 0, who: "" });
  const events = k.trace.events();
  assert.is(events.length, 16_384);
  assert.is((events[0]!.fields as { n: number }).n, 3);
  assert.is(k.trace.overrun, 3);
});

t.run();

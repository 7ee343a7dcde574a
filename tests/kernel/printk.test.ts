import { is_not_implemented, notImplemented } from "../../kernel/assert.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { Machine } from "../../kernel/machine.ts";
import { format_entry, KERN_DEBUG, TAINT_WARN } from "../../kernel/printk.ts";
import { behaves, since } from "../../kernel/release.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/printk");

t("log lines carry virtual time in the kernel's own format", () => {
  const m = new Machine();
  const k = new Kernel(m);
  k.pr_info("pmem0: detected");
  m.clock.advance(12_345_678_901);
  k.pr_err("EXT4-fs error");
  assert.equal(k.dmesg().map(format_entry), [
    "[    0.000000] pmem0: detected",
    "[   12.345678] EXT4-fs error",
  ]);
  assert.is(k.dmesg()[1]!.level, 3);
});

t("debug messages are kept but not shown unless asked for", () => {
  const k = new Kernel(new Machine());
  k.pr_debug("detail");
  assert.is(k.dmesg().length, 0);
  assert.is(k.dmesg(KERN_DEBUG).length, 1);
});

t("the log keeps the newest lines when it is full", () => {
  const k = new Kernel(new Machine());
  for (let i = 0; i < 5000; i++) k.pr_info(`line ${i}`);
  const log = k.dmesg();
  assert.is(log.length, 4096);
  assert.is(log[0]!.text, "line 904");
  assert.is(log[4095]!.text, "line 4999");
});

t("a warning is logged with its task, counted and taints", () => {
  const m = new Machine();
  const k = new Kernel(m);
  assert.not.ok(k.WARN_ON(false, "not this"));
  assert.is(k.taint, 0);
  void m.in_task(k, "dd", () => {
    assert.ok(k.WARN_ON(true, "dax_insert_entry: share count is off"));
    assert.ok(k.WARN_ON_ONCE(true, "once"));
    assert.ok(k.WARN_ON_ONCE(true, "once"));
  });
  assert.is(k.taint, TAINT_WARN);
  assert.is(k.nr_warnings, 2);
  const warnings = k.dmesg().filter((e) => e.text.startsWith("WARNING:"));
  assert.is(
    warnings[0]!.text,
    "WARNING: CPU: 0 PID: 1 Comm: dd: dax_insert_entry: share count is off",
  );
});

t("what is not implemented is neither an errno nor silent", () => {
  let e: unknown;
  try {
    notImplemented("FALLOC_FL_INSERT_RANGE");
  } catch (thrown) {
    e = thrown;
  }
  assert.ok(is_not_implemented(e));
  assert.not.ok(is_errno(e));
  assert.is((e as Error).message, "not implemented: FALLOC_FL_INSERT_RANGE");
});

t("the release selects behaviour, and an unknown one is refused", () => {
  const k61 = new Kernel(new Machine());
  const k68 = new Kernel(new Machine(), { release: "6.8" });
  assert.is(k61.release, "6.1");
  assert.ok(since(k68, "6.2") && !since(k61, "6.2"));
  assert.ok(behaves(k68, "dax_read_fault_keeps_clean"));
  assert.not.ok(behaves(k68, "dax_page_refcounts"));
  const bad = (): Kernel => new Kernel(new Machine(), { release: "7.0" as never });
  assert.throws(bad, /release "7.0" is not known/);
  const odd = (): Kernel => new Kernel(new Machine(), { page_shift: 13 as never });
  assert.throws(odd, /page_shift 13/);
});

t("command line options are words", () => {
  const k = new Kernel(new Machine(), { cmdline: "quiet memmap=4G!12G  dax" });
  assert.is(k.cmdline_option("memmap"), "4G!12G");
  assert.is(k.cmdline_option("dax"), "");
  assert.is(k.cmdline_option("mem"), undefined);
});

t.run();

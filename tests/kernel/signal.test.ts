import { CAP_DAC_OVERRIDE, CAP_LEASE } from "../../kernel/include/cred.ts";
import {
  capable,
  cred_has_cap,
  cred_with_cap,
  current_fsuid,
  in_group_p,
  make_cred,
} from "../../kernel/cred.ts";
import { EEXIST } from "../../kernel/include/errno.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { percpu_ref, refcount } from "../../kernel/lib/refcount.ts";
import { Machine } from "../../kernel/machine.ts";
import { NOTIFY_DONE, NOTIFY_OK, NOTIFY_STOP, notifier_head } from "../../kernel/notifier.ts";
import * as sig from "../../kernel/signal.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/signal");

t("signals print as the recorded cases name them", () => {
  const text = (signo: number, code: number, lsb = 0): string =>
    sig.signal_text(sig.make_siginfo(signo, code, 0x1000, lsb));
  assert.is(text(sig.SIGBUS, sig.BUS_ADRERR), "SIGBUS BUS_ADRERR");
  assert.is(text(sig.SIGBUS, sig.BUS_MCEERR_AR, 12), "SIGBUS BUS_MCEERR_AR lsb=12");
  assert.is(text(sig.SIGSEGV, sig.SEGV_ACCERR), "SIGSEGV SEGV_ACCERR");
  assert.is(text(sig.SIGTERM, sig.SI_USER), "SIGTERM");
  assert.ok(sig.is_signal(sig.make_siginfo(sig.SIGBUS, 2)));
  assert.not.ok(sig.is_signal(new Error("no")));
});

t("a signal without a handler kills, an ignored one is dropped, SIGKILL always kills", () => {
  const k = new Kernel(new Machine());
  const p = k.machine.new_thread(k, "p");
  sig.kill_task(p, sig.SIGCHLD);
  assert.not.ok(sig.signal_pending(p));
  p.signal!.handled.add(sig.SIGUSR1);
  sig.kill_task(p, sig.SIGUSR1, 7);
  assert.ok(sig.signal_pending(p));
  assert.not.ok(sig.fatal_signal_pending(p));
  assert.is(sig.dequeue_signal(p)!.pid, 7);
  assert.is(sig.dequeue_signal(p), null);
  p.signal!.ignored.add(sig.SIGKILL);
  sig.kill_task(p, sig.SIGKILL);
  assert.ok(sig.fatal_signal_pending(p));
  assert.is(p.signal!.killed_by, sig.SIGKILL);
});

t("root has every capability, others those they are given", () => {
  const k = new Kernel(new Machine());
  assert.ok(capable(k, CAP_DAC_OVERRIDE));
  const user = make_cred(1000, 100, [5]);
  const p = k.machine.new_thread(k, "p");
  p.cred = user;
  void k.machine.sched.call(p, () => {
    assert.not.ok(capable(k, CAP_LEASE));
    assert.is(current_fsuid(k), 1000);
    assert.ok(in_group_p(k, 100) && in_group_p(k, 5));
    assert.not.ok(in_group_p(k, 6));
  });
  const lease = cred_with_cap(user, CAP_LEASE, true);
  assert.ok(cred_has_cap(lease, CAP_LEASE));
  assert.not.ok(cred_has_cap(cred_with_cap(lease, CAP_LEASE, false), CAP_LEASE));
  assert.not.ok(cred_has_cap(user, CAP_LEASE), "credentials are never changed in place");
});

t("a notifier chain asks by priority and stops when told to", async () => {
  const head = new notifier_head<string[]>();
  const block = (name: string, priority: number, answer: number, sleeps = false) => ({
    priority,
    notifier_call(_action: number, log: string[]) {
      log.push(name);
      return sleeps ? Promise.resolve(answer) : answer;
    },
  });
  const low = block("low", 0, NOTIFY_OK);
  head.register(low);
  head.register(block("high", 9, NOTIFY_DONE));
  head.register(block("mid", 5, NOTIFY_OK));
  assert.throws(
    () => head.register(low),
    (e) => e === EEXIST,
  );
  const log: string[] = [];
  assert.is(head.call(1, log), NOTIFY_OK);
  assert.equal(log, ["high", "mid", "low"]);
  head.register(block("stop", 7, NOTIFY_STOP, true));
  log.length = 0;
  assert.is(await head.call(1, log), NOTIFY_STOP);
  assert.equal(log, ["high", "stop"]);
  head.unregister(low);
  assert.throws(() => head.unregister(low), "not on the chain");
});

t("reference counts find use after free", () => {
  const r = new refcount();
  r.inc();
  assert.not.ok(r.dec_and_test());
  assert.ok(r.dec_and_test());
  assert.not.ok(r.inc_not_zero());
  assert.throws(() => r.inc(), "use after free");
  assert.throws(() => r.dec_and_test(), "underflow");
  const log: string[] = [];
  const p = new percpu_ref(() => log.push("released"));
  assert.ok(p.tryget_live());
  p.kill(() => log.push("confirmed"));
  assert.not.ok(p.tryget_live());
  assert.ok(p.tryget(), "not yet gone");
  p.put();
  assert.equal(log, ["confirmed"]);
  p.put();
  assert.equal(log, ["confirmed", "released"]);
  assert.ok(p.is_zero());
  assert.not.ok(p.tryget());
});

t.run();

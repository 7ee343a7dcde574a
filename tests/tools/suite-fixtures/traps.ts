/**
 * One way of failing (or not) per run, named by DAXLAB_TRAP; started by tests/tools/suite.test.ts.
 */
import { add_leak_check, assert, check_after_this_test, on_dump } from "../../lib/suite.ts";
import { requires, suite } from "../../lib/suite.ts";

const t = suite("trap");
const never = () => new Promise<void>(() => {});

const traps: Record<string, () => void> = {
  passes() {
    t("one", () => {});
    t("two", async () => assert.is(1, 1));
  },
  before_throws() {
    t.before(() => {
      throw new Error("no device");
    });
    t("one", () => {});
    t("two", () => {});
  },
  before_each_throws() {
    t.before_each(() => {
      throw new Error("no device");
    });
    t("one", () => {});
  },
  after_throws() {
    t.after(() => {
      throw new Error("still mounted");
    });
    t("one", () => {});
  },
  after_each_throws() {
    t.after_each(() => {
      throw new Error("still mounted");
    });
    t("one", () => {});
  },
  throws_number() {
    t("one", () => {
      throw -28;
    });
    t("two", () => {});
  },
  throws_string() {
    t("one", () => {
      throw "ENOSPC";
    });
  },
  rejects_undefined() {
    t("one", () => Promise.reject());
  },
  hangs() {
    on_dump(() => "held locks: &inode->i_rwsem");
    t("one", never);
    t("two", () => {});
  },
  hangs_alive() {
    t(
      "one",
      async () => {
        const timer = setInterval(() => {}, 10);
        await never().finally(() => clearInterval(timer));
      },
      { timeout_ms: 100 },
    );
    t("two", () => {});
  },
  hook_hangs() {
    t.before_each(never);
    t("one", () => {});
  },
  forgotten_run() {
    t("one", () => {
      throw new Error("really ran");
    });
  },
  no_tests() {},
  only() {
    t("one", () => {});
    (t as unknown as { only: typeof t }).only("two", () => {});
  },
  exits() {
    t("one", () => process.exit(0));
    t("two", () => {});
  },
  exit_code() {
    t("one", () => {
      throw new Error("wrong");
    });
    t("two", () => {
      process.exitCode = 0;
    });
  },
  stray_rejection() {
    t("one", async () => {
      void Promise.reject(new Error("nobody waits"));
      await new Promise((resolve) => setTimeout(resolve, 20));
    });
    t("two", () => {});
  },
  stray_throw() {
    t("one", async () => {
      setTimeout(() => {
        throw new Error("in a timer");
      });
      await new Promise((resolve) => setTimeout(resolve, 20));
    });
  },
  leak() {
    add_leak_check((name) => (name.endsWith("two") ? "WARNING: held lock freed" : undefined));
    t("one", () => {});
    t("two", () => {});
  },
  leak_once() {
    t("one", () => check_after_this_test(() => "a page is still pinned"));
    t("two", () => {});
  },
  skips() {
    t("one", () => requires(false, "no loop device"));
    t.skip("two", "not on this release");
    t("three", () => {}, { groups: ["long"] });
    t("four", () => {});
  },
  replay() {
    t("one", () => {
      throw Object.assign(new Error("found a cycle"), { replay: "daxlab replay abc" });
    });
  },
  null_prototype() {
    t("one", () => assert.equal(Object.create(null), { a: 1 }));
    t("two", () => assert.equal({ a: { b: 1 } }, { a: undefined }));
  },
  throws_text() {
    t("one", () => {
      assert.throws(() => {
        throw new Error("EIO");
      }, "ENOSPC");
    });
  },
};

traps[process.env["DAXLAB_TRAP"] ?? ""]!();
if (process.env["DAXLAB_TRAP"] !== "forgotten_run") t.run();

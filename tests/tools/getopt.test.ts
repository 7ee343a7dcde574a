/** Command lines and sizes as the C tools read them. */
import { getopt_long, type long_option } from "../../tools/cmd/getopt.ts";
import { parse_integer, parse_size } from "../../tools/cmd/size.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/getopt");

const LONG: readonly long_option[] = [
  { name: "size", has_arg: 1, val: "s" },
  { name: "sector-size", has_arg: 1, val: "l" },
  { name: "force", has_arg: 0, val: "f" },
  { name: "verbose", has_arg: 2, val: "v" },
  { name: "verify", has_arg: 0, val: "y" },
];
const parse = (...args: string[]) => getopt_long(args, "s:fv::x", LONG);

t("options and operands may be mixed, and -- ends the options", () => {
  const r = parse("a", "-f", "b", "-s", "1", "--", "-x", "c");
  assert.equal(r.options, [{ opt: "f" }, { opt: "s", arg: "1" }]);
  assert.equal(r.operands, ["a", "b", "-x", "c"]);
});

t("a leading + stops at the first operand", () => {
  const r = getopt_long(["-f", "run", "-x"], "+fx");
  assert.equal(r.options, [{ opt: "f" }]);
  assert.equal(r.operands, ["run", "-x"]);
});

t("short options are bundled and take their argument attached or next", () => {
  assert.equal(parse("-fxs4k").options, [{ opt: "f" }, { opt: "x" }, { opt: "s", arg: "4k" }]);
  assert.equal(parse("-v", "1").options, [{ opt: "v" }]);
  assert.equal(parse("-v1").options, [{ opt: "v", arg: "1" }]);
  assert.equal(parse("-").operands, ["-"]);
});

t("long options may be cut to a unique prefix", () => {
  assert.equal(parse("--si=3").options, [{ opt: "s", arg: "3" }]);
  assert.equal(parse("--fo", "--sec", "512").options, [{ opt: "f" }, { opt: "l", arg: "512" }]);
  assert.equal(parse("--verb").options, [{ opt: "v" }]);
  assert.match(parse("--ver").options[0]!.message!, /ambiguous.*'--verbose' '--verify'/);
});

t("wrong options say what is wrong", () => {
  const message = (...args: string[]) => parse(...args).options.at(-1)!.message!;
  assert.is(message("-q"), "invalid option -- 'q'");
  assert.is(message("-s"), "option requires an argument -- 's'");
  assert.is(message("--size"), "option '--size' requires an argument");
  assert.is(message("--force=1"), "option '--force' doesn't allow an argument");
  assert.is(message("--nothing"), "unrecognized option '--nothing'");
});

t("sizes have binary units", () => {
  assert.is(parse_size("4k"), 4096);
  assert.is(parse_size("2M"), 2 ** 21);
  assert.is(parse_size("1g"), 2 ** 30);
  assert.is(parse_size("0x10"), 16);
  assert.is(parse_size("010"), 8);
  assert.is(parse_size("7", { plain: 1024 }), 7168);
  assert.is(parse_size("8s", { sector: 512 }), 4096);
  assert.is(parse_size("3b", { block: 4096 }), 12288);
  for (const bad of ["", "k", "4kk", "-1", "8s", "1.5", "9999999t", "4 k"]) {
    assert.is(parse_size(bad), undefined, bad);
  }
  assert.is(parse_integer("0x1f"), 31);
  assert.is(parse_integer("12k"), undefined);
});

t.run();

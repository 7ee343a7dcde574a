/**
 * tools/cmd/e2fsck/command.ts - e2fsck as people call it. It only checks: nothing is repaired.
 *
 * Exit status as the real tool's: 0 no errors, 4 errors are left, 8 the filesystem cannot be
 * checked, 16 wrong usage.
 */
import { notImplemented } from "../../../kernel/assert.ts";
import { EXT4_ERROR_FS, EXT4_VALID_FS, ext4_super_block } from "../../../fs/ext4/ext4.ts";
import { fsck_ext4, fsck_text } from "../fsck_ext4.ts";
import { getopt_long } from "../getopt.ts";
import type { fsck_device } from "./image.ts";

const E2FSCK_OK = 0;
const E2FSCK_UNCORRECTED = 4;
const E2FSCK_ERROR = 8;
const E2FSCK_USAGE = 16;

export interface e2fsck_result {
  status: number;
  stdout: string;
  stderr: string;
}

const said = (status: number, stdout: string, stderr = ""): e2fsck_result => ({
  status,
  stdout,
  stderr,
});

interface e2fsck_words {
  force: boolean;
  /** Nothing would be written: every question is answered "no". */
  no: boolean;
  /** None of -n, -p, -a and -y: it would ask. */
  asks: boolean;
  device: string;
}

/** The options, or what is wrong with them. */
export function e2fsck_words(args: readonly string[]): e2fsck_words | string {
  const { options, operands } = getopt_long(args, "panyvtfFVc");
  const has = (opt: string): boolean => options.some((o) => o.opt === opt);
  const wrong = options.find((o) => o.opt === "?");
  if (wrong) return wrong.message!;
  if (operands.length !== 1) return "one device is needed";
  const answers = ["n", "y"].filter(has).length + (has("p") || has("a") ? 1 : 0);
  if (answers > 1) return "only one of the options -p/-a, -n and -y may be given";
  return { force: has("f"), no: has("n"), asks: answers === 0, device: operands[0]! };
}

/** A clean superblock is trusted without -f. */
function needs_check(dev: fsck_device): boolean {
  if (dev.size < 2048) return true;
  const es = ext4_super_block.at(dev.read(1024, 1024).slice());
  const state = es.s_state & (EXT4_VALID_FS | EXT4_ERROR_FS);
  return es.s_magic !== 0xef53 || state !== EXT4_VALID_FS;
}

/** Checks a device; `mounted` says that the filesystem is in use. */
export function e2fsck(w: e2fsck_words, dev: fsck_device, mounted: boolean): e2fsck_result {
  // There is nobody to ask: as without a terminal.
  if (w.asks) return said(E2FSCK_ERROR, "", "e2fsck: need terminal for interactive repairs\n");
  if (mounted && !w.no) {
    return said(E2FSCK_ERROR, "", `${w.device} is mounted: not checked\n`);
  }
  if (!w.force && !needs_check(dev)) return said(E2FSCK_OK, `${w.device}: clean\n`);
  const report = fsck_ext4(dev);
  if (report.clean) {
    const { inodes, dirs, free_blocks } = report;
    const text = `${w.device}: ${inodes} inodes (${dirs} directories), ${free_blocks} blocks free`;
    return said(E2FSCK_OK, `${text}\n`);
  }
  // without a superblock or a sane geometry there is nothing to check
  if (report.inodes === 0) return said(E2FSCK_ERROR, fsck_text(report) + "\n");
  if (!w.no) notImplemented("e2fsck that repairs");
  const end = `${w.device}: errors are left: ${report.problems.length}`;
  return said(E2FSCK_UNCORRECTED, `${fsck_text(report)}\n${end}\n`);
}

/** The answer to wrong words. */
export function e2fsck_usage(message: string): e2fsck_result {
  return said(E2FSCK_USAGE, "", `e2fsck: ${message}\n`);
}

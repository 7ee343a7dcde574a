/** blockdev and blkdiscard: what the real ones said on the same machine, and what they do. */
import { Machine } from "../../tools/api/machine.ts";
import { boot_lab } from "../../tools/api/lab.ts";
import { parse_script } from "../../tools/script/parse.ts";
import { check_session, read_session } from "../lib/recorded.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/blockdev");

t("blockdev and blkdiscard answer as the real ones did on that machine", async () => {
  const { machine } = await boot_lab(parse_script("@setup mode=fsdax\n").setup);
  await check_session(machine, read_session("blockdev"));
});

t("what is cached of a zeroed range does not come back", async () => {
  const m = await Machine.boot();
  const p = m.process();
  const fd = await p.open("/dev/pmem0", 2);
  await p.pwrite(fd, new Uint8Array(8192).fill(0x61), 0);
  const r = await m.tool("blkdiscard", ["-z", "-o", "4096", "-l", "4096", "/dev/pmem0"]);
  assert.is(r.status, 0, r.stderr);
  const got = new Uint8Array(8192);
  await p.pread(fd, got, 0);
  assert.is(got[4095], 0x61);
  assert.ok(got.subarray(4096).every((b) => b === 0));
  await p.close(fd);
});

t("a mounted device is not discarded, nor its table read again, unless forced", async () => {
  const m = await Machine.boot();
  await m.tool("sfdisk", ["/dev/pmem0", "label: gpt;start=2048,size=65536"]);
  await m.mkfs("ext4", "/dev/pmem0p1", "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0p1", "/mnt", "ext4", "dax=always");
  const busy = "Device or resource busy";
  const discard = await m.tool("blkdiscard", ["-z", "/dev/pmem0p1"]);
  assert.is(discard.stderr, `blkdiscard: cannot open /dev/pmem0p1: ${busy}\n`);
  const reread = await m.tool("blockdev", ["--rereadpt", "/dev/pmem0"]);
  assert.is(reread.stderr, `blockdev: ioctl error on BLKRRPART: ${busy}\n`);
  await p.umount("/mnt");
});

t("a block size that was chosen lasts until the last close", async () => {
  const m = await Machine.boot();
  const p = m.process();
  const fd = await p.open("/dev/pmem0", 0);
  await p.ioctl(fd, "BLKBSZSET", 512);
  assert.is(await p.ioctl(fd, "BLKBSZGET"), 512);
  await p.close(fd);
  assert.is((await m.tool("blockdev", ["--getbsz", "/dev/pmem0"])).stdout, "4096\n");
});

t.run();

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

t("a block device opens for direct IO, which goes by whole sectors", async () => {
  const m = await Machine.boot();
  const p = m.process();
  const O_DIRECT = 0o40000;
  const fd = await p.open("/dev/pmem0", O_DIRECT | 2);
  assert.is(await p.pwrite(fd, new Uint8Array(512).fill(3), 512), 512);
  const got = new Uint8Array(1024);
  assert.is(await p.pread(fd, got, 0), 1024);
  assert.equal([got[511], got[512]], [0, 3]);
  await p.close(fd);
});

t("zeroing and punching with fallocate", async () => {
  const m = await Machine.boot();
  const p = m.process();
  const fd = await p.open("/dev/pmem0", 2);
  await p.pwrite(fd, new Uint8Array(4096).fill(3), 0);
  await p.fallocate(fd, 0x10, 0, 4096);
  const got = new Uint8Array(4096);
  await p.pread(fd, got, 0);
  assert.ok(got.every((b) => b === 0));
  for (const [mode, off, code] of [
    [3, 0, "EOPNOTSUPP"],
    [0, 0, "EOPNOTSUPP"],
    [0x10, 100, "EINVAL"],
    [0x10, 2 ** 40, "EINVAL"],
  ] as const) {
    let got_code: unknown;
    try {
      await p.fallocate(fd, mode, off, 4096);
    } catch (e) {
      got_code = (e as { code?: string }).code;
    }
    assert.is(got_code, code);
  }
  await p.close(fd);
});

t.run();

/** tools/tour/tour.ts - the tour: an mmapped DAX file, from the first fault to a power cut. */
import * as dax from "../../index.ts";

export default async function tour(say: (text: string) => void): Promise<void> {
  const device = { size: "64M", mode: "fsdax" as const };
  const m = await dax.Machine.boot({ pmem: [device], track_persistence: true });
  const p = m.process();
  say("A machine with 64 MiB of persistent memory is up. mkfs.ext4, then mount with DAX:");
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  const fd = await p.open("/mnt/log", dax.O_RDWR | dax.O_CREAT, 0o644);
  await p.ftruncate(fd, 4096 * 4);
  const rw = dax.PROT_READ | dax.PROT_WRITE;
  const a = await p.mmap(0, 4096 * 4, rw, dax.MAP_SHARED, fd, 0);
  const look = (text: string) => say(`${text}\n${dax.picture(p, a)}`);
  m.trace((e) => say(`    trace: ${e.name}`));
  look("mmap made a mapping and nothing else:");
  await p.load(a, 1);
  look("A load faults. The file has a hole there: one page of zeros serves all holes.");
  await p.store(a, dax.name_to_bytes("hello, pmem"));
  look("A store faults again: ext4 allocates a block, the zero page goes, a writable entry comes.");
  await p.msync(a, 4096, dax.MS_SYNC);
  look("msync wrote the cpu cache back and made the entry clean, and the page read-only again:");
  await p.store(a, dax.name_to_bytes("HELLO"));
  look("So the next store faults once more (mkwrite), and its line is in the cpu cache only:");
  say("Power cut. What is on the media now?");
  const after = await m.reboot();
  const q = after.process();
  await q.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  const [fd2, buf] = [await q.open("/mnt/log", dax.O_RDONLY), new Uint8Array(11)];
  await q.pread(fd2, buf, 0);
  say(`The file says "${dax.bytes_to_name(buf)}": what was synced, not what came after.`);
}

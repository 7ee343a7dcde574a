/** mount, umount, remount and the table of mounts (recorded: vfs/readonly-mount). */
import {
  MNT_DETACH,
  MS_BIND,
  MS_NOATIME,
  MS_NODEV,
  MS_RDONLY,
  MS_REMOUNT,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
} from "../../kernel/include/fcntl.ts";
import { EINVAL } from "../../kernel/include/errno.ts";
import type { file_system_type } from "../../kernel/include/fs.ts";
import { S_IFCHR, S_IFIFO } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { add_disk, del_gendisk } from "../../drivers/block/genhd.ts";
import { init_buffer } from "../../fs/buffer.ts";
import { proc_mounts } from "../../fs/namespace.ts";
import { ramfs_fill_super } from "../../fs/ramfs/inode.ts";
import { kill_block_super, mount_bdev, register_filesystem } from "../../fs/super.ts";
import { d_genocide } from "../../fs/dcache.ts";
import { assert, suite } from "../lib/suite.ts";
import { lab_calls, register_labfs } from "./labfs.ts";
import { boot_vfs } from "./vfs.ts";

const t = suite("fs/mount");
const { is, equal, match } = assert;

/** A filesystem that claims a block device and keeps its files in RAM. */
function register_devfs(kernel: Kernel): void {
  const type: file_system_type = {
    name: "devlab",
    fs_flags: 1,
    mount: (k, flags, dev, data) =>
      mount_bdev(k, type, flags, dev, data, (sb) => {
        ramfs_fill_super(sb);
      }),
    kill_sb(sb) {
      if (sb.s_root !== null) d_genocide(sb.s_root);
      return kill_block_super(sb);
    },
  };
  register_filesystem(kernel, type);
}

t("what is mounted hides what lies below, until it is unmounted", async () => {
  const { p, kernel } = await boot_vfs();
  await p.open("/mnt/below", O_RDWR | O_CREAT, 0o600);
  is(await p.mount("tmp", "/mnt", "ramfs"), undefined);
  is(await p.names("/mnt"), "");
  await p.mkdir("/mnt/d");
  is(await p.umount("/mnt"), undefined);
  is(await p.names("/mnt"), "below");
  is(await p.umount("/mnt/below"), "EINVAL");
  is(await p.umount("/none"), "ENOENT");
  equal(proc_mounts(kernel).trim().split("\n"), [
    "rootfs / ramfs rw,relatime 0 0",
    "devtmpfs /dev devtmpfs rw,relatime 0 0",
    "none /mnt ramfs rw,relatime 0 0",
  ]);
});

t("users keep a mount busy, and a lazy umount waits for them out of sight", async () => {
  const { p, kernel } = await boot_vfs();
  register_labfs(kernel);
  is(await p.mount("none", "/mnt2", "labfs"), undefined);
  match(proc_mounts(kernel), /^none \/mnt2 labfs rw,relatime,lab=yes 0 0$/m);
  const f = await p.open("/mnt2/a", O_RDWR | O_CREAT, 0o600);
  is(await p.umount("/mnt2"), "EBUSY");
  const q = p.fork();
  await q.chdir("/mnt2");
  await q.close(f);
  await p.close(f);
  is(await p.umount("/mnt2"), "EBUSY");
  const g = (await p.open("/mnt2/a", O_RDWR)) as number;
  await q.chdir("/");
  is(await p.umount("/mnt2", MNT_DETACH), undefined);
  is(await p.names("/mnt2"), "");
  is(await p.write(g, "still"), 5);
  const sb = p.task.files as { fd: { f_inode: { i_sb: never } }[] };
  const calls = lab_calls(sb.fd[g]!.f_inode.i_sb);
  is(calls.includes("put_super"), false);
  await p.close(g);
  is(calls.at(-1), "put_super");
});

t("a mount below keeps the one above busy", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/sub");
  is(await p.mount("none", "/mnt/sub", "ramfs"), undefined);
  is(await p.umount("/mnt"), "EBUSY");
  is(await p.rmdir("/mnt/sub"), "EBUSY");
  is(await p.umount("/mnt/sub"), undefined);
  is(await p.umount("/mnt"), undefined);
});

t("mount refuses unknown types, places and callers", async () => {
  const { p } = await boot_vfs();
  is(await p.mount("none", "/mnt2", "nofs"), "ENODEV");
  is(await p.mount("none", "/none", "ramfs"), "ENOENT");
  is(await p.mount("none", "/mnt2", ""), "EINVAL");
  await p.open("/tmp/file", O_RDWR | O_CREAT, 0o600);
  is(await p.mount("none", "/tmp/file", "ramfs"), "ENOTDIR");
  const q = p.fork();
  q.setuid(1000);
  is(await q.mount("none", "/mnt2", "ramfs"), "EPERM");
  is(await q.umount("/mnt"), "EPERM");
  await assert.rejects(p.mount("/mnt", "/mnt2", "", MS_BIND), "bind mounts");
  is(await p.umount("/"), "EBUSY");
  is(await p.umount("/mnt", 0x100), "EINVAL");
});

t("a read-only remount waits for no one and refuses every change after", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  await p.write(f, "abc");
  await p.mkdir("/mnt/d");
  const ro = MS_REMOUNT | MS_RDONLY;
  is(await p.mount("none", "/mnt", "", ro), "EBUSY");
  await p.close(f);
  is(await p.mount("none", "/mnt", "", ro), undefined);
  is(await p.open("/mnt/a", O_RDWR), "EROFS");
  const r = await p.open("/mnt/a", O_RDONLY);
  is(await p.open("/mnt/b", O_RDWR | O_CREAT, 0o600), "EROFS");
  is(await p.open("/mnt/a", O_RDONLY | O_CREAT, 0o600), 1);
  is(await p.pread(r, 3, 0), "abc");
  is(await p.unlink("/mnt/a"), "EROFS");
  is(await p.rename("/mnt/a", "/mnt/b"), "EROFS");
  is(await p.mkdir("/mnt/e"), "EROFS");
  is(await p.mkdir("/mnt/d"), "EEXIST");
  is(await p.rmdir("/mnt/d"), "EROFS");
  is(await p.link("/mnt/a", "/mnt/l"), "EROFS");
  is(await p.symlink("x", "/mnt/s"), "EROFS");
  is(await p.chmod("/mnt/a", 0o600), "EROFS");
  is(await p.truncate("/mnt/a", 0), "EROFS");
  is(await p.utimes("/mnt/a", [1, 1]), "EROFS");
  is(await p.mknod("/mnt/p", S_IFIFO | 0o600), "EROFS");
  is(await p.access("/mnt/a", 2), "EROFS");
  is(await p.access("/mnt/a", 4), undefined);
  is(await p.mount("none", "/mnt", "", MS_REMOUNT), undefined);
  is(await p.truncate("/mnt/a", 0), undefined);
});

t("a file without a name forbids a read-only remount", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const r = await p.open("/mnt/a", O_RDONLY);
  await p.close(f);
  await p.unlink("/mnt/a");
  is(await p.mount("none", "/mnt", "", MS_REMOUNT | MS_RDONLY), "EBUSY");
  await p.close(r);
  is(await p.mount("none", "/mnt", "", MS_REMOUNT | MS_RDONLY), undefined);
});

t("nodev keeps device nodes shut, and remount leaves the atime rule alone", async () => {
  const { p, kernel } = await boot_vfs();
  await p.mknod("/mnt/c", S_IFCHR | 0o644, 1, 3);
  is(await p.mount("none", "/mnt", "", MS_REMOUNT | MS_NODEV), undefined);
  is(await p.open("/mnt/c", O_RDWR), "EACCES");
  match(proc_mounts(kernel), /\/mnt ramfs rw,nodev,relatime/);
  is(await p.mount("none", "/mnt", "", MS_REMOUNT | MS_NOATIME), undefined);
  is(await p.mount("none", "/mnt", "", MS_REMOUNT | MS_NODEV), undefined);
  match(proc_mounts(kernel), /\/mnt ramfs rw,nodev,noatime/);
  is(await p.mount("none", "/mnt/c", "", MS_REMOUNT), "EINVAL");
});

t("a device is mounted once: a second mount shares it, or is refused", async () => {
  const { p, kernel } = await boot_vfs();
  init_buffer(kernel);
  register_devfs(kernel);
  const disk = add_disk(kernel, { disk_name: "ram0", capacity: 2048, submit_bio() {} });
  is(await p.mount("/dev/none", "/mnt2", "devlab"), "ENOENT");
  is(await p.mount("/dev/null", "/mnt2", "devlab"), "ENOTBLK");
  is(await p.mount("/dev/ram0", "/mnt2", "devlab"), undefined);
  await p.open("/mnt2/x", O_RDWR | O_CREAT, 0o600);
  is(await p.mount("/dev/ram0", "/mnt2", "devlab"), "EBUSY");
  is(await p.mount("/dev/ram0", "/tmp", "devlab"), undefined);
  is(await p.names("/tmp"), "x");
  is(await p.mount("/dev/ram0", "/mnt", "devlab", MS_RDONLY), "EBUSY");
  is(await p.open("/dev/ram0", O_RDWR | 0o200), "EBUSY");
  is(await p.umount("/tmp"), undefined);
  is(await p.open("/dev/ram0", O_RDWR | 0o200), "EBUSY");
  await p.close(0);
  is(await p.umount("/mnt2"), undefined);
  is(await p.open("/dev/ram0", O_RDWR | 0o200), 0);
  is(await p.ioctl(0, "BLKGETSIZE64"), 2048 * 512);
  await p.close(0);
  del_gendisk(kernel, disk);
  is(await p.stat("/dev/ram0"), "ENOENT");
});

t("a mount whose filesystem fails to start leaves nothing behind", async () => {
  const { p, kernel } = await boot_vfs();
  init_buffer(kernel);
  const type: file_system_type = {
    name: "broken",
    fs_flags: 1,
    mount: (k, flags, dev, data) =>
      mount_bdev(k, type, flags, dev, data, () => Promise.reject(EINVAL)),
    kill_sb: kill_block_super,
  };
  register_filesystem(kernel, type);
  register_devfs(kernel);
  add_disk(kernel, { disk_name: "ram0", capacity: 2048, submit_bio() {} });
  is(await p.mount("/dev/ram0", "/mnt2", "broken"), "EINVAL");
  is(await p.mount("/dev/ram0", "/mnt2", "devlab"), undefined);
});

t.run();

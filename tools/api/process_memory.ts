/** tools/api/process_memory.ts - mappings and memory access of a process. */
import { EBADF } from "../../kernel/include/errno.ts";
import type { file, Sometime } from "../../kernel/include/fs.ts";
import { fput } from "../../kernel/vfs/file.ts";
import { fget } from "../../fs/file.ts";
import { sys_madvise } from "../../mm/madvise.ts";
import { sys_mincore } from "../../mm/mincore.ts";
import { sys_mlock, sys_munlock } from "../../mm/mlock.ts";
import { sys_mmap, sys_munmap } from "../../mm/mmap.ts";
import { sys_mprotect } from "../../mm/mprotect.ts";
import { sys_mremap } from "../../mm/mremap.ts";
import { sys_msync } from "../../mm/msync.ts";
import { pagemap_words, type smaps_entry, smaps_of } from "../../mm/smaps.ts";
import { user_load, user_store } from "../../mm/uaccess.ts";
import { user_clwb, user_sfence } from "../../mm/user_flush.ts";
import { MAP_ANONYMOUS } from "../../kernel/include/mman.ts";
import { type mapping_info, mapping_info_of } from "./mapping.ts";
import { ProcessFile } from "./process_file.ts";

export class ProcessMemory extends ProcessFile {
  /**
   * mmap(2). Lengths and offsets in bytes, `fd` -1 with MAP_ANONYMOUS. Returns the address.
   * @throws SyscallError EACCES EBADF EINVAL ENODEV ENOMEM EOPNOTSUPP EOVERFLOW EPERM
   */
  mmap(
    addr: number,
    len: number,
    prot: number,
    flags: number,
    fd = -1,
    offset = 0,
  ): Sometime<number> {
    return this.syscall("mmap", async (t) => {
      let f: file | null = null;
      if (!(flags & MAP_ANONYMOUS)) {
        if (fd < 0) throw EBADF;
        f = fget(t, fd);
      }
      try {
        return await sys_mmap(t, addr, len, prot, flags, f, offset);
      } finally {
        if (f) await fput(f);
      }
    });
  }
  munmap(addr: number, len: number): Sometime<void> {
    return this.syscall("munmap", (t) => sys_munmap(t, addr, len));
  }
  /** Returns where the mapping is now. `flags`: MREMAP_*. */
  mremap(addr: number, old_len: number, len: number, flags = 0, to = 0): Sometime<number> {
    return this.syscall("mremap", (t) => sys_mremap(t, addr, old_len, len, flags, to));
  }
  mprotect(addr: number, len: number, prot: number): Sometime<void> {
    return this.syscall("mprotect", (t) => sys_mprotect(t, addr, len, prot));
  }
  msync(addr: number, len: number, flags: number): Sometime<void> {
    return this.syscall("msync", (t) => sys_msync(t, addr, len, flags));
  }
  madvise(addr: number, len: number, advice: number): Sometime<void> {
    return this.syscall("madvise", (t) => sys_madvise(t, addr, len, advice));
  }
  mlock(addr: number, len: number): Sometime<void> {
    return this.syscall("mlock", (t) => sys_mlock(t, addr, len));
  }
  mlock2(addr: number, len: number, flags: number): Sometime<void> {
    return this.syscall("mlock2", (t) => sys_mlock(t, addr, len, flags));
  }
  munlock(addr: number, len: number): Sometime<void> {
    return this.syscall("munlock", (t) => sys_munlock(t, addr, len));
  }
  /** One byte a page: bit 0 says that it is in memory. */
  mincore(addr: number, len: number): Sometime<Uint8Array> {
    return this.syscall("mincore", (t) => sys_mincore(t, addr, len));
  }
  /** /proc/PID/pagemap for `pages` pages: "none", "pres", "file" or "swap" each. */
  pagemap(addr: number, pages: number): Sometime<string[]> {
    return this.syscall("pagemap", (t) => pagemap_words(t, addr, pages));
  }
  /**
   * The entry of /proc/PID/smaps that holds `addr`, sizes in KiB; null when nothing is mapped
   * there.
   */
  smaps(addr: number): Sometime<smaps_entry | null> {
    return this.syscall("smaps", (t) => smaps_of(t, addr));
  }

  /** Reads memory as a program's loads do, upwards. @throws SignalError SIGBUS, SIGSEGV */
  load(addr: number, len: number): Sometime<Uint8Array> {
    return this.syscall("load", (t) => {
      const out = new Uint8Array(len);
      const p = user_load(t, addr, out);
      return p ? p.then(() => out) : out;
    });
  }
  /** Writes memory as a program's stores do, upwards. @throws SignalError SIGBUS, SIGSEGV */
  store(addr: number, bytes: Uint8Array): Sometime<void> {
    return this.syscall("store", (t) => user_store(t, addr, bytes));
  }
  /**
   * The instruction, for every cache line of [addr, addr + len): written back, durable after the
   * next sfence. Faults as a load does. @throws SignalError SIGBUS, SIGSEGV
   */
  clwb(addr: number, len: number): Sometime<void> {
    return this.syscall("clwb", (t) => user_clwb(t, addr, len));
  }
  /** The instruction: what was written back before it is durable after it. */
  sfence(): Sometime<void> {
    return this.syscall("sfence", (t) => user_sfence(t));
  }
  /** clwb and sfence: stores to [addr, addr + len) are durable, if the file knows its blocks. */
  async persist(addr: number, len: number): Promise<void> {
    await this.clwb(addr, len);
    await this.sfence();
  }

  /**
   * Is `addr` DAX, mapped by a PTE or a PMD, and may its owner flush from user space instead of
   * calling fsync? Null when nothing is mapped there. Linux has no such call.
   */
  mapping_info(addr: number): Sometime<mapping_info | null> {
    return this.syscall("mapping_info", (t) => mapping_info_of(t, addr));
  }
}

/**
 * mm/uaccess.ts - loads and stores of user memory. Linux: arch/x86/mm/fault.c (do_user_addr_fault),
 * mm/maccess.c; the rest is the cpu.
 *
 * An access is done in pieces that end at page boundaries. A piece goes through the TLB; a miss
 * walks the tables (setting accessed and dirty bits); what the tables do not allow is a fault,
 * handled under mmap_lock, and then the piece is tried again. Nothing is allocated while
 * translations hit.
 *
 * Reading order: user_load()/user_store() -> copy_user() -> translate() -> user_fault().
 */
import type { Sometime } from "../kernel/include/fs.ts";
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_INTERRUPTIBLE,
  FAULT_FLAG_KILLABLE,
  FAULT_FLAG_TRIED,
  FAULT_FLAG_USER,
  FAULT_FLAG_WRITE,
  VM_EXEC,
  VM_FAULT_COMPLETED,
  VM_FAULT_ERROR,
  VM_FAULT_HWPOISON,
  VM_FAULT_HWPOISON_LARGE,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
  VM_READ,
  VM_WRITE,
} from "../kernel/include/mm_types.ts";
import type { mm_struct, vm_area_struct } from "../kernel/include/mm_types.ts";
import {
  BUS_ADRERR,
  BUS_MCEERR_AR,
  SEGV_ACCERR,
  SEGV_MAPERR,
  SIGBUS,
  SIGKILL,
  SIGSEGV,
  make_siginfo,
} from "../kernel/signal.ts";
import type { siginfo } from "../kernel/signal.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { handle_mm_fault } from "./memory/fault.ts";
import { frame_has_media_error, machine_check, readable_bytes } from "./memory-failure/media.ts";
import { mm_state } from "./mm_state.ts";
import { pfn_to_page } from "./page.ts";
import {
  PGD,
  TLB,
  _PAGE_ACCESSED,
  _PAGE_DIRTY,
  _PAGE_PRESENT,
  _PAGE_RW,
  geometry,
  lookup_entry,
  pmd_index,
  pte_flags,
  pte_index,
  pte_pfn,
  pte_set,
  pud_index,
} from "./pgtable.ts";
import { TLB_ENTRIES } from "./tlb.ts";
import { then } from "./sometime.ts";
import { find_vma } from "./vma.ts";

/** What a bad access throws: the signal, and what had been done before it. */
export interface access_fault {
  readonly info: siginfo;
  /** Bytes completed, in pieces that end at page boundaries. */
  readonly completed: number;
}

/** Physical address for an access at `addr`, or -1: fault. */
function translate(mm: mm_struct, addr: number, write: boolean): number {
  return mm.kernel.sched.observer === null
    ? translate_now(mm, addr, write)
    : translate_seen(mm, addr, write);
}

/** While schedules are explored: an access depends on the page tables and on the page's data. */
function translate_seen(mm: mm_struct, addr: number, write: boolean): number {
  const { kernel } = mm;
  kernel.sched.observer!.touch(mm.page_table_lock, false);
  const paddr = translate_now(mm, addr, write);
  const page = paddr < 0 ? null : pfn_to_page(kernel, Math.floor(paddr / kernel.PAGE_SIZE));
  if (page !== null) kernel.sched.observer!.touch(page, write);
  return paddr;
}

function translate_now(mm: mm_struct, addr: number, write: boolean): number {
  const { PAGE_SIZE } = mm.kernel;
  const vpn = Math.floor(addr / PAGE_SIZE);
  const t = TLB(mm);
  const i = vpn % TLB_ENTRIES;
  if (t.tag[i] === vpn && (!write || t.write[i] === 1)) {
    return t.base[i]! + (addr - vpn * PAGE_SIZE);
  }
  return walk(mm, addr, vpn, write);
}

/** The hardware's page walk: fills the TLB, sets accessed and dirty. */
function walk(mm: mm_struct, addr: number, vpn: number, write: boolean): number {
  const g = geometry(mm);
  const pud = PGD(mm).get(Math.floor(addr / g.pgd_size));
  if (pud === undefined) return -1;
  const pi = pud_index(g, addr);
  const pmd = pud.child[pi]!;
  let table: Float64Array;
  let slot: number;
  let size: number;
  if (pmd === null) {
    table = pud.leaf;
    slot = pi;
    size = g.pud_size;
  } else {
    const mi = pmd_index(g, addr);
    const pte = pmd.child[mi]!;
    table = pte ?? pmd.leaf;
    slot = pte === null ? mi : pte_index(g, addr);
    size = pte === null ? g.pmd_size : g.page_size;
  }
  const e = table[slot]!;
  const flags = pte_flags(e);
  if (!(flags & _PAGE_PRESENT) || (write && !(flags & _PAGE_RW))) return -1;
  const want = write ? _PAGE_ACCESSED | _PAGE_DIRTY : _PAGE_ACCESSED;
  if ((flags & want) !== want) table[slot] = pte_set(e, want);
  const paddr = pte_pfn(e) * g.page_size + (addr % size);
  if (mm_state(mm.kernel).mf.media !== null && is_bad_frame(mm.kernel, paddr)) return BAD_FRAME;
  const in_page = addr % g.page_size;
  TLB(mm).fill(vpn, paddr - in_page, write || (flags & (_PAGE_RW | _PAGE_DIRTY)) === RW_DIRTY);
  return paddr;
}
const RW_DIRTY = _PAGE_RW | _PAGE_DIRTY;
/** walk(): mapped, but a line of the frame cannot be read. */
const BAD_FRAME = -2;

function is_bad_frame(kernel: Kernel, paddr: number): boolean {
  return frame_has_media_error(kernel, Math.floor(paddr / kernel.PAGE_SIZE));
}

function access_error(vma: vm_area_struct, write: boolean): boolean {
  if (write) return !(vma.vm_flags & VM_WRITE);
  return !(vma.vm_flags & (VM_READ | VM_WRITE | VM_EXEC));
}

/** Handles one fault. Resolves to null when the access may be tried again, else to the signal. */
export function user_fault(
  mm: mm_struct,
  addr: number,
  write: boolean,
  user_mode: boolean,
): Sometime<siginfo | null> {
  let flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE | FAULT_FLAG_INTERRUPTIBLE;
  if (user_mode) flags |= FAULT_FLAG_USER;
  if (write) flags |= FAULT_FLAG_WRITE;
  return fault_once(mm, addr, write, flags);
}

function fault_once(
  mm: mm_struct,
  addr: number,
  write: boolean,
  flags: number,
): Sometime<siginfo | null> {
  return then(mm.mmap_lock.down_read() as Sometime<void>, () => {
    const vma = find_vma(mm, addr);
    // A stack that could grow would be extended here: it is mapped in full instead.
    if (vma === null || vma.vm_start > addr) {
      mm.mmap_lock.up_read();
      return make_siginfo(SIGSEGV, SEGV_MAPERR, addr);
    }
    if (access_error(vma, write)) {
      mm.mmap_lock.up_read();
      return make_siginfo(SIGSEGV, SEGV_ACCERR, addr);
    }
    let ret: Sometime<number>;
    try {
      ret = handle_mm_fault(vma, addr, flags);
    } catch (e) {
      mm.mmap_lock.up_read();
      throw e;
    }
    if (!(ret instanceof Promise)) return fault_done(mm, addr, write, flags, ret);
    return ret.then(
      (r) => fault_done(mm, addr, write, flags, r),
      (e) => {
        mm.mmap_lock.up_read();
        throw e;
      },
    );
  });
}

function fault_done(
  mm: mm_struct,
  addr: number,
  write: boolean,
  flags: number,
  ret: number,
): Sometime<siginfo | null> {
  if (ret & VM_FAULT_COMPLETED) return null;
  // RETRY: the handler has dropped mmap_lock and waited; all may have changed.
  if (ret & VM_FAULT_RETRY) return fault_once(mm, addr, write, flags | FAULT_FLAG_TRIED);
  mm.mmap_lock.up_read();
  if (!(ret & VM_FAULT_ERROR)) return null;
  if (ret & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) {
    const g = geometry(mm);
    const lsb = ret & VM_FAULT_HWPOISON_LARGE ? Math.log2(g.pmd_size) : g.page_shift;
    if (flags & FAULT_FLAG_USER) log_poison(mm.kernel, addr);
    return make_siginfo(SIGBUS, BUS_MCEERR_AR, addr, lsb);
  }
  if (ret & VM_FAULT_SIGBUS) return make_siginfo(SIGBUS, BUS_ADRERR, addr);
  if (ret & VM_FAULT_OOM) return make_siginfo(SIGKILL, 0, addr);
  return make_siginfo(SIGSEGV, SEGV_MAPERR, addr);
}

function log_poison(kernel: Kernel, addr: number): void {
  const t = kernel.current;
  const where = `fault at ${addr.toString(16)}`;
  kernel.pr_err(`MCE: Killing ${t.comm}:${t.pid} due to hardware memory corruption ${where}`);
}

/** Why the last copy of an address space stopped short; valid right after copy_user. */
export function last_fault(mm: mm_struct): siginfo {
  return mm_state(mm.kernel).last_fault!;
}

/**
 * Copies between user memory at `addr` and `buf[off..]`: to the user if `write`. Returns bytes
 * copied, short when a fault could not be handled (see last_fault). Page faults disabled: short at
 * the first one.
 */
export function copy_user(
  task: task_struct,
  mm: mm_struct,
  addr: number,
  buf: Uint8Array,
  off: number,
  len: number,
  write: boolean,
  user_mode: boolean,
): Sometime<number> {
  const { phys, PAGE_SIZE } = mm.kernel;
  let done = 0;
  while (done < len) {
    const at = addr + done;
    const left = PAGE_SIZE - (at % PAGE_SIZE);
    const n = len - done < left ? len - done : left;
    const paddr = translate(mm, at, write);
    if (paddr === BAD_FRAME) {
      const got = copy_around_bad(task, mm, at, buf, off + done, n, write, user_mode);
      if (typeof got !== "number") return got.then((k) => done + k);
      done += got;
      if (got < n) return done;
      continue;
    }
    if (paddr < 0) {
      if (task.pagefault_disabled > 0) {
        return done;
      }
      return copy_after_fault(task, mm, at, buf, off + done, len - done, write, user_mode, done);
    }
    if (write) phys.copy_to(paddr, buf, off + done, n);
    else phys.copy_from(paddr, buf, off + done, n);
    done += n;
  }
  return done;
}

/** Where a mapped address is, though its frame has bad lines. */
function bad_frame_paddr(mm: mm_struct, addr: number): number {
  const { entry, size } = lookup_entry(mm, addr);
  return pte_pfn(entry) * mm.kernel.PAGE_SIZE + (addr % size);
}

/**
 * A piece of a frame with bad lines: a load stops at the first one. Returns bytes copied; a promise
 * when that ends the access.
 */
function copy_around_bad(
  task: task_struct,
  mm: mm_struct,
  at: number,
  buf: Uint8Array,
  off: number,
  n: number,
  write: boolean,
  user_mode: boolean,
): Sometime<number> {
  const { phys } = mm.kernel;
  const paddr = bad_frame_paddr(mm, at);
  if (write) {
    phys.copy_to(paddr, buf, off, n);
    return n;
  }
  const good = readable_bytes(mm.kernel, paddr, n);
  phys.copy_from(paddr, buf, off, good);
  if (good === n) return n;
  if (task.pagefault_disabled > 0) return good;
  return machine_check(task, mm, at + good, paddr + good, user_mode).then((sig) => {
    mm_state(mm.kernel).last_fault = sig;
    return good;
  });
}

function copy_after_fault(
  task: task_struct,
  mm: mm_struct,
  addr: number,
  buf: Uint8Array,
  off: number,
  len: number,
  write: boolean,
  user_mode: boolean,
  before: number,
): Sometime<number> {
  return then(user_fault(mm, addr, write, user_mode), (sig) => {
    if (sig !== null) {
      mm_state(mm.kernel).last_fault = sig;
      return before;
    }
    const rest = copy_user(task, mm, addr, buf, off, len, write, user_mode);
    return rest instanceof Promise ? rest.then((n) => before + n) : before + rest;
  });
}

function check_done(mm: mm_struct, done: number, len: number): void {
  if (done === len) return;
  const fault: access_fault = { info: last_fault(mm), completed: done };
  throw fault;
}

/** One access of a program: a scheduling point, then the copy. */
function access(task: task_struct, addr: number, buf: Uint8Array, write: boolean): Sometime<void> {
  const s = task.kernel.sched;
  if (s.exploring) {
    const p = s.sched_point();
    if (p) return p.then(() => access_now(task, addr, buf, write));
  }
  return access_now(task, addr, buf, write);
}

function access_now(
  task: task_struct,
  addr: number,
  buf: Uint8Array,
  write: boolean,
): Sometime<void> {
  const mm = task.mm!;
  const len = buf.length;
  const n = copy_user(task, mm, addr, buf, 0, len, write, true);
  if (n === len) return undefined;
  return then(n, (done) => check_done(mm, done, len));
}

/** Fills `dst` from memory at `addr` as the program's loads do. Throws an access_fault. */
export function user_load(task: task_struct, addr: number, dst: Uint8Array): Sometime<void> {
  return access(task, addr, dst, false);
}

/** Stores bytes as the program's stores do. Throws an access_fault. */
export function user_store(task: task_struct, addr: number, bytes: Uint8Array): Sometime<void> {
  return access(task, addr, bytes, true);
}

/** The kernel's copies: no USER flag in the faults, short instead of a signal. */
export function copy_from_user(
  task: task_struct,
  dst: Uint8Array,
  off: number,
  addr: number,
  len: number,
): Sometime<number> {
  return copy_user(task, task.mm!, addr, dst, off, len, false, false);
}

export function copy_to_user(
  task: task_struct,
  addr: number,
  src: Uint8Array,
  off: number,
  len: number,
): Sometime<number> {
  return copy_user(task, task.mm!, addr, src, off, len, true, false);
}

/**
 * For copies between user memory and physical memory without a buffer between: the physical address
 * of a piece at `addr`, or -1 when it faults. The piece ends at the page boundary.
 */
export function user_paddr(mm: mm_struct, addr: number, write: boolean): number {
  const paddr = translate(mm, addr, write);
  return paddr === BAD_FRAME ? bad_frame_paddr(mm, addr) : paddr;
}

/**
 * drivers/nvdimm/nfit_ars.ts - address range scrub, error injection and error clearing: what the
 * firmware of a platform answers, and the driver's side of it. Linux: drivers/acpi/nfit/core.c;
 * the firmware is the one that tools/testing/nvdimm plays for the tests. ACPI 6.2, 9.20.7.
 *
 * QEMU's NVDIMMs have none of these commands; a machine has them with `nvdimm: { ars: true }`.
 *
 * The truth is the media (mm/memory-failure/media.ts). A scrub compares the bus's list with it, in
 * the background (a kworker, in virtual time): a long one reads all of the memory, a short one only
 * asks what the firmware knows. Injecting makes bytes of the media bad; with a notification the
 * driver starts a short scrub at once, without one nobody knows until somebody reads.
 */
import { EBUSY } from "../../kernel/include/errno.ts";
import { msleep } from "../../kernel/sched/core.ts";
import { wait_queue_head } from "../../kernel/sched/wait.ts";
import { add_media_error, clear_media_error, media_errors } from "../../mm/memory-failure/media.ts";
import {
  extents_add,
  extents_remove,
  extents_within,
  nvdimm_bus_add_badrange,
  nvdimm_region_notify,
} from "./badrange.ts";
import type { bad_extent, nvdimm_ars, nvdimm_bus } from "./nd.ts";

/** Bytes that are found bad, and repaired, together. */
const CLEAR_ERR_UNIT = 256;
const SHORT_MS = 1;
const LONG_MS_PER_GIB = 1000;
const GIB = 2 ** 30;

class acpi_nfit_ars implements nvdimm_ars {
  readonly clear_err_unit = CLEAR_ERR_UNIT;
  /** Scrubs that have ended; the one at power-on is the first. */
  scrub_count = 0;
  busy = false;
  private again = false;
  private list: bad_extent[] = [];
  private readonly bus: nvdimm_bus;
  private readonly wait: wait_queue_head;

  constructor(bus: nvdimm_bus) {
    this.bus = bus;
    this.wait = new wait_queue_head(bus.kernel.machine, "nfit_scrub");
  }

  /** Ends a scrub: everything the firmware knows goes into the bus's list. */
  finish(): void {
    for (const r of this.bus.regions) {
      for (const e of media_errors(this.bus.kernel, r.ndr_start, r.ndr_size)) {
        const start = e.start - (e.start % CLEAR_ERR_UNIT);
        const end = Math.ceil((e.start + e.length) / CLEAR_ERR_UNIT) * CLEAR_ERR_UNIT;
        nvdimm_bus_add_badrange(this.bus, start, end - start);
      }
      nvdimm_region_notify(r);
    }
    this.scrub_count++;
  }

  start_scrub(long: boolean): void {
    if (this.busy) {
      if (long) throw EBUSY;
      // what was injected meanwhile is asked for afterwards
      this.again = true;
      return;
    }
    this.busy = true;
    const { kernel, regions } = this.bus;
    const bytes = regions.reduce((n, r) => n + r.ndr_size, 0);
    const ms = long ? Math.ceil((bytes / GIB) * LONG_MS_PER_GIB) : SHORT_MS;
    kernel.machine.kthread_run(kernel, "kworker/u2:nfit", async () => {
      do {
        this.again = false;
        await msleep(kernel, ms);
        this.finish();
      } while (this.again);
      this.busy = false;
      this.wait.wake_up_all();
    });
  }

  async wait_idle(): Promise<void> {
    await this.wait.wait_event(() => !this.busy);
  }

  clear_error(start: number, length: number): number {
    clear_media_error(this.bus.kernel, start, length);
    this.list = extents_remove(this.list, { start, length });
    return length;
  }

  inject(start: number, length: number, notify: boolean): void {
    add_media_error(this.bus.kernel, start, length);
    this.list = extents_add(this.list, { start, length });
    if (notify) this.start_scrub(false);
  }

  uninject(start: number, length: number): void {
    this.clear_error(start, length);
  }

  injected(start: number, size: number): bad_extent[] {
    return extents_within(this.list, start, size);
  }
}

/**
 * Gives a bus the commands. Returns what to call once its regions are there: the scrub at power-on.
 */
export function acpi_nfit_ars_register(bus: nvdimm_bus): () => void {
  const ars = new acpi_nfit_ars(bus);
  bus.ars = ars;
  return () => ars.finish();
}

/**
 * drivers/nvdimm/nfit.ts - the DIMMs that the firmware tells of: one bus, its DIMMs, and a region
 * for each interleave set. Linux: drivers/acpi/nfit/core.c. And virtio_pmem.c: a region of its own
 * on a bus of its own, whose memory is the host's page cache.
 *
 * A DIMM's file is its persistent memory followed by its label storage area. In memory the label
 * area is a region of its own ("nmem0"), not reachable by DPA; the persistent memory of a set is
 * one region ("region0"), in which pieces of 4096 bytes go round the DIMMs.
 */
import { EINVAL } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import type { nd_region, nvdimm, nvdimm_bus } from "./nd.ts";
import { nvdimm_state } from "./nd.ts";
import { nd_region_create, nvdimm_bus_register, nvdimm_create } from "./region.ts";
import { nd_label_init_area } from "./label.ts";
import { acpi_nfit_ars_register } from "./nfit_ars.ts";

const GIB = 2 ** 30;
/** Bytes after which an interleave set goes on with the next DIMM. */
export const INTERLEAVE = 4096;

export interface dimm_options {
  /** Bytes of persistent memory; default: what `image` has. */
  size?: number;
  /** Bytes of label storage; default 128 KiB, 0 for none. */
  label_size?: number;
  /** The DIMM's file: persistent memory, then labels. Bytes or a media image; copy-on-write. */
  image?: unknown;
  /** Label area alone (bytes or a media image), when `image` has none. */
  labels?: unknown;
  /** Write empty label indexes of that version. */
  init_labels?: "1.1" | "1.2";
  serial_number?: number;
}

export interface nvdimm_options {
  dimms: readonly dimm_options[];
  /** All DIMMs form one region; default: a region for each. */
  interleave?: boolean;
  /**
   * The platform can scrub, inject and clear media errors; default false, as the recorded machine.
   */
  ars?: boolean;
  /** With `interleave`: the bytes of the set as the processor sees them. */
  set_image?: unknown;
}

const LABEL_SIZE = 128 * 1024;

interface dimm_bytes {
  pmem: unknown;
  labels: unknown;
  size: number;
}

/** Takes a DIMM's file apart. */
function split_image(o: dimm_options): dimm_bytes {
  const label_size = o.label_size ?? LABEL_SIZE;
  if (!(o.image instanceof Uint8Array)) {
    if (o.size === undefined) throw EINVAL;
    return { pmem: o.image, labels: o.labels, size: o.size };
  }
  const end = o.labels === undefined ? o.image.length - label_size : o.image.length;
  if (end <= 0 || end % 4096 !== 0) throw EINVAL;
  if (o.size !== undefined && o.size !== end) throw EINVAL;
  const labels = o.labels ?? (label_size > 0 ? o.image.subarray(end) : undefined);
  return { pmem: o.image.subarray(0, end), labels, size: end };
}

function make_dimm(bus: nvdimm_bus, o: dimm_options, bytes: dimm_bytes): nvdimm {
  const { kernel } = bus;
  const label_size = o.label_size ?? LABEL_SIZE;
  const id = nvdimm_state(kernel).next_dimm;
  const labels =
    label_size === 0
      ? null
      : kernel.phys.add_region({
          name: `nmem${id}`,
          kind: "pmem",
          size: label_size,
          domain: "eadr",
          align: 4096,
          ...(bytes.labels === undefined ? {} : { image: bytes.labels }),
        });
  const dimm = nvdimm_create(bus, {
    size: bytes.size,
    labels,
    ...(o.serial_number === undefined ? {} : { serial_number: o.serial_number }),
  });
  if (o.init_labels && dimm.ndd) {
    nd_label_init_area(kernel, dimm.ndd, o.init_labels === "1.1" ? 128 : 256);
  }
  return dimm;
}

function make_region(bus: nvdimm_bus, dimms: readonly nvdimm[], image: unknown): nd_region {
  const { kernel } = bus;
  const phys = kernel.phys.add_region({
    name: `region${nvdimm_state(kernel).next_region}`,
    kind: "pmem",
    size: dimms.reduce((n, d) => n + d.size, 0),
    domain: "adr",
    align: GIB,
    ...(image === undefined ? {} : { image }),
  });
  return nd_region_create(bus, { phys, dimms });
}

/** What the processor sees of DIMMs that are interleaved. */
function interleaved(parts: readonly dimm_bytes[]): Uint8Array | undefined {
  if (parts.every((p) => p.pmem === undefined)) return undefined;
  const size = parts[0]!.size;
  const out = new Uint8Array(size * parts.length);
  parts.forEach((p, i) => {
    if (p.size !== size) throw EINVAL;
    if (!(p.pmem instanceof Uint8Array)) return;
    for (let at = 0; at < size; at += INTERLEAVE) {
      out.set(p.pmem.subarray(at, at + INTERLEAVE), at * parts.length + i * INTERLEAVE);
    }
  });
  return out;
}

/** The machine's DIMMs, with drivers bound and namespaces found. */
export function nfit_register(kernel: Kernel, o: nvdimm_options): nvdimm_bus {
  const bus = nvdimm_bus_register(kernel, "ACPI.NFIT");
  const first_scrub = o.ars ? acpi_nfit_ars_register(bus) : null;
  const parts = o.dimms.map(split_image);
  const dimms = o.dimms.map((d, i) => make_dimm(bus, d, parts[i]!));
  if (o.interleave) make_region(bus, dimms, o.set_image ?? interleaved(parts));
  else for (const [i, d] of dimms.entries()) make_region(bus, [d], parts[i]!.pmem);
  first_scrub?.();
  return bus;
}

/** The file of a DIMM as it is now: persistent memory, then labels. */
export function nvdimm_image(dimm: nvdimm): Uint8Array {
  const { phys } = dimm.bus.kernel;
  const out = new Uint8Array(dimm.size + (dimm.labels?.size ?? 0));
  if (dimm.labels) phys.copy_from(dimm.labels.start, out, dimm.size, dimm.labels.size);
  for (const r of dimm.bus.regions) {
    const m = r.mappings.find((x) => x.nvdimm === dimm);
    if (!m) continue;
    const ways = r.mappings.length;
    if (ways === 1) {
      phys.copy_from(r.ndr_start, out, m.start, m.size);
      continue;
    }
    for (let at = 0; at < m.size; at += INTERLEAVE) {
      const from = r.ndr_start + at * ways + m.position * INTERLEAVE;
      phys.copy_from(from, out, m.start + at, INTERLEAVE);
    }
  }
  return out;
}

export interface virtio_pmem_options {
  /** Bytes. */
  size: number;
  image?: unknown;
}

/**
 * A virtio-pmem device: DAX with page descriptors, but durable only once the host has flushed, so
 * never MAP_SYNC.
 */
export function virtio_pmem_register(kernel: Kernel, o: virtio_pmem_options): nd_region {
  const bus = nvdimm_bus_register(kernel, "virtio-pmem");
  const phys = kernel.phys.add_region({
    name: `region${nvdimm_state(kernel).next_region}`,
    kind: "pmem",
    size: o.size,
    domain: "none",
    align: GIB,
    ...(o.image === undefined ? {} : { image: o.image }),
  });
  return nd_region_create(bus, { phys, dimms: [], pagemap: true, async_flush: true });
}

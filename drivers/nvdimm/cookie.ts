/**
 * drivers/nvdimm/cookie.ts - the number that ties labels to the interleave set they were made in.
 * Linux: drivers/acpi/nfit/core.c (acpi_nfit_init_interleave_set), drivers/nvdimm/region_devs.c.
 */
import { nd_fletcher64 } from "./fletcher.ts";
import type { nd_region, u64_pair } from "./nd.ts";

/** The cookie for labels of that size: version 1.1 labels (128 bytes) have their own. */
export function nd_region_set_cookie(region: nd_region, label_size: number): u64_pair {
  const entry = label_size < 256 ? 16 : 48;
  const info = new DataView(new ArrayBuffer(entry * region.mappings.length));
  region.mappings.forEach((m, i) => {
    // u64 region offset (0: a DIMM starts where the region starts), u32 serial, then for version
    // 1.2 u16 vendor, u16 date, u8 place of manufacture and padding
    info.setUint32(i * entry + 8, m.nvdimm.serial_number, true);
    if (entry === 48) info.setUint16(i * entry + 12, m.nvdimm.vendor_id, true);
  });
  const { hi, lo } = nd_fletcher64(info, 0, info.byteLength);
  return { hi, lo };
}

/** The cookie for the label version that the region's DIMMs use (1.2 unless they have 1.1). */
export function nd_region_cookie(region: nd_region): u64_pair {
  const ndd = region.mappings[0]?.nvdimm.ndd;
  const v11 = ndd !== null && ndd !== undefined && ndd.ns_current >= 0 && ndd.nslabel_size < 256;
  return nd_region_set_cookie(region, v11 ? 128 : 256);
}

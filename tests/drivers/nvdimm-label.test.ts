/** The label storage area: index blocks in turn, slots, checksums, power cuts, both versions. */
import { ENOSPC, EBUSY, EINVAL, ENXIO } from "../../kernel/include/errno.ts";
import { nd_label_list, nd_label_nfree, nd_label_validate } from "../../drivers/nvdimm/label.ts";
import { nvdimm_num_label_slots, sizeof_namespace_index } from "../../drivers/nvdimm/label.ts";
import { nfit_register, nvdimm_image, type nvdimm_options } from "../../drivers/nvdimm/nfit.ts";
import {
  namespace_set_alt_name,
  namespace_set_size,
  namespace_set_uuid,
  nd_region_allocatable_dpa,
  nd_region_available_dpa,
} from "../../drivers/nvdimm/namespace.ts";
import { nd_namespace_enable } from "../../drivers/nvdimm/namespace_driver.ts";
import type { nd_region, nvdimm_bus } from "../../drivers/nvdimm/nd.ts";
import { nd_region_disable, nd_region_enable, nvdimm_enable } from "../../drivers/nvdimm/region.ts";
import { new_uuid } from "../../drivers/nvdimm/uuid.ts";
import { assert, suite } from "../lib/suite.ts";
import { MIB, drivers_kernel } from "./kernel.ts";

const t = suite("drivers/nvdimm-label");

function bus_of(o: nvdimm_options): nvdimm_bus {
  return nfit_register(drivers_kernel(), o);
}

const one = (version: "1.1" | "1.2", size = 64 * MIB): nvdimm_bus =>
  bus_of({ dimms: [{ size, init_labels: version }] });

/** What the driver throws, or undefined. */
function thrown(fn: () => unknown): unknown {
  try {
    fn();
  } catch (e) {
    return e;
  }
  return undefined;
}

function make(region: nd_region, size: number, name = "") {
  const ns = region.ns_seed!;
  namespace_set_uuid(ns, new_uuid(region.bus.kernel));
  if (name !== "") namespace_set_alt_name(ns, name);
  namespace_set_size(ns, size);
  ns.force_raw = true;
  nd_namespace_enable(ns);
  return ns;
}

/** Power off and on: a new kernel on the files of the DIMMs. */
function again(bus: nvdimm_bus, interleave = false): nvdimm_bus {
  const dimms = bus.dimms.map((d) => ({ image: nvdimm_image(d), label_size: d.labels!.size }));
  return bus_of({ dimms, interleave });
}

t("areas have as many slots as ndctl reports", () => {
  assert.is(nvdimm_num_label_slots(128 * 1024, 256), 510);
  assert.is(nvdimm_num_label_slots(128 * 1024, 128), 1020);
  assert.is(sizeof_namespace_index(128 * 1024, 128), 256);
  assert.is(sizeof_namespace_index(256 * 1024, 256), 256);
  assert.is(sizeof_namespace_index(512, 256), 0, "no room for two labels");
});

for (const version of ["1.1", "1.2"] as const) {
  t(`version ${version}: a namespace is found again with its name and size`, () => {
    const bus = one(version);
    make(bus.regions[0]!, 32 * MIB, "имя");
    const [found, seed] = again(bus).regions[0]!.namespaces;
    assert.is(found!.alt_name, "имя");
    assert.is(found!.size, 32 * MIB);
    assert.is(found!.uuid, bus.regions[0]!.namespaces[0]!.uuid);
    assert.is(seed!.size, 0);
  });

  t(`version ${version}: updates go to the two index blocks in turn`, () => {
    const bus = one(version);
    const ndd = bus.dimms[0]!.ndd!;
    const seen: number[] = [];
    for (let i = 0; i < 4; i++) {
      make(bus.regions[0]!, 16 * MIB);
      const now = nd_label_validate(
        nvdimm_image(bus.dimms[0]!).subarray(64 * MIB),
        ndd.nslabel_size,
      );
      seen.push(now);
      assert.is(now, ndd.ns_current, "the media agree with the driver");
    }
    assert.is(nd_label_list(ndd).length, 4);
    assert.is(nd_label_nfree(ndd), (version === "1.1" ? 1020 : 510) - 4);
    assert.equal(new Set(seen).size <= 2, true);
  });
}

t("a torn update of the index leaves the state before it", () => {
  const bus = one("1.2");
  make(bus.regions[0]!, 16 * MIB, "first");
  const before = nvdimm_image(bus.dimms[0]!);
  make(bus.regions[0]!, 16 * MIB, "second");
  const after = nvdimm_image(bus.dimms[0]!);
  const at = 64 * MIB;
  const current = nd_label_validate(after.subarray(at), 256);
  // half of the newest index block is old
  after.set(before.subarray(at + current * 256, at + current * 256 + 100), at + current * 256);
  const left = bus_of({ dimms: [{ image: after }] }).regions[0]!.namespaces;
  assert.is(left[0]!.alt_name, "first");
  assert.ok(left.length >= 2, "and nothing worse than the label being updated");
});

t("a label with a wrong checksum is not there", () => {
  const bus = one("1.2");
  make(bus.regions[0]!, 16 * MIB);
  const image = nvdimm_image(bus.dimms[0]!);
  const slot = nd_label_list(bus.dimms[0]!.ndd!)[0]!.slot;
  image[64 * MIB + 512 + slot * 256 + 20]! ^= 1;
  const found = bus_of({ dimms: [{ image }] }).regions[0]!.namespaces;
  assert.equal(
    found.map((n) => n.size),
    [0],
  );
});

t("two broken index blocks mean a region without labels", () => {
  const bus = one("1.2");
  const image = nvdimm_image(bus.dimms[0]!);
  image.fill(0x55, 64 * MIB, 64 * MIB + 512);
  const region = bus_of({ dimms: [{ image }] }).regions[0]!;
  assert.is(region.nstype, 4);
  assert.is(region.namespaces[0]!.size, 64 * MIB);
  assert.is(
    thrown(() => namespace_set_uuid(region.namespaces[0]!, new_uuid(bus.kernel))),
    ENXIO,
  );
});

t("capacity: first free place, alignment, what is left", async () => {
  const bus = one("1.2", 128 * MIB);
  const r = bus.regions[0]!;
  const [a, b] = [make(r, 32 * MIB), make(r, 32 * MIB)];
  assert.is(b!.start - r.ndr_start, 32 * MIB);
  assert.is(nd_region_available_dpa(r), 64 * MIB);
  assert.is(
    thrown(() => namespace_set_size(a!, 0)),
    EBUSY,
  );
  const ns = r.ns_seed!;
  assert.is(
    thrown(() => namespace_set_size(ns, 16 * MIB)),
    ENXIO,
    "no uuid yet",
  );
  namespace_set_uuid(ns, new_uuid(bus.kernel));
  assert.is(
    thrown(() => namespace_set_size(ns, 15 * MIB)),
    EINVAL,
  );
  assert.is(
    thrown(() => namespace_set_size(ns, 80 * MIB)),
    ENOSPC,
  );
  await nd_region_disable(r);
  nd_region_enable(r);
  assert.is(nd_region_allocatable_dpa(r), 64 * MIB);
});

t(
  "a set of three DIMMs: labels on each, bytes go round, one missing DIMM hides the namespace",
  () => {
    const dimms = [1, 2, 3].map((n) => ({
      size: 48 * MIB,
      init_labels: "1.2" as const,
      serial_number: n,
    }));
    const bus = bus_of({ dimms, interleave: true });
    const r = bus.regions[0]!;
    assert.is(r.align, 48 * MIB);
    const ns = make(r, 96 * MIB, "set");
    const bytes = new Uint8Array(3 * 4096).map((_, i) => 1 + Math.floor(i / 4096));
    bus.kernel.phys.copy_to(ns.start, bytes, 0, bytes.length);
    bus.dimms.forEach((d, i) => {
      assert.is(nvdimm_image(d)[0], i + 1);
      assert.equal(
        nd_label_list(d.ndd!).map((l) => [l.position, l.nlabel, l.rawsize]),
        [[i, 3, 32 * MIB]],
      );
    });
    const images = bus.dimms.map((d, i) => ({ image: nvdimm_image(d), serial_number: i + 1 }));
    const back = bus_of({ dimms: images, interleave: true }).regions[0]!.namespaces[0]!;
    assert.is(back.size, 96 * MIB);
    const other = bus_of({ dimms: [images[0]!, images[2]!, images[1]!], interleave: true });
    assert.is(other.regions[0]!.namespaces[0]!.size, 0, "DIMMs in another order are another set");
  },
);

t("a DIMM's driver that is bound again sees what was written", () => {
  const bus = one("1.2");
  make(bus.regions[0]!, 16 * MIB);
  const dimm = bus.dimms[0]!;
  const before = nd_label_list(dimm.ndd!);
  nvdimm_enable(dimm);
  assert.equal(nd_label_list(dimm.ndd!), before);
});

t.run();

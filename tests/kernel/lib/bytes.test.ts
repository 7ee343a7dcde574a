/** Struct views, checksums and name bytes: the small things under every on-media format. */
import fc from "../../lib/property.ts";
import { crc16 } from "../../../kernel/lib/crc16.ts";
import { crc32, crc32_be } from "../../../kernel/lib/crc32.ts";
import { crc32c, crc32c_le32, crc32c_zeros } from "../../../kernel/lib/crc32c.ts";
import {
  array,
  bytes,
  s64,
  struct,
  u16,
  u16be,
  u32,
  u64,
  u64be,
} from "../../../kernel/lib/struct.ts";
import {
  bytes_to_name,
  name_to_bytes,
  utf8_decode,
  utf8_encode,
} from "../../../kernel/lib/utf8.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("kernel/lib/bytes");

const sample = struct(
  "sample",
  {
    a: [u16, 0],
    b: [u64, 2],
    c: [bytes(3), 10],
    d: [array(u32, 2), 13],
    e: [u64be, 21],
    f: [s64, 29],
    g: [u16be, 37],
  },
  40,
);

t("a struct view reads and writes the bytes at its offsets", () => {
  const memory = new Uint8Array(64);
  const s = sample.at(memory, 8);
  s.a = 0x1234;
  s.b = 2 ** 40 + 7;
  s.c = Uint8Array.of(9);
  s.d = [3, 0xffffffff];
  s.e = 2 ** 33 + 1;
  s.f = -5;
  s.g = 0xabcd;
  assert.equal(memory.slice(8, 18), Uint8Array.of(0x34, 0x12, 7, 0, 0, 0, 0, 1, 0, 0));
  assert.equal(memory.slice(18, 21), Uint8Array.of(9, 0, 0));
  assert.equal(memory.slice(29, 37), Uint8Array.of(0, 0, 0, 2, 0, 0, 0, 1));
  assert.equal(memory.slice(45, 47), Uint8Array.of(0xab, 0xcd));
  assert.equal([s.a, s.b, s.e, s.f, s.g], [0x1234, 2 ** 40 + 7, 2 ** 33 + 1, -5, 0xabcd]);
  assert.equal(s.d, [3, 0xffffffff]);
  s.a |= 0x8000;
  assert.is(s.a, 0x9234);
  assert.is(sample.sizeof, 40);
  assert.is(sample.offsetof("f"), 29);
  assert.match(s.dump(), /0x002 b u64 +0x10000000007/);
  assert.is(s.move(memory, 0).a, 0);
});

t("a struct refuses what it cannot hold", () => {
  const s = sample.alloc();
  assert.throws(() => {
    s.b = 2 ** 53;
  }, /cannot hold/);
  assert.throws(() => {
    s.c = new Uint8Array(4);
  }, /do not fit/);
  assert.throws(() => struct("bad", { a: [u32, 2] }, 4), /outside/);
  assert.throws(() => struct("bad", { move: [u32, 0] }), /cannot be called/);
});

t("the checksums have their textbook values", () => {
  const b = utf8_encode("123456789");
  assert.is(~crc32c(~0, b) >>> 0, 0xe3069283);
  assert.is(crc32(b), 0xcbf43926);
  assert.is(crc32(b, 4, 5, crc32(b, 0, 4)), 0xcbf43926);
  assert.is(crc32_be(~0, b), 0x0376e6e7);
  assert.is(crc16(0, b), 0xbb3d);
});

t("a CRC-32C can be continued at any byte", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(60), fc.nat(), (b, cut, seed) => {
      const k = Math.min(cut, b.length);
      assert.is(crc32c(crc32c(seed, b, 0, k), b, k), crc32c(seed, b));
    }),
  );
  assert.is(crc32c_le32(5, 0x01020304), crc32c(5, Uint8Array.of(4, 3, 2, 1)));
  assert.is(crc32c_zeros(5, 3), crc32c(5, new Uint8Array(3)));
});

t("any bytes survive becoming a name and back", () => {
  const byte = fc.oneof(
    fc.nat(255),
    fc.constantFrom(0xe0, 0xa0, 0x80, 0xf0, 0x9f, 0xed, 0xf4, 0x8f),
  );
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 12 }), (list) => {
      const b = Uint8Array.from(list);
      assert.equal(name_to_bytes(bytes_to_name(b)), b);
    }),
    { numRuns: 3000 },
  );
  assert.is(bytes_to_name(Uint8Array.of(0x61, 0xff, 0xc3, 0xa4)), "a\udcffä");
});

t("strings and UTF-8 agree with the platform", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (s) => {
      assert.equal(utf8_encode(s), Uint8Array.from(Buffer.from(s, "utf8")));
      assert.is(utf8_decode(utf8_encode(s)), s);
    }),
  );
  const overlong = [0xc0, 0x80, 0xed, 0xa0, 0x80, 0xf4, 0x90, 0x80, 0x80];
  assert.is(utf8_decode(Uint8Array.from(overlong)), "\ufffd".repeat(9));
  assert.is(utf8_decode(Uint8Array.of(0xe2, 0x82)), "\ufffd\ufffd");
});

t.run();

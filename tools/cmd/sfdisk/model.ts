/**
 * tools/cmd/sfdisk/model.ts - a partition table, whatever its kind; the names of partition types;
 * what is wrong, in words.
 */

export interface sfdisk_device {
  /** "/dev/pmem0" */
  readonly path: string;
  /** Bytes of a sector, and how many there are. */
  readonly sector: number;
  readonly sectors: number;
  readonly physical_sector: number;
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
  /** 16 random bytes. */
  random(): Uint8Array;
}

export interface part {
  /** From 1 on. */
  no: number;
  start: number;
  size: number;
  /** A GUID in capitals, or hexadecimal digits. */
  type: string;
  name: string;
  uuid: string;
  bootable: boolean;
  /** GPT: eight bytes of attributes. */
  attrs: Uint8Array;
  /** MBR, logical partitions: the sector of the link that holds it; else 0. */
  link: number;
}

export interface table {
  label: "gpt" | "dos";
  /** A GUID, or "0x12345678". */
  id: string;
  /** First and last sector that partitions may use. */
  first: number;
  last: number;
  /** By number. */
  parts: part[];
}

/** What cannot be done, in words. */
export interface sfdisk_error {
  readonly is_sfdisk_error: true;
  readonly message: string;
  /** Said without the tool's name in front. */
  readonly plain: boolean;
}

export function is_sfdisk_error(e: unknown): e is sfdisk_error {
  return typeof e === "object" && e !== null && "is_sfdisk_error" in e;
}

export const wrong = (message: string, plain = false): sfdisk_error => ({
  is_sfdisk_error: true,
  message,
  plain,
});

/** On standard error; "" when only the status says it. */
export function error_text(e: sfdisk_error): string {
  if (e.message === "") return "";
  return e.plain ? `${e.message}\n` : `sfdisk: ${e.message}\n`;
}

export const new_part = (p: Partial<part> & { start: number; size: number }): part => ({
  no: 0,
  type: "",
  name: "",
  uuid: "",
  bootable: false,
  attrs: new Uint8Array(8),
  link: 0,
  ...p,
});

export const LINUX_GPT = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
export const LINUX_MBR = "83";

export const is_extended = (type: string): boolean => /^0?[5f]$|^85$/i.test(type);

const GPT_NAMES: Readonly<Record<string, string>> = Object.freeze({
  [LINUX_GPT]: "Linux filesystem",
  "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F": "Linux swap",
  "C12A7328-F81F-11D2-BA4B-00A0C93EC93B": "EFI System",
  "933AC7E1-2EB4-4F13-B844-0E14E2AEF915": "Linux home",
  "A19D880F-05FC-4D3B-A006-743F0F84911E": "Linux RAID",
  "E6D6D379-F507-44C2-A23C-238F2A3DF928": "Linux LVM",
  "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709": "Linux root (x86-64)",
  "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7": "Microsoft basic data",
  "21686148-6449-6E6F-744E-656564454649": "BIOS boot",
});

const MBR_NAMES: Readonly<Record<string, string>> = Object.freeze({
  "0": "Empty",
  "5": "Extended",
  "6": "FAT16",
  "7": "HPFS/NTFS/exFAT",
  b: "W95 FAT32",
  c: "W95 FAT32 (LBA)",
  e: "W95 FAT16 (LBA)",
  f: "W95 Ext'd (LBA)",
  "82": "Linux swap / Solaris",
  "83": "Linux",
  "85": "Linux extended",
  "8e": "Linux LVM",
  ee: "GPT",
  ef: "EFI (FAT-12/16/32)",
  fd: "Linux raid autodetect",
});

export const type_name = (label: "gpt" | "dos", type: string): string =>
  (label === "gpt" ? GPT_NAMES[type] : MBR_NAMES[type]) ?? "unknown";

/** What scripts may say instead of a type. */
const SHORT: Readonly<Record<string, readonly [gpt: string, dos: string]>> = Object.freeze({
  L: [LINUX_GPT, "83"],
  S: ["0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "82"],
  U: ["C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "ef"],
  H: ["933AC7E1-2EB4-4F13-B844-0E14E2AEF915", "83"],
  R: ["A19D880F-05FC-4D3B-A006-743F0F84911E", "fd"],
  V: ["E6D6D379-F507-44C2-A23C-238F2A3DF928", "8e"],
  E: [LINUX_GPT, "5"],
  X: [LINUX_GPT, "5"],
});
const LONG_NAMES: Readonly<Record<string, string>> = Object.freeze({
  linux: "L",
  swap: "S",
  uefi: "U",
  home: "H",
  raid: "R",
  lvm: "V",
  extended: "X",
});

/** The type a script means. @throws sfdisk_error */
export function type_of(label: "gpt" | "dos", text: string): string {
  const short = SHORT[LONG_NAMES[text] ?? text];
  if (short) return short[label === "gpt" ? 0 : 1];
  const guid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);
  if (label === "gpt" && guid) return text.toUpperCase();
  const digits = /^(?:0x)?([0-9a-f]{1,2})$/i.exec(text);
  if (label === "dos" && digits) return Number.parseInt(digits[1]!, 16).toString(16);
  throw wrong(`failed to parse ${label === "gpt" ? "GUID" : "partition type"} '${text}'`);
}

/** Attribute bits of a GPT entry by name. */
const ATTRS: readonly (readonly [string, number])[] = Object.freeze([
  ["RequiredPartition", 0],
  ["NoBlockIOProtocol", 1],
  ["LegacyBIOSBootable", 2],
] as const);

export function attrs_text(a: Uint8Array): string {
  const out = ATTRS.filter(([, bit]) => (a[0]! >> bit) & 1).map(([name]) => name);
  const own: number[] = [];
  for (let b = 48; b < 64; b++) if ((a[b >> 3]! >> (b & 7)) & 1) own.push(b);
  if (own.length > 0) out.push(`GUID:${own.join(",")}`);
  return out.join(" ");
}

/** @throws sfdisk_error */
export function attrs_of(text: string): Uint8Array {
  const a = new Uint8Array(8);
  for (const word of text.split(/\s+/).filter((w) => w !== "")) {
    const known = ATTRS.find(([name]) => name === word);
    const bits = known
      ? [known[1]]
      : word
          .replace(/^GUID:/, "")
          .split(",")
          .map(Number);
    for (const b of bits) {
      if (!Number.isInteger(b) || b < 0 || b > 63) throw wrong(`unsupported attribute '${word}'`);
      a[b >> 3]! |= 1 << (b & 7);
    }
  }
  return a;
}

// The framing of the journal's files: length, CRC-32, JSON. A reader stops at the first record that is cut short or
// damaged and says where.

import { crc32 } from "node:zlib";
import type { Json } from "../cluster.ts";

/** Bytes before each payload: length and checksum, both unsigned 32-bit big-endian. */
const HEADER = 8;
/** Larger lengths mean damage, not data. */
const MAX_RECORD = 16 * 1024 * 1024;

export function encodeRecord(value: Json): Buffer {
  const payload = Buffer.from(JSON.stringify(value));
  const record = Buffer.allocUnsafe(HEADER + payload.length);
  record.writeUInt32BE(payload.length, 0);
  record.writeUInt32BE(crc32(payload), 4);
  payload.copy(record, HEADER);
  return record;
}

export interface Read {
  /** Offset after the last whole record. */
  end: number;
  /** What follows `end` cannot be read. */
  damaged: boolean;
}

/** Calls `visit` for each whole record in order. */
export function readRecords(bytes: Buffer, visit: (value: Json) => void): Read {
  let offset = 0;
  while (offset < bytes.length) {
    if (bytes.length - offset < HEADER) return { end: offset, damaged: true };
    const length = bytes.readUInt32BE(offset);
    const end = offset + HEADER + length;
    if (length > MAX_RECORD || end > bytes.length) return { end: offset, damaged: true };
    const payload = bytes.subarray(offset + HEADER, end);
    if (crc32(payload) !== bytes.readUInt32BE(offset + 4)) return { end: offset, damaged: true };
    visit(JSON.parse(payload.toString()));
    offset = end;
  }
  return { end: offset, damaged: false };
}

// Finds the addresses that a message of Get adds, and nothing else of it: a reader that cost as much as the controller
// would be what is measured.

const WIRE = { VARINT: 0, FIXED64: 1, BYTES: 2, FIXED32: 5 };
/** `add.addrs[].addr.ip.ipv4`: each of them is field 1 of what it is in. */
const DEPTH = 5;

/** What `varint` has read. */
let value = 0;

/** @returns where the varint ends */
function varint(bytes: Buffer, from: number): number {
  let at = from;
  value = 0;
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[at]!;
    at += 1;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return at;
  }
}

/**
 * The IPv4 addresses that the `Update` in these bytes adds.
 * @param visit called with each, as a number
 * @throws Error for what is no message
 */
export function addedIn(
  bytes: Buffer,
  from: number,
  to: number,
  visit: (ip: number) => void,
  depth = 1,
): void {
  let at = from;
  while (at < to) {
    at = varint(bytes, at);
    const first = value >>> 3 === 1;
    switch (value & 7) {
      case WIRE.BYTES: {
        at = varint(bytes, at);
        const end = at + value;
        if (first && depth < DEPTH) addedIn(bytes, at, end, visit, depth + 1);
        at = end;
        break;
      }
      case WIRE.FIXED32:
        if (first && depth === DEPTH) visit(bytes.readUInt32LE(at));
        at += 4;
        break;
      case WIRE.FIXED64:
        at += 8;
        break;
      case WIRE.VARINT:
        at = varint(bytes, at);
        break;
      default:
        throw new Error("not a protobuf message");
    }
  }
}

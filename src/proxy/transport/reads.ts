// Reads of sockets that the proxy did not dial itself. Node gives each of their reads 64 KiB of new memory, however
// little comes; here all of them read into one buffer, and only what came is copied. net has this for dialled sockets
// alone (`onread`); its fields are set on the accepted ones. Where Node has no such fields, reads stay as they are.
import { Socket } from "node:net";
import { HEAD } from "../../http2/frame.ts";
import { PAGE_SIZE } from "./pages.ts";

/**
 * What all sockets read into that have no page of their own: used or copied before the callback returns. What a read
 * brings goes on as a DATA frame: with its head it fills four TLS records, where a byte more would begin a fifth.
 */
export const READ_BUFFER = Buffer.allocUnsafeSlow(PAGE_SIZE - HEAD);

/** Bytes came: `buf[0, size)`, valid during the call. @returns false to stop reading until `resume` */
export type OnRead = (size: number, buf: Buffer) => boolean;

/** Asked after each read: what to read into from now on; undefined to stay. */
export type NextBuffer = () => Buffer | undefined;

/** A socket with net's own fields. */
interface Readable {
  _handle?: { useUserBuffer?: (buffer: Buffer) => void } | null;
  [field: symbol]: unknown;
}

/** net's fields for `onread`, by their names. */
const FIELDS = fieldsOf(new Socket());

function fieldsOf(socket: Socket) {
  const symbols = Object.getOwnPropertySymbols(socket);
  const named = (name: string) => symbols.find(({ description }) => description === name);
  const [buffer, callback, next] = [named("kBuffer"), named("kBufferCb"), named("kBufferGen")];
  return buffer && callback && next ? { buffer, callback, next } : undefined;
}

/**
 * Has `socket` read into `buffer` from now on, and tells `onRead` instead of emitting `data`.
 * @returns false when that cannot be: it goes on as before
 */
export function readInto(socket: Socket, buffer: Buffer, onRead: OnRead, next?: NextBuffer): boolean {
  const fields = socket as unknown as Readable;
  const handle = fields._handle;
  const readFrom = handle?.useUserBuffer;
  if (FIELDS === undefined || !readFrom) return false;
  fields[FIELDS.buffer] = buffer;
  fields[FIELDS.callback] = onRead;
  fields[FIELDS.next] = next ?? null;
  readFrom.call(handle, buffer);
  return true;
}

/** Has `socket` emit `data` of the size that came, in memory of its own. */
export function readLean(socket: Socket): void {
  readInto(socket, READ_BUFFER, (size, buf) => socket.push(copyOf(buf, size)));
}

/** A copy of `buf[0, size)`. */
export function copyOf(buf: Buffer, size: number): Buffer {
  const copy = Buffer.allocUnsafe(size);
  buf.copy(copy, 0, 0, size);
  return copy;
}

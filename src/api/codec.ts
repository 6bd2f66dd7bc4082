// Protocol Buffers (proto3) by tables: a message is described once, and the description gives its TypeScript
// type, its encoder and its decoder. Decoding is strict and bounded; unknown fields are skipped.
//
//   const Point = message("example.Point", { x: uint32(1), tags: repeated(string(2)), next: embed(3, () => Other) });
//   type Point = MessageOf<typeof Point>;
//
// Decoded values are plain objects: scalars with proto3 defaults, repeated as arrays, maps as records, embedded
// messages and members of a oneof absent unless set. 64-bit varints are numbers, fixed64 are bigints.
import { type Reader, readerOf, WIRE, WireError } from "./wire.ts";
import { Writer } from "./writer.ts";

export { WireError } from "./wire.ts";

type ScalarName =
  | "string"
  | "bytes"
  | "bool"
  | "uint32"
  | "int32"
  | "uint64"
  | "int64"
  | "enum"
  | "fixed32"
  | "fixed64"
  | "float"
  | "double";

interface ScalarTypes {
  string: string;
  bytes: Buffer;
  bool: boolean;
  uint32: number;
  int32: number;
  uint64: number;
  int64: number;
  enum: number;
  fixed32: number;
  fixed64: bigint;
  float: number;
  double: number;
}

/** How often a field's value occurs: `one` has a default, `optional` (oneof, message) may be absent. */
type Cardinality = "one" | "optional" | "repeated" | "map";

export interface Field<T, C extends Cardinality> {
  readonly number: number;
  readonly cardinality: C;
  readonly scalar: ScalarName | undefined;
  readonly type: (() => Message<T>) | undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: a table of fields of all types.
type AnyField = Field<any, Cardinality>;
type Fields = Record<string, AnyField>;

type ValueOf<F> =
  F extends Field<infer T, "repeated">
    ? T[]
    : F extends Field<infer T, "map">
      ? Record<string, T>
      : F extends Field<infer T, Cardinality>
        ? T
        : never;
type OptionalKeys<F extends Fields> = {
  [K in keyof F]: F[K] extends Field<unknown, "optional"> ? K : never;
}[keyof F];
type Shape<F extends Fields> = { [K in Exclude<keyof F, OptionalKeys<F>>]: ValueOf<F[K]> } & {
  [K in OptionalKeys<F>]?: ValueOf<F[K]> | undefined;
};
type Flat<T> = { [K in keyof T]: T[K] };

/** What encoders take: everything may be left out. */
export type Partially<T> = T extends Buffer | string | number | boolean | bigint
  ? T extends Buffer
    ? Uint8Array
    : T
  : T extends (infer U)[]
    ? readonly Partially<U>[]
    : T extends object
      ? { readonly [K in keyof T]?: Partially<T[K]> | undefined }
      : T;

export interface Message<T> {
  /** Full proto name, for errors. */
  readonly name: string;
  readonly fields: Fields;
  readonly byNumber: readonly (readonly [string, AnyField] | undefined)[];
  /** Never set; carries the type. */
  readonly shape?: T;
}

export type MessageOf<M> = M extends Message<infer T> ? T : never;

/** Describes a message. Field numbers and names are the wire contract (reference: linkerd2-proxy-api). */
export function message<const F extends Fields>(name: string, fields: F): Message<Flat<Shape<F>>> {
  const byNumber: (readonly [string, AnyField] | undefined)[] = [];
  for (const [key, field] of Object.entries(fields)) byNumber[field.number] = [key, field];
  return { name, fields, byNumber };
}

const scalar =
  <N extends ScalarName>(name: N) =>
  (number: number): Field<ScalarTypes[N], "one"> => ({
    number,
    cardinality: "one",
    scalar: name,
    type: undefined,
  });

export const string = scalar("string");
export const bytes = scalar("bytes");
export const bool = scalar("bool");
export const uint32 = scalar("uint32");
export const int32 = scalar("int32");
export const uint64 = scalar("uint64");
export const int64 = scalar("int64");
export const enumeration = scalar("enum");
export const fixed32 = scalar("fixed32");
export const fixed64 = scalar("fixed64");
export const float = scalar("float");
export const double = scalar("double");

/** An embedded message; `type` is a function so that messages may hold themselves. */
export const embed = <T>(number: number, type: () => Message<T>): Field<T, "optional"> => ({
  number,
  cardinality: "optional",
  scalar: undefined,
  type,
});

/** A scalar member of a oneof: absent unless set, and written even when it is the default. */
export const member = <T>(field: Field<T, "one">): Field<T, "optional"> => ({
  ...field,
  cardinality: "optional",
});

export const repeated = <T>(field: Field<T, "one" | "optional">): Field<T, "repeated"> => ({
  ...field,
  cardinality: "repeated",
});

/** map<string, string>, the only kind the API has. */
export const stringMap = (number: number): Field<string, "map"> => ({
  number,
  cardinality: "map",
  scalar: "string",
  type: undefined,
});

/** A unary or server-streaming gRPC method. */
export interface Method<Request, Response> {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly request: Message<Request>;
  readonly response: Message<Response>;
}

export const method = <Q, R>(path: string, request: Message<Q>, response: Message<R>): Method<Q, R> => ({
  path,
  request,
  response,
});

/** Messages nested deeper than this are refused. */
const MAX_DEPTH = 32;
/** Fields (with repetitions) of one encoded message beyond this are refused. */
const MAX_FIELDS = 1_000_000;

// ---- decoding ----

/**
 * Decodes one message from all of `data`. Byte fields are copies.
 * @throws WireError on anything malformed, too deep or too many.
 */
export function decode<T>(type: Message<T>, data: Uint8Array): T {
  const budget = { fields: MAX_FIELDS };
  return decodeInto(type, readerOf(data), data.length, 0, budget) as T;
}

function decodeInto(
  type: Message<unknown>,
  reader: Reader,
  end: number,
  depth: number,
  budget: { fields: number },
): object {
  if (depth > MAX_DEPTH) throw new WireError(`${type.name}: nested deeper than ${MAX_DEPTH}`);
  const out = defaults(type);
  while (reader.at < end) {
    budget.fields -= 1;
    if (budget.fields < 0) throw new WireError(`${type.name}: more than ${MAX_FIELDS} fields`);
    const tag = reader.uint32(end);
    const number = tag >>> 3;
    const wire = tag & 7;
    if (number === 0) throw new WireError(`${type.name}: field number 0`);
    const entry = type.byNumber[number];
    if (!entry) reader.skip(wire, end);
    else decodeField(type, out, entry[0], entry[1], wire, reader, end, depth, budget);
  }
  return out;
}

function decodeField(
  type: Message<unknown>,
  out: Record<string, unknown>,
  key: string,
  field: AnyField,
  wire: number,
  reader: Reader,
  end: number,
  depth: number,
  budget: { fields: number },
): void {
  if (field.cardinality === "map") {
    const [name, value] = decodeMapEntry(reader, expectLength(type, key, wire, reader, end));
    (out[key] as Record<string, string>)[name] = value;
  } else if (field.type) {
    const stop = expectLength(type, key, wire, reader, end);
    const value = decodeInto(field.type(), reader, stop, depth + 1, budget);
    if (field.cardinality === "repeated") (out[key] as unknown[]).push(value);
    // proto3 merges a message that occurs twice; no encoder of this API writes one so, and merging hides errors.
    else out[key] = value;
  } else {
    const name = field.scalar as ScalarName;
    const list = field.cardinality === "repeated" ? (out[key] as unknown[]) : undefined;
    if (list && wire === WIRE.LENGTH && WIRE_OF[name] !== WIRE.LENGTH) {
      const stop = expectLength(type, key, wire, reader, end);
      while (reader.at < stop) {
        budget.fields -= 1;
        if (budget.fields < 0) throw new WireError(`${type.name}: more than ${MAX_FIELDS} fields`);
        list.push(READ[name](reader, stop));
      }
      return;
    }
    if (wire !== WIRE_OF[name]) throw new WireError(`${type.name}.${key}: wire type ${wire} for ${name}`);
    const value = READ[name](reader, end);
    if (list) list.push(value);
    else out[key] = value;
  }
}

function expectLength(
  type: Message<unknown>,
  key: string,
  wire: number,
  reader: Reader,
  end: number,
): number {
  if (wire !== WIRE.LENGTH) throw new WireError(`${type.name}.${key}: wire type ${wire} where bytes belong`);
  return reader.length(end);
}

function decodeMapEntry(reader: Reader, end: number): [string, string] {
  let [name, value] = ["", ""];
  while (reader.at < end) {
    const tag = reader.uint32(end);
    if (tag === 0x0a) name = reader.string(end);
    else if (tag === 0x12) value = reader.string(end);
    else reader.skip(tag & 7, end);
  }
  return [name, value];
}

const WIRE_OF: Record<ScalarName, number> = {
  string: WIRE.LENGTH,
  bytes: WIRE.LENGTH,
  bool: WIRE.VARINT,
  uint32: WIRE.VARINT,
  int32: WIRE.VARINT,
  uint64: WIRE.VARINT,
  int64: WIRE.VARINT,
  enum: WIRE.VARINT,
  fixed32: WIRE.FIXED32,
  float: WIRE.FIXED32,
  fixed64: WIRE.FIXED64,
  double: WIRE.FIXED64,
};

const READ: Record<ScalarName, (reader: Reader, end: number) => unknown> = {
  string: (reader, end) => reader.string(end),
  bytes: (reader, end) => reader.bytes(end),
  bool: (reader, end) => reader.int64(end) !== 0,
  uint32: (reader, end) => reader.int64(end) >>> 0,
  int32: (reader, end) => reader.int64(end) | 0,
  uint64: (reader, end) => reader.uint64(end),
  int64: (reader, end) => reader.int64(end),
  enum: (reader, end) => reader.int64(end) | 0,
  fixed32: (reader, end) => reader.fixed32(end),
  fixed64: (reader, end) => reader.fixed64(end),
  float: (reader, end) => reader.float(end),
  double: (reader, end) => reader.double(end),
};

const NO_BYTES = Buffer.alloc(0);
const DEFAULTS: Record<ScalarName, unknown> = {
  string: "",
  bytes: NO_BYTES,
  bool: false,
  uint32: 0,
  int32: 0,
  uint64: 0,
  int64: 0,
  enum: 0,
  fixed32: 0,
  fixed64: 0n,
  float: 0,
  double: 0,
};

function defaults(type: Message<unknown>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const key in type.fields) {
    const field = type.fields[key]!;
    if (field.cardinality === "one") out[key] = DEFAULTS[field.scalar as ScalarName];
    else if (field.cardinality === "repeated") out[key] = [];
    // Names come from the wire: no prototype to pollute.
    else if (field.cardinality === "map") out[key] = Object.create(null);
  }
  return out;
}

// ---- encoding ----

/** Encodes one message; what is left out has its default and is not written. */
export function encode<T>(type: Message<T>, value: Partially<T>): Buffer {
  const writer = new Writer();
  encodeInto(type, value as Record<string, unknown>, writer);
  return writer.finish();
}

function encodeInto(type: Message<unknown>, value: Record<string, unknown>, writer: Writer): void {
  for (const key in type.fields) {
    const given = value[key];
    if (given === undefined || given === null) continue;
    const field = type.fields[key]!;
    if (field.cardinality === "map") {
      for (const [name, text] of Object.entries(given as Record<string, string>)) {
        writer.tag(field.number, WIRE.LENGTH);
        const mark = writer.begin();
        writer.tag(1, WIRE.LENGTH);
        writer.string(name);
        writer.tag(2, WIRE.LENGTH);
        writer.string(text);
        writer.end(mark);
      }
    } else if (field.cardinality === "repeated") {
      const list = given as readonly unknown[];
      if (!field.type && WIRE_OF[field.scalar as ScalarName] !== WIRE.LENGTH) {
        if (list.length === 0) continue;
        writer.tag(field.number, WIRE.LENGTH);
        const mark = writer.begin();
        for (const item of list) WRITE[field.scalar as ScalarName](writer, item);
        writer.end(mark);
      } else for (const item of list) encodeOne(field, item, writer);
    } else if (field.cardinality === "optional" || !isDefault(given)) encodeOne(field, given, writer);
  }
}

function encodeOne(field: AnyField, value: unknown, writer: Writer): void {
  if (field.type) {
    writer.tag(field.number, WIRE.LENGTH);
    const mark = writer.begin();
    encodeInto(field.type(), value as Record<string, unknown>, writer);
    writer.end(mark);
  } else {
    writer.tag(field.number, WIRE_OF[field.scalar as ScalarName]);
    WRITE[field.scalar as ScalarName](writer, value);
  }
}

const isDefault = (value: unknown): boolean =>
  value === "" ||
  value === false ||
  value === 0n ||
  (value === 0 && !Object.is(value, -0)) ||
  (value instanceof Uint8Array && value.length === 0);

// biome-ignore lint/suspicious/noExplicitAny: each takes the type its scalar has.
const WRITE: Record<ScalarName, (writer: Writer, value: any) => void> = {
  string: (writer, value) => writer.string(value),
  bytes: (writer, value) => writer.bytes(value),
  bool: (writer, value) => writer.varint(value ? 1 : 0),
  uint32: (writer, value) => writer.varint(value),
  int32: (writer, value) => writer.varint(value),
  uint64: (writer, value) => writer.varint(value),
  int64: (writer, value) => writer.varint(value),
  enum: (writer, value) => writer.varint(value),
  fixed32: (writer, value) => writer.fixed32(value),
  fixed64: (writer, value) => writer.fixed64(value),
  float: (writer, value) => writer.float(value),
  double: (writer, value) => writer.double(value),
};

// Heads of HTTP messages as every protocol version shares them, and the changes that routes make to them. Each codec
// has its own form of a head and makes strings of it only when asked: most requests are never looked into.

/** A header field; the name in lower case. */
export type Field = readonly [name: string, value: string];

export interface MessageHead {
  /** The field's values joined by `, `; undefined when there is none. @param name in lower case */
  get(name: string): string | undefined;
  /** The end-to-end fields in order, without pseudo-headers, `host` and what belongs to one connection. */
  fields(): readonly Field[];
  /** Announced length of the body in bytes; -1: not announced. */
  readonly contentLength: number;
}

export interface RequestHead extends MessageHead {
  readonly method: string;
  /** `http` or `https`. */
  readonly scheme: string;
  /** Host or :authority; empty when the request names none. */
  readonly authority: string;
  /** Path and query; `*` for OPTIONS; empty for CONNECT without :protocol. */
  readonly path: string;
  /** HTTP/1 named its target by a whole URI. */
  readonly absoluteForm: boolean;
  /** HTTP/1's minor version; 1 for HTTP/2. */
  readonly minor: number;
  /** Bytes of the head as it came; only of HTTP/1. */
  readonly size?: number | undefined;
  /** :protocol of an extended CONNECT (RFC 8441), such as `websocket`. */
  readonly protocol?: string | undefined;
}

export interface ResponseHead extends MessageHead {
  readonly status: number;
}

/** A field's values joined by `, `; undefined when there is none. @param name in lower case */
export function fieldValue(fields: readonly Field[], name: string): string | undefined {
  const values = fields.filter(([known]) => known === name).map(([, value]) => value);
  return values.length === 0 ? undefined : values.join(", ");
}

/** One change to the fields of a message; `remove` has no value. */
export interface FieldEdit {
  readonly op: "set" | "add" | "remove";
  /** In lower case. */
  readonly name: string;
  readonly value: string;
}

/** Changes to a message on its way. They are applied in order, when the message is written. */
export interface RequestEdits {
  readonly fields: readonly FieldEdit[];
  /** Replaces path and query. */
  readonly path?: string | undefined;
  /** Replaces Host or :authority. */
  readonly authority?: string | undefined;
}

export const NO_EDITS: RequestEdits = { fields: [] };

/** `fields` with `edits` applied in order. */
export function editFields(fields: readonly Field[], edits: readonly FieldEdit[]): readonly Field[] {
  let out = fields;
  for (const { op, name, value } of edits) {
    if (op !== "add") out = out.filter(([known]) => known !== name);
    if (op !== "remove") out = [...out, [name, value]];
  }
  return out;
}

// Objects in Kubernetes' protobuf form, as typed Go clients send them, turned into the JSON form that everything else
// here works on: "k8s\0", then runtime.Unknown {typeMeta, raw}, then the kind's own message.

import { type Reader, readerOf, WIRE, WireError } from "../../../api/wire.ts";
import type { Json } from "../../cluster.ts";
import { INLINE, KIND_MESSAGES, MESSAGES } from "../kinds/messages.ts";
import { microTimestamp, timestamp } from "../resource.ts";
import { badRequest, unsupportedMedia } from "../status.ts";

export const PROTOBUF = "application/vnd.kubernetes.protobuf";
const MAGIC = Buffer.from("k8s\0");
const MAX_DEPTH = 40;

/** Pointers in Go, for which zero differs from absent. Other zeros are dropped, as Go's omitempty does. */
const KEEPS_ZERO = new Set([
  "replicas",
  "terminationGracePeriodSeconds",
  "gracePeriodSeconds",
  "runAsUser",
  "runAsGroup",
  "runAsNonRoot",
  "fsGroup",
  "allowPrivilegeEscalation",
  "readOnlyRootFilesystem",
  "automountServiceAccountToken",
  "enableServiceLinks",
  "completions",
  "parallelism",
  "backoffLimit",
  "revisionHistoryLimit",
  "successfulJobsHistoryLimit",
  "failedJobsHistoryLimit",
  "ttlSecondsAfterFinished",
  "publishNotReadyAddresses",
  "allocateLoadBalancerNodePorts",
]);

/** Throws 400 for malformed bytes, 415 for kinds that only travel as JSON here. */
export function decodeProtobuf(bytes: Buffer): Json {
  try {
    return decodeEnvelope(bytes);
  } catch (error) {
    if (error instanceof WireError) throw badRequest(`cannot decode the protobuf body: ${error.message}`);
    throw error;
  }
}

function decodeEnvelope(bytes: Buffer): Json {
  if (!bytes.subarray(0, 4).equals(MAGIC)) throw new WireError("it does not begin with k8s\\0");
  const reader = readerOf(bytes.subarray(4));
  const end = bytes.length - 4;
  let apiVersion = "";
  let kind = "";
  let raw: Buffer = Buffer.alloc(0);
  while (reader.at < end) {
    const tag = reader.uint32(end);
    if (tag >>> 3 === 1) {
      const stop = reader.length(end);
      while (reader.at < stop) {
        const inner = reader.uint32(stop);
        if (inner >>> 3 === 1) apiVersion = reader.string(stop);
        else if (inner >>> 3 === 2) kind = reader.string(stop);
        else reader.skip(inner & 7, stop);
      }
    } else if (tag >>> 3 === 2) raw = reader.bytes(end);
    else reader.skip(tag & 7, end);
  }
  const group = apiVersion.includes("/") ? apiVersion.split("/")[0] : "";
  const name = kind === "DeleteOptions" ? kind : KIND_MESSAGES[`${group}/${kind}`];
  if (!name) {
    throw unsupportedMedia(
      `${kind} in version ${JSON.stringify(apiVersion)} is only accepted as application/json or application/yaml`,
    );
  }
  return { apiVersion, kind, ...decodeMessage(readerOf(raw), raw.length, name, 0) };
}

interface FieldPlan {
  name: string;
  type: string;
  list: boolean;
}

const plans = new Map<string, Map<number, FieldPlan>>();

function planOf(message: string): Map<number, FieldPlan> {
  let plan = plans.get(message);
  if (!plan) {
    plan = new Map();
    for (const field of (MESSAGES[message] as string).split("; ").filter(Boolean)) {
      const [number, name, type] = field.split(" ") as [string, string, string];
      plan.set(Number(number), { name, type: type.replace("*", ""), list: type.endsWith("*") });
    }
    plans.set(message, plan);
  }
  return plan;
}

function decodeMessage(reader: Reader, end: number, message: string, depth: number): Json {
  if (depth > MAX_DEPTH) throw new WireError("nested too deep");
  const plan = planOf(message);
  const out: Json = {};
  while (reader.at < end) {
    const tag = reader.uint32(end);
    const field = plan.get(tag >>> 3);
    if (!field) {
      reader.skip(tag & 7, end);
      continue;
    }
    const { name, type, list } = field;
    if (type.startsWith("map:")) {
      out[name] ??= {};
      const [key, value] = mapEntry(reader, end, type.slice(4), depth);
      if (key !== "__proto__") out[name][key] = value;
      continue;
    }
    const value = decodeValue(reader, end, tag & 7, type, depth);
    if (list) {
      out[name] ??= [];
      out[name].push(value);
    } else if (INLINE.has(name)) Object.assign(out, value);
    else if (!isZero(value) || KEEPS_ZERO.has(name)) out[name] = value;
  }
  // ExtraValue and the like: a message that only wraps a list.
  return plan.size === 1 && plan.get(1)?.name === "items" ? (out.items ?? []) : out;
}

const isZero = (value: Json) => value === "" || value === 0 || value === false || value === null;

function mapEntry(reader: Reader, end: number, type: string, depth: number): [string, Json] {
  const stop = reader.length(end);
  let key = "";
  let value: Json = type === "string" || type === "bytes" ? "" : {};
  while (reader.at < stop) {
    const tag = reader.uint32(stop);
    if (tag >>> 3 === 1) key = reader.string(stop);
    else if (tag >>> 3 === 2) value = decodeValue(reader, stop, tag & 7, type, depth);
    else reader.skip(tag & 7, stop);
  }
  return [key, value];
}

function decodeValue(reader: Reader, end: number, wire: number, type: string, depth: number): Json {
  if (wire === WIRE.VARINT) return type === "bool" ? reader.int64(end) !== 0 : reader.int64(end);
  if (wire === WIRE.FIXED64) return reader.double(end);
  if (wire === WIRE.FIXED32) return reader.float(end);
  if (type === "string") return reader.string(end);
  if (type === "bytes") return reader.bytes(end).toString("base64");
  const stop = reader.length(end);
  const special = SPECIAL[type];
  if (special) return special(plain(reader, stop));
  return decodeMessage(reader, stop, type, depth + 1);
}

/** The small messages that have a form of their own in JSON: by field number to plain value. */
type Plain = Record<number, number | string | Buffer>;

function plain(reader: Reader, end: number): Plain {
  const out: Plain = {};
  while (reader.at < end) {
    const tag = reader.uint32(end);
    if ((tag & 7) === WIRE.VARINT) out[tag >>> 3] = reader.int64(end);
    else if ((tag & 7) === WIRE.LENGTH) out[tag >>> 3] = reader.bytes(end);
    else reader.skip(tag & 7, end);
  }
  return out;
}

const text = (value: Plain[number] | undefined) => (value === undefined ? "" : value.toString());
const number = (value: Plain[number] | undefined) => (typeof value === "number" ? value : 0);

const SPECIAL: Record<string, (fields: Plain) => Json> = {
  time: (fields) => (fields[1] === undefined ? null : timestamp(number(fields[1]) * 1000)),
  microtime: (fields) =>
    fields[1] === undefined ? null : microTimestamp(number(fields[1]) * 1000 + number(fields[2]) / 1e6),
  quantity: (fields) => text(fields[1]),
  intstr: (fields) => (number(fields[1]) === 1 ? text(fields[3]) : number(fields[2])),
  raw: (fields) => JSON.parse(text(fields[1]) || "null"),
};

// YAML streams in and out: several documents, Lists, comments. Documents that do not change keep every byte.
import { isDeepStrictEqual } from "node:util";
import {
  type CollectionTag,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type ScalarTag,
  Schema,
  type Tags,
  type YAMLMap,
  type YAMLSeq,
} from "yaml";
import { MeshError } from "../util/error.ts";
import { applyPatch, type Operation, segmentsOf } from "./patch.ts";
import type { ResourceResult } from "./resource.ts";
import { assertShape } from "./shape.ts";
import type { Resource } from "./workload.ts";

export interface TransformedResource extends ResourceResult {
  /** `deployment/web` */
  readonly label: string;
  readonly kind: string;
  readonly name: string;
  /** 1-based number of its document in the stream. */
  readonly document: number;
}

export interface Transformed {
  readonly text: string;
  readonly resources: readonly TransformedResource[];
  /** Every object of the stream as it came out. */
  readonly objects: () => unknown[];
}

export type Transform = (resource: Resource) => ResourceResult;

const TRUE = /^(?:[Yy]es|YES|[Tt]rue|TRUE|[Oo]n|ON)$/;
const FALSE = /^(?:[Nn]o|NO|[Ff]alse|FALSE|[Oo]ff|OFF)$/;

/** What is left of a YAML 1.1 tag: y and n are names, not booleans. */
function kubernetesTag(tag: ScalarTag | CollectionTag): (ScalarTag | CollectionTag)[] {
  if (/:(timestamp|binary|omap|pairs|set)$/.test(tag.tag)) return [];
  const { format, test } = tag as ScalarTag;
  if (format === "TIME") return [];
  if (!tag.tag.endsWith(":bool")) return [tag];
  return [{ ...(tag as ScalarTag), test: test?.test("true") ? TRUE : FALSE }];
}

/**
 * Kubernetes reads YAML 1.1 (0644 is octal, yes is true) with merge keys, but without its dates, base-60 numbers
 * and binary. Made once: it costs more than parsing a small document.
 */
const SCHEMA = new Schema({
  schema: "yaml-1.1",
  merge: true,
  resolveKnownTags: false,
  customTags: (tags: Tags) =>
    tags.flatMap((tag): Tags => (typeof tag === "string" ? [tag] : kubernetesTag(tag))),
});

/** A stream larger than this is refused rather than read into memory. */
const MAX_BYTES = 256 * 1024 * 1024;

/**
 * Applies `transform` to every object of a YAML (or JSON) stream, looking into Lists.
 * @param name where the stream is from, for errors
 * @throws MeshError that names the document and the line of what cannot be read
 */
export function transformStream(source: string, name: string, transform: Transform): Transformed {
  if (source.length > MAX_BYTES) throw new MeshError(`${name} is larger than ${MAX_BYTES / 1024 / 1024} MiB`);
  const resources: TransformedResource[] = [];
  const out: string[] = [];
  const objects: (() => unknown[])[] = [];
  let number = 0;
  for (const piece of splitDocuments(source)) {
    number += 1;
    const where = `${name}: document ${number}`;
    const done = transformDocument(piece, where, number, transform, resources);
    out.push(done.text);
    objects.push(done.objects);
  }
  return { text: out.join(""), resources, objects: () => objects.flatMap((get) => get()) };
}

interface Piece {
  readonly text: string;
  /** Line of the stream at which it starts, from 1. */
  readonly line: number;
}

/** Cuts before each `---` line. A marker at the start of a line ends a document wherever it stands (YAML 1.2 §9.1). */
function splitDocuments(source: string): Piece[] {
  const pieces: Piece[] = [];
  const marker = /^---(?=\s|$)/gm;
  let start = 0;
  let line = 1;
  const take = (end: number) => {
    const text = source.slice(start, end);
    // Comments or a directive before the first marker belong to the document that follows.
    const empty = text.split("\n").every((row) => /^\s*(#.*|%.*)?$/.test(row));
    if (text === "" || (empty && end < source.length && pieces.length === 0)) return;
    pieces.push({ text, line });
    line += text.split("\n").length - 1;
    start = end;
  };
  for (const match of source.matchAll(marker)) take(match.index);
  take(source.length);
  return pieces;
}

function transformDocument(
  piece: Piece,
  where: string,
  number: number,
  transform: Transform,
  resources: TransformedResource[],
): { text: string; objects: () => unknown[] } {
  const lines = new LineCounter();
  const document = parseDocument(piece.text, {
    version: "1.1",
    schema: SCHEMA,
    lineCounter: lines,
    logLevel: "error",
  });
  const problem = document.errors[0];
  if (problem) {
    const at = piece.line + lines.linePos(problem.pos[0]).line - 1;
    const reason = problem.message.split(/ at line \d+| and \d+ more|\n/)[0];
    throw new MeshError(`${where}, line ${at}: ${reason}`, { hints: ["correct the YAML and try again"] });
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 1000 });
  } catch (cause) {
    throw new MeshError(`${where}, line ${piece.line}: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    if (value === null) return { text: piece.text, objects: () => [] };
    throw new MeshError(`${where}, line ${piece.line}: expected a Kubernetes object (a map)`);
  }
  const operations: Operation[] = [];
  eachResource(value as Resource, "", (resource, path) => {
    const result = checked(resource, path, where, transform);
    const changed = !isDeepStrictEqual(applyPatch(resource, result.operations), resource);
    if (changed) operations.push(...result.operations.map((op) => ({ ...op, path: `${path}${op.path}` })));
    const kind = resource.kind ?? "";
    const resourceName = resource.metadata?.name ?? resource.metadata?.generateName ?? "";
    resources.push({
      ...result,
      kind,
      name: resourceName,
      label: `${kind.toLowerCase() || "object"}/${resourceName}`,
      document: number,
    });
  });
  if (operations.length === 0) return { text: piece.text, objects: () => [value] };
  for (const operation of operations) applyToDocument(document, operation);
  const text = document.toString({ lineWidth: 0, flowCollectionPadding: false });
  // The tree is let go: of a long stream only text and plain objects stay.
  return { text, objects: () => [applyPatch(value, operations)] };
}

function checked(resource: Resource, path: string, where: string, transform: Transform): ResourceResult {
  try {
    assertShape(resource);
  } catch (cause) {
    const item = path === "" ? "" : `${path.slice(1).replaceAll("/", ".")}.`;
    throw new MeshError(`${where}: ${item}${(cause as Error).message}`, { cause });
  }
  return transform(resource);
}

function eachResource(
  value: Resource,
  path: string,
  visit: (resource: Resource, path: string) => void,
): void {
  const items = (value as { items?: unknown }).items;
  if (typeof value.kind !== "string" || !value.kind.endsWith("List") || !Array.isArray(items)) {
    visit(value, path);
    return;
  }
  const itemKind = value.kind === "List" ? undefined : value.kind.replace(/List$/, "");
  items.forEach((item: Resource | null, index) => {
    if (item === null || typeof item !== "object" || Array.isArray(item)) return;
    // Items of a typed list (a DeploymentList) may leave their own kind out.
    const typed =
      item.kind === undefined && itemKind !== undefined && value.apiVersion !== undefined
        ? { ...item, kind: itemKind, apiVersion: value.apiVersion }
        : item;
    eachResource(typed, `${path}/items/${index}`, visit);
  });
}

/** Applies one operation to the syntax tree, so that comments and styles around it live on. */
function applyToDocument(document: Document.Parsed, operation: Operation): void {
  const path = segmentsOf(operation.path);
  const last = path.pop()!;
  let parent: Node | null | undefined = document.contents;
  for (const name of path) parent = childOf(document, parent, name);
  if (isSeq(parent)) {
    const index = last === "-" ? parent.items.length : Number(last);
    if (operation.op === "remove") parent.items.splice(index, 1);
    else parent.items.splice(index, operation.op === "replace" ? 1 : 0, document.createNode(operation.value));
  } else if (isMap(parent)) {
    if (operation.op === "remove") parent.delete(last);
    else setBlock(document, parent, last, operation.value);
  }
}

function setBlock(document: Document.Parsed, parent: YAMLMap, name: string, value: unknown): void {
  // `annotations: {}` is written in one line; what is put into it should not be.
  if (parent.items.length === 0) parent.flow = false;
  parent.set(name, document.createNode(value));
}

/** The child to descend into; aliases and merged parts become copies, so that nobody else's content changes. */
function childOf(document: Document.Parsed, parent: Node | null | undefined, name: string): Node {
  const collection = parent as YAMLMap | YAMLSeq;
  const key = isSeq(collection) ? Number(name) : name;
  const direct = collection.get(key, true) as Node | undefined;
  if (direct !== undefined && !isAlias(direct) && !isScalar(direct)) {
    if ((isMap(direct) || isSeq(direct)) && direct.items.length === 0) direct.flow = false;
    return direct;
  }
  const source = isAlias(direct) ? direct.resolve(document) : undefined;
  const value = source ? source.toJS(document) : mergedValue(document, collection, name);
  const copy = document.createNode(value, { aliasDuplicateObjects: false }) as Node;
  collection.set(key, copy);
  return copy;
}

const mergedValue = (document: Document.Parsed, collection: YAMLMap | YAMLSeq, name: string): unknown =>
  (collection.toJS(document) as Record<string, unknown>)[name];

// Label and field selectors: the query forms of list and watch, and the object form inside specs.

import type { Json, KubeObject } from "../cluster.ts";
import { at, deepEqual } from "./resource.ts";
import { badRequest } from "./status.ts";

export type Matcher = (object: KubeObject) => boolean;

const KEY = /^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$/;

/** Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Throws 400. Empty or absent: undefined, everything matches. */
export function parseLabelSelector(
  text: string | undefined,
): ((labels: Record<string, string>) => boolean) | undefined {
  if (!text?.trim()) return undefined;
  const tests = splitTop(text).map(requirement);
  return (labels) => tests.every((test) => test(labels));
}

function splitTop(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "(") depth++;
    else if (text[i] === ")") depth--;
    else if (text[i] === "," && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts.map((part) => part.trim());
}

type Labels = Record<string, string>;

function requirement(text: string): (labels: Labels) => boolean {
  const bad = (): never => {
    throw badRequest(`unable to parse requirement: found ${JSON.stringify(text)}, expected a label selector`);
  };
  const set = /^(\S+?)\s+(in|notin)\s*\((.*)\)$/.exec(text);
  if (set) {
    const [, key, operator, list] = set as unknown as [string, string, string, string];
    if (!KEY.test(key)) bad();
    const values = new Set(list.split(",").map((value) => value.trim()));
    return operator === "in"
      ? (labels) => labels[key] !== undefined && values.has(labels[key])
      : (labels) => labels[key] === undefined || !values.has(labels[key]);
  }
  const compare = /^(\S+?)\s*(==|=|!=|>|<)\s*(\S*)$/.exec(text);
  if (compare) {
    const [, key, operator, value] = compare as unknown as [string, string, string, string];
    if (!KEY.test(key)) bad();
    if (operator === "!=") return (labels) => labels[key] !== value;
    if (operator === ">") return (labels) => Number(labels[key]) > Number(value);
    if (operator === "<") return (labels) => Number(labels[key]) < Number(value);
    return (labels) => labels[key] === value;
  }
  const key = text.replace(/^!\s*/, "");
  if (!KEY.test(key)) bad();
  return text.startsWith("!") ? (labels) => labels[key] === undefined : (labels) => labels[key] !== undefined;
}

/** Paths that field selectors may name, besides metadata.name and metadata.namespace, by collection. */
const FIELDS: Record<string, readonly string[]> = {
  "/pods": [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
  ],
  "/events": [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
  ],
  "/namespaces": ["status.phase"],
  "/nodes": ["spec.unschedulable"],
  "/secrets": ["type"],
  "/services": ["spec.clusterIP", "spec.type"],
  "/replicationcontrollers": ["status.replicas"],
  "apps/replicasets": ["status.replicas"],
  "batch/jobs": ["status.successful"],
};
const ALIASES: Record<string, string> = {
  source: "source.component",
  "status.successful": "status.succeeded",
};

/** Parses `a=b,c!=d` over the fields that this kind supports. Throws 400. */
export function parseFieldSelector(text: string | undefined, collection: string): Matcher | undefined {
  if (!text?.trim()) return undefined;
  const tests = text.split(",").map((part): Matcher => {
    const match = /^\s*([^=!]+?)\s*(==|=|!=)\s*(.*?)\s*$/.exec(part);
    if (!match) {
      throw badRequest(`invalid selector: ${JSON.stringify(text)}; can't understand ${JSON.stringify(part)}`);
    }
    const [, field, operator, escaped] = match as unknown as [string, string, string, string];
    const known =
      field === "metadata.name" || field === "metadata.namespace" || FIELDS[collection]?.includes(field);
    if (!known) {
      throw badRequest(
        `Unable to find ${JSON.stringify(collection.replace(/^\//, ""))} that match label selector "", field selector ${JSON.stringify(text)}: field label not supported: ${field}`,
      );
    }
    const value = escaped.replace(/\\(.)/g, "$1");
    const path = ALIASES[field] ?? field;
    const read = (object: KubeObject) =>
      String(at(object, path) ?? (path === "spec.unschedulable" ? false : ""));
    return operator === "!=" ? (object) => read(object) !== value : (object) => read(object) === value;
  });
  return (object) => tests.every((test) => test(object));
}

/** `metadata.name=x` alone names one object: watches and RBAC by name use it. */
export function singleName(fieldSelector: string | undefined): string | undefined {
  return /^metadata\.name={1,2}([^,]+)$/.exec(fieldSelector ?? "")?.[1];
}

/** A `metav1.LabelSelector`: empty matches everything, absent nothing. */
export function selectorMatches(selector: Json, labels: Labels | undefined): boolean {
  if (selector === undefined || selector === null) return false;
  const have = labels ?? {};
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (!deepEqual(have[key], value)) return false;
  }
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const value = have[key];
    if (operator === "In" && !(value !== undefined && values.includes(value))) return false;
    if (operator === "NotIn" && value !== undefined && values.includes(value)) return false;
    if (operator === "Exists" && value === undefined) return false;
    if (operator === "DoesNotExist" && value !== undefined) return false;
  }
  return true;
}

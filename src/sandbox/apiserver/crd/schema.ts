// Structural schemas of CRDs at work: defaulting, pruning and validation of custom objects.

import { TEXT_FORMATS } from "../../../schema/index.ts";
import type { Json } from "../../cluster.ts";
import { deepEqual } from "../resource.ts";
import { type FieldError, invalidValue, notSupported, required } from "../status.ts";

/** Errors reported for one object; more would only repeat the first mistake. */
const MAX_ERRORS = 50;

const isObject = (value: Json) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Fills in defaults, in place. */
export function applyDefaults(value: Json, schema: Json): void {
  if (!schema) return;
  if (Array.isArray(value)) {
    for (const item of value) applyDefaults(item, schema.items);
    return;
  }
  if (!isObject(value)) return;
  for (const [name, property] of Object.entries<Json>(schema.properties ?? {})) {
    const missing = value[name] === undefined || (value[name] === null && !property.nullable);
    if (missing && property.default !== undefined) value[name] = structuredClone(property.default);
    if (value[name] !== undefined) applyDefaults(value[name], property);
  }
  if (isObject(schema.additionalProperties)) {
    for (const [name, item] of Object.entries(value)) {
      if (!schema.properties?.[name]) applyDefaults(item, schema.additionalProperties);
    }
  }
}

/** Removes fields that the schema does not name, in place, and null where it is not allowed. Returns their paths. */
export function prune(value: Json, schema: Json, path = ""): string[] {
  const dropped: string[] = [];
  if (Array.isArray(value)) {
    value.forEach((item, i) => {
      dropped.push(...prune(item, schema?.items, `${path}[${i}]`));
    });
    return dropped;
  }
  if (!isObject(value)) return dropped;
  const open = schema?.["x-kubernetes-preserve-unknown-fields"] === true;
  const embedded = schema?.["x-kubernetes-embedded-resource"] === true;
  for (const name of Object.keys(value)) {
    const at = path ? `${path}.${name}` : name;
    const property = schema?.properties?.[name];
    if (property) {
      if (value[name] === null && !property.nullable) delete value[name];
      else dropped.push(...prune(value[name], property, at));
    } else if (isObject(schema?.additionalProperties)) {
      dropped.push(...prune(value[name], schema.additionalProperties, at));
    } else if (schema?.additionalProperties === true || open) {
      // Kept as it is.
    } else if (embedded && ["apiVersion", "kind", "metadata"].includes(name)) {
      // Part of every embedded object.
    } else {
      delete value[name];
      dropped.push(at);
    }
  }
  return dropped;
}

/** What is wrong with `value` by `schema`, with Kubernetes' wording. */
export function schemaErrors(value: Json, schema: Json, path = ""): FieldError[] {
  const errors: FieldError[] = [];
  check(value, schema, path, errors);
  return errors.slice(0, MAX_ERRORS);
}

const typeName = (value: Json) =>
  value === null
    ? "null"
    : Array.isArray(value)
      ? "array"
      : Number.isInteger(value)
        ? "integer"
        : (typeof value as string);

function check(value: Json, schema: Json, path: string, errors: FieldError[]): void {
  if (!schema || errors.length >= MAX_ERRORS) return;
  if (value === null && schema.nullable) return;
  if (!typeFits(value, schema)) {
    const type = schema["x-kubernetes-int-or-string"] ? "integer or string" : schema.type;
    errors.push({
      field: path || "<root>",
      reason: "FieldValueTypeInvalid",
      message: `Invalid value: ${JSON.stringify(typeName(value))}: ${path || "<root>"} in body must be of type ${type}: ${JSON.stringify(typeName(value))}`,
    });
    return;
  }
  const bad = (why: string) =>
    errors.push(invalidValue(path || "<root>", value, `${path || "<root>"} in body ${why}`));
  if (schema.enum && !schema.enum.some((allowed: Json) => deepEqual(allowed, value))) {
    errors.push(notSupported(path || "<root>", value, schema.enum));
  }
  if (typeof value === "string") checkString(value, schema, bad);
  else if (typeof value === "number") checkNumber(value, schema, bad);
  else if (Array.isArray(value)) checkArray(value, schema, path, errors, bad);
  else if (isObject(value)) checkObject(value, schema, path, errors, bad);
  checkCombined(value, schema, path, errors, bad);
}

function typeFits(value: Json, schema: Json): boolean {
  if (schema["x-kubernetes-int-or-string"]) return typeof value === "string" || Number.isInteger(value);
  switch (schema.type) {
    case undefined:
      return true;
    case "object":
      return isObject(value);
    case "array":
      return Array.isArray(value);
    case "integer":
      return Number.isInteger(value);
    case "number":
      return typeof value === "number";
    default:
      return typeof value === schema.type;
  }
}

const FORMATS: Record<string, (text: string) => boolean> = {
  ...TEXT_FORMATS,
  date: (text) => /^\d{4}-\d\d-\d\d$/.test(text),
  ipv4: (text) => /^(\d{1,3}\.){3}\d{1,3}$/.test(text),
  ipv6: (text) => text.includes(":"),
  uuid: (text) => /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(text),
  byte: (text) => /^[A-Za-z0-9+/]*={0,2}$/.test(text),
};

function checkString(value: string, schema: Json, bad: (why: string) => void): void {
  const length = [...value].length;
  if (schema.maxLength !== undefined && length > schema.maxLength) {
    bad(`should be at most ${schema.maxLength} chars long`);
  }
  if (schema.minLength !== undefined && length < schema.minLength) {
    bad(`should be at least ${schema.minLength} chars long`);
  }
  if (schema.pattern !== undefined && !compiled(schema.pattern).test(value)) {
    bad(`should match '${schema.pattern}'`);
  }
  const format = schema.format && FORMATS[schema.format];
  if (format && !format(value)) bad(`must be of type ${schema.format}: ${JSON.stringify(value)}`);
}

const patterns = new Map<string, RegExp>();

/** Go's RE2 syntax, as far as JavaScript shares it; a pattern that it does not know matches everything. */
function compiled(pattern: string): RegExp {
  let found = patterns.get(pattern);
  if (!found) {
    try {
      found = new RegExp(pattern.replace(/^\(\?i\)/, ""), pattern.startsWith("(?i)") ? "iu" : "u");
    } catch {
      try {
        found = new RegExp(pattern);
      } catch {
        found = /(?:)/;
      }
    }
    if (patterns.size > 10_000) patterns.clear();
    patterns.set(pattern, found);
  }
  return found;
}

function checkNumber(value: number, schema: Json, bad: (why: string) => void): void {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, format } = schema;
  if (minimum !== undefined && (exclusiveMinimum ? value <= minimum : value < minimum)) {
    bad(`should be greater than ${exclusiveMinimum ? "" : "or equal to "}${minimum}`);
  }
  if (maximum !== undefined && (exclusiveMaximum ? value >= maximum : value > maximum)) {
    bad(`should be less than ${exclusiveMaximum ? "" : "or equal to "}${maximum}`);
  }
  if (multipleOf !== undefined && value % multipleOf !== 0) bad(`should be a multiple of ${multipleOf}`);
  if (format === "int32" && (value < -(2 ** 31) || value > 2 ** 31 - 1)) bad("must be of type int32");
}

function checkArray(
  value: Json[],
  schema: Json,
  path: string,
  errors: FieldError[],
  bad: (why: string) => void,
): void {
  if (schema.maxItems !== undefined && value.length > schema.maxItems) {
    errors.push({
      field: path,
      reason: "FieldValueTooLong",
      message: `Too many: ${value.length}: must have at most ${schema.maxItems} items`,
    });
  }
  if (schema.minItems !== undefined && value.length < schema.minItems) {
    bad(`should have at least ${schema.minItems} items`);
  }
  const listType = schema["x-kubernetes-list-type"];
  const keys: string[] | undefined = listType === "map" ? schema["x-kubernetes-list-map-keys"] : undefined;
  if (keys || listType === "set" || schema.uniqueItems) {
    const seen = new Set<string>();
    value.forEach((item, i) => {
      const key = JSON.stringify(keys ? keys.map((name) => item?.[name]) : item);
      if (seen.has(key)) {
        const shown = keys ? Object.fromEntries(keys.map((name) => [name, item?.[name]])) : item;
        errors.push({
          field: `${path}[${i}]`,
          reason: "FieldValueDuplicate",
          message: `Duplicate value: ${JSON.stringify(shown)}`,
        });
      }
      seen.add(key);
    });
  }
  value.forEach((item, i) => {
    check(item, schema.items, `${path}[${i}]`, errors);
  });
}

function checkObject(
  value: Json,
  schema: Json,
  path: string,
  errors: FieldError[],
  bad: (why: string) => void,
): void {
  for (const name of schema.required ?? []) {
    if (value[name] === undefined) errors.push(required(path ? `${path}.${name}` : name));
  }
  const count = Object.keys(value).length;
  if (schema.maxProperties !== undefined && count > schema.maxProperties) {
    bad(`should have at most ${schema.maxProperties} properties`);
  }
  if (schema.minProperties !== undefined && count < schema.minProperties) {
    bad(`should have at least ${schema.minProperties} properties`);
  }
  for (const [name, item] of Object.entries(value)) {
    const property =
      schema.properties?.[name] ??
      (isObject(schema.additionalProperties) ? schema.additionalProperties : undefined);
    if (property) check(item, property, path ? `${path}.${name}` : name, errors);
  }
}

function checkCombined(
  value: Json,
  schema: Json,
  path: string,
  errors: FieldError[],
  bad: (why: string) => void,
): void {
  const matches = (inner: Json) => schemaErrors(value, inner, path).length === 0;
  for (const inner of schema.allOf ?? []) check(value, inner, path, errors);
  if (schema.anyOf && !schema.anyOf.some(matches)) bad("must validate at least one schema (anyOf)");
  if (schema.oneOf) {
    const count = schema.oneOf.filter(matches).length;
    if (count === 0) bad("must validate one and only one schema (oneOf). Found none valid");
    if (count > 1) bad(`must validate one and only one schema (oneOf). Found ${count} valid alternatives`);
  }
  if (schema.not && matches(schema.not)) bad("must not validate the schema (not)");
}

// The syntax of names, labels and annotations (apimachinery validation), with Kubernetes' own messages.

import type { Json } from "../../cluster.ts";
import { type FieldError, invalidValue } from "../status.ts";

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const DNS_1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;

export function dnsLabel(name: string): string | undefined {
  if (name.length > 63) return "must be no more than 63 characters";
  if (LABEL.test(name)) return undefined;
  return "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
}

export function dnsSubdomain(name: string): string | undefined {
  if (name.length > 253) return "must be no more than 253 characters";
  if (SUBDOMAIN.test(name)) return undefined;
  return "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
}

export function dns1035Label(name: string): string | undefined {
  if (name.length > 63) return "must be no more than 63 characters";
  if (DNS_1035.test(name)) return undefined;
  return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
}

/** Anything that fits in one path segment: RBAC names, which hold colons. */
export function pathSegment(name: string): string | undefined {
  if (name === "." || name === "..") return `may not be '${name}'`;
  if (/[/%]/.test(name)) return "may not contain '/' or '%'";
  return undefined;
}

/** `prefix/name` as label keys, annotation keys and finalizers are written. */
export function qualifiedName(key: string): string | undefined {
  const slash = key.indexOf("/");
  const prefix = slash < 0 ? undefined : key.slice(0, slash);
  const name = slash < 0 ? key : key.slice(slash + 1);
  if (prefix !== undefined) {
    if (prefix === "") return "prefix part must be non-empty";
    const bad = dnsSubdomain(prefix);
    if (bad) return `prefix part ${bad}`;
  }
  if (name === "") return "name part must be non-empty";
  if (name.length > 63) return "name part must be no more than 63 characters";
  if (QUALIFIED.test(name)) return undefined;
  return "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
}

export function labelValue(value: string): string | undefined {
  if (value.length > 63) return "must be no more than 63 characters";
  if (value === "" || QUALIFIED.test(value)) return undefined;
  return "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
}

/** Total size of all annotations of an object. */
const ANNOTATIONS_LIMIT = 256 * 1024;

export function labelErrors(labels: Json, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (labels === undefined) return errors;
  for (const [key, value] of Object.entries(labels)) {
    const badKey = qualifiedName(key);
    if (badKey) errors.push(invalidValue(path, key, badKey));
    const badValue = labelValue(String(value));
    if (badValue) errors.push(invalidValue(path, value, badValue));
  }
  return errors;
}

export function metadataErrors(metadata: Json, path = "metadata"): FieldError[] {
  const errors = labelErrors(metadata.labels, `${path}.labels`);
  let size = 0;
  for (const [key, value] of Object.entries(metadata.annotations ?? {})) {
    const bad = qualifiedName(key.toLowerCase());
    if (bad) errors.push(invalidValue(`${path}.annotations`, key, bad));
    size += key.length + String(value).length;
  }
  if (size > ANNOTATIONS_LIMIT) {
    errors.push({
      field: `${path}.annotations`,
      reason: "FieldValueTooLong",
      message: `Too long: may not be more than ${ANNOTATIONS_LIMIT} bytes`,
    });
  }
  for (const finalizer of metadata.finalizers ?? []) {
    const bad = qualifiedName(finalizer);
    if (bad) errors.push(invalidValue(`${path}.finalizers`, finalizer, bad));
  }
  return errors;
}

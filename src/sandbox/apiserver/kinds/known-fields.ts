// Fields that a built-in kind does not have: the typos that strict field validation finds.

import type { Json } from "../../cluster.ts";
import { INLINE, KIND_MESSAGES, MESSAGES } from "./messages.ts";

/** Paths of fields that are unknown; empty for kinds whose messages are not described here. */
export function unknownFields(group: string, kind: string, object: Json): string[] {
  const message = KIND_MESSAGES[`${group}/${kind}`];
  if (!message) return [];
  const { apiVersion, kind: _kind, status, ...content } = object;
  const found: string[] = [];
  descend(content, message, "", found);
  return found;
}

const fieldsOfMessage = new Map<string, Map<string, { type: string; list: boolean }>>();

/** JSON fields of a message, with those of embedded structs. */
function fieldsOf(message: string): Map<string, { type: string; list: boolean }> {
  let fields = fieldsOfMessage.get(message);
  if (!fields) {
    fields = new Map();
    for (const field of (MESSAGES[message] as string).split("; ").filter(Boolean)) {
      const [, name, type] = field.split(" ") as [string, string, string];
      if (INLINE.has(name)) for (const [key, value] of fieldsOf(type)) fields.set(key, value);
      else fields.set(name, { type: type.replace("*", ""), list: type.endsWith("*") });
    }
    if (message === "ObjectMeta") fields.set("managedFields", { type: "raw", list: false });
    fieldsOfMessage.set(message, fields);
  }
  return fields;
}

function descend(value: Json, message: string, path: string, found: string[]): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return;
  const fields = fieldsOf(message);
  for (const [name, part] of Object.entries(value)) {
    const at = path ? `${path}.${name}` : name;
    const field = fields.get(name);
    if (!field) found.push(at);
    else if (!Object.hasOwn(MESSAGES, field.type)) continue;
    else if (!field.list) descend(part, field.type, at, found);
    else if (Array.isArray(part))
      part.forEach((item, i) => void descend(item, field.type, `${at}[${i}]`, found));
  }
}

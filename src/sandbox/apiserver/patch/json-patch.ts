// RFC 6902 JSON Patch and RFC 7386 JSON Merge Patch.

import type { Json } from "../../cluster.ts";
import { deepEqual } from "../resource.ts";
import { ApiError, badRequest } from "../status.ts";

/** Operations in one patch; Kubernetes has the same bound. */
const MAX_OPERATIONS = 10_000;

const invalidPatch = (message: string) =>
  new ApiError(422, "Invalid", `the server rejected our request due to an error in our request: ${message}`);

/** Applies a JSON Patch to a copy of `document`. Throws 400 for malformed and 422 for impossible patches. */
export function jsonPatch(document: Json, operations: Json): Json {
  if (!Array.isArray(operations)) throw badRequest("a JSON patch must be an array of operations");
  if (operations.length > MAX_OPERATIONS) {
    throw new ApiError(
      413,
      "RequestEntityTooLarge",
      `The allowed maximum operations in a JSON patch is ${MAX_OPERATIONS}, got ${operations.length}`,
    );
  }
  let root = structuredClone(document);
  const holder: Holder = {
    get: () => root,
    set(value: Json) {
      root = value;
    },
  };
  for (const operation of operations) {
    const { op, path, from, value } = operation ?? {};
    if (typeof path !== "string") throw badRequest("a JSON patch operation lacks its path");
    switch (op) {
      case "add":
        add(holder, pointer(path), structuredClone(value));
        break;
      case "remove":
        remove(holder, pointer(path));
        break;
      case "replace":
        read(root, pointer(path));
        replace(holder, pointer(path), structuredClone(value));
        break;
      case "move": {
        const moved = remove(holder, pointer(from ?? ""));
        add(holder, pointer(path), moved);
        break;
      }
      case "copy":
        add(holder, pointer(path), structuredClone(read(root, pointer(from ?? ""))));
        break;
      case "test": {
        const found = readOrUndefined(root, pointer(path));
        if (!deepEqual(found ?? null, value ?? null)) throw invalidPatch(`testing value ${path} failed`);
        break;
      }
      default:
        throw badRequest(`unknown JSON patch operation ${JSON.stringify(op)}`);
    }
  }
  return root;
}

interface Holder {
  get(): Json;
  set(value: Json): void;
}

function pointer(path: string): string[] {
  if (path === "") return [];
  if (!path.startsWith("/")) throw badRequest(`${JSON.stringify(path)} is not a JSON pointer`);
  return path
    .slice(1)
    .split("/")
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function step(value: Json, key: string): Json {
  if (Array.isArray(value)) return value[index(key, value.length - 1)];
  if (typeof value === "object" && value !== null && Object.hasOwn(value, key)) return value[key];
  return undefined;
}

function index(key: string, last: number): number {
  const at = /^(0|[1-9]\d*)$/.test(key) ? Number(key) : /^-\d+$/.test(key) ? last + 1 + Number(key) : -1;
  if (at < 0 || at > last) throw invalidPatch(`index ${key} is out of bounds`);
  return at;
}

function readOrUndefined(root: Json, path: string[]): Json {
  let value = root;
  for (const key of path) {
    if (Array.isArray(value) && !(Number(key) < value.length)) return undefined;
    value = step(value, key);
  }
  return value;
}

function read(root: Json, path: string[]): Json {
  const value = readOrUndefined(root, path);
  if (value === undefined) throw invalidPatch(`path /${path.join("/")} does not exist`);
  return value;
}

function parent(holder: Holder, path: string[]): Json {
  const value = path.length === 1 ? holder.get() : read(holder.get(), path.slice(0, -1));
  if (typeof value !== "object" || value === null) {
    throw invalidPatch(`path /${path.slice(0, -1).join("/")} is neither object nor array`);
  }
  return value;
}

function add(holder: Holder, path: string[], value: Json): void {
  if (path.length === 0) {
    holder.set(value);
    return;
  }
  const key = safeKey(path.at(-1) as string);
  const target = parent(holder, path);
  if (!Array.isArray(target)) target[key] = value;
  else target.splice(key === "-" ? target.length : index(key, target.length), 0, value);
}

function replace(holder: Holder, path: string[], value: Json): void {
  if (path.length === 0) {
    holder.set(value);
    return;
  }
  const key = path.at(-1) as string;
  const target = parent(holder, path);
  if (Array.isArray(target)) target[index(key, target.length - 1)] = value;
  else target[safeKey(key)] = value;
}

function remove(holder: Holder, path: string[]): Json {
  const value = read(holder.get(), path);
  if (path.length === 0) holder.set(null);
  else {
    const key = path.at(-1) as string;
    const target = parent(holder, path);
    if (Array.isArray(target)) target.splice(index(key, target.length - 1), 1);
    else delete target[key];
  }
  return value;
}

function safeKey(key: string): string {
  if (key === "__proto__") throw badRequest("__proto__ is not a field");
  return key;
}

/** Applies a JSON Merge Patch; `target` is not altered. */
export function mergePatch(target: Json, patch: Json): Json {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return structuredClone(patch);
  const out: Json =
    typeof target === "object" && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    safeKey(key);
    if (value === null) delete out[key];
    else out[key] = mergePatch(out[key], value);
  }
  return out;
}

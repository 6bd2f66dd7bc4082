// RFC 6902 operations: the one form in which injection is expressed, whatever it is applied to.

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

export type Operation =
  | { readonly op: "add" | "replace"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string };

/** One segment of a JSON pointer (RFC 6901), escaped. */
export const segment = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");

/** The segments of a pointer; the empty pointer has none. */
export function segmentsOf(path: string): string[] {
  return path
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** `target` with the operations applied; `target` itself is left as it was. @throws Error for a path that is not there. */
export function applyPatch<T>(target: T, operations: readonly Operation[]): T {
  const result = structuredClone(target);
  for (const operation of operations) applyOne(result, operation);
  return result;
}

function applyOne(root: unknown, operation: Operation): void {
  const path = segmentsOf(operation.path);
  const last = path.pop();
  if (last === undefined) throw new Error("the whole document cannot be patched");
  let parent = root as Record<string, unknown>;
  for (const name of path) {
    const next = parent[name];
    if (typeof next !== "object" || next === null) throw new Error(`${operation.path} is not there`);
    parent = next as Record<string, unknown>;
  }
  if (Array.isArray(parent)) {
    const index = last === "-" ? parent.length : Number(last);
    if (operation.op === "add") parent.splice(index, 0, structuredClone(operation.value));
    else if (operation.op === "remove") parent.splice(index, 1);
    else parent[index] = structuredClone(operation.value);
  } else if (operation.op === "remove") delete parent[last];
  else parent[last] = structuredClone(operation.value);
}

/** Operations that put `entries` into the map at `path`, which is made when `existing` says that there is none. */
export function setEntries(
  path: string,
  existing: Readonly<Record<string, string>> | null | undefined,
  entries: Readonly<Record<string, string>>,
): Operation[] {
  const names = Object.keys(entries);
  if (names.length === 0) return [];
  if (!existing) return [{ op: "add", path, value: entries }];
  return names
    .filter((name) => existing[name] !== entries[name])
    .map((name) => ({
      op: Object.hasOwn(existing, name) ? "replace" : "add",
      path: `${path}/${segment(name)}`,
      value: entries[name],
    }));
}

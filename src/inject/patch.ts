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

/**
 * `target` with the operations applied. `target` stays as it was: only what lies on a changed path is copied, the
 * rest is shared.
 * @throws Error for a path that is not there
 */
export function applyPatch<T>(target: T, operations: readonly Operation[]): T {
  let result: unknown = target;
  for (const operation of operations) result = changed(result, segmentsOf(operation.path), 0, operation);
  return result as T;
}

/** A copy of `node` with the operation done at `path[depth…]`. */
function changed(node: unknown, path: readonly string[], depth: number, operation: Operation): unknown {
  const name = path[depth];
  if (name === undefined) throw new Error("the whole document cannot be patched");
  if (typeof node !== "object" || node === null) throw new Error(`${operation.path} is not there`);
  const last = depth === path.length - 1;
  if (Array.isArray(node)) {
    const copy = [...node];
    const index = name === "-" ? copy.length : Number(name);
    if (!last) copy[index] = changed(copy[index], path, depth + 1, operation);
    else if (operation.op === "remove") copy.splice(index, 1);
    else copy.splice(index, operation.op === "replace" ? 1 : 0, operation.value);
    return copy;
  }
  const copy = { ...node } as Record<string, unknown>;
  if (!last) copy[name] = changed(copy[name], path, depth + 1, operation);
  else if (operation.op === "remove") delete copy[name];
  else copy[name] = operation.value;
  return copy;
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

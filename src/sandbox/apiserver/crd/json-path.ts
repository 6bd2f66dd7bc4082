// The small JSONPath of additionalPrinterColumns: fields, quoted fields, indexes, wildcards and equality filters.

import type { Json } from "../../cluster.ts";

type Step =
  | { kind: "field"; name: string }
  | { kind: "index"; index: number }
  | { kind: "all" }
  | { kind: "filter"; path: Step[]; operator: string; value: Json };

const SYNTAX: ReadonlyArray<[RegExp, (match: string[]) => Step | undefined]> = [
  [
    /^\.?\[\?\(\s*@(.*?)\s*(==|!=)\s*(".*?"|'.*?'|[\w.+-]+)\s*\)\]/,
    ([, inner, operator, value]) => {
      const path = parseJsonPath(inner as string);
      return path && { kind: "filter", path, operator: operator as string, value: unquoted(value as string) };
    },
  ],
  [
    /^\.?\[(['"])(.*?)\1\]/,
    ([, , name]) => ({ kind: "field", name: (name as string).replaceAll("\\.", ".") }),
  ],
  [/^\.?\[(-?\d+)\]/, ([, index]) => ({ kind: "index", index: Number(index) })],
  [/^(\.?\[\*\]|\.\*)/, () => ({ kind: "all" })],
  [/^\.((?:\\.|[^.[\]\\])+)/, ([, name]) => ({ kind: "field", name: (name as string).replaceAll("\\", "") })],
];

/** Reads a path as CRDs write it: `.spec.x`, `.status.conditions[?(@.type=="Ready")].status`. Unknown syntax: undefined. */
export function parseJsonPath(text: string): Step[] | undefined {
  const steps: Step[] = [];
  let rest = text
    .trim()
    .replace(/^\{(.*)\}$/, "$1")
    .replace(/^\$/, "");
  while (rest !== "") {
    const read = SYNTAX.map(([pattern, make]) => ({ match: pattern.exec(rest), make })).find(
      ({ match }) => match,
    );
    const step = read?.match && read.make(read.match as unknown as string[]);
    if (!step) return undefined;
    steps.push(step);
    rest = rest.slice(read.match?.[0].length);
  }
  return steps;
}

/** Every value that the path reaches. */
export function readJsonPath(value: Json, steps: readonly Step[]): Json[] {
  let found: Json[] = [value];
  for (const step of steps) found = found.flatMap((item) => take(item, step));
  return found;
}

function take(value: Json, step: Step): Json[] {
  if (typeof value !== "object" || value === null) return [];
  switch (step.kind) {
    case "field":
      return !Array.isArray(value) && Object.hasOwn(value, step.name) ? [value[step.name]] : [];
    case "index":
      return Array.isArray(value) && value.at(step.index) !== undefined ? [value.at(step.index)] : [];
    case "all":
      return Object.values(value);
    case "filter":
      return (Array.isArray(value) ? value : []).filter((item) => {
        const [found] = readJsonPath(item, step.path);
        const equal = String(found) === String(step.value) && found !== undefined;
        return step.operator === "==" ? equal : !equal;
      });
  }
}

function unquoted(text: string): Json {
  return /^['"]/.test(text) ? text.slice(1, -1) : text;
}

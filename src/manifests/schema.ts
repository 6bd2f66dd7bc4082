// A small schema: one description gives the type, defaults, the check with path and message, and text coercion.
import { nearest } from "../util/nearest.ts";

export interface Problem {
  /** Dotted path from the root, empty for the root itself. */
  readonly path: string;
  readonly message: string;
}

export interface Schema<T> {
  /** What is expected, as the end of "expected …". */
  readonly expects: string;
  /** Value used where the input has none. */
  readonly fallback: T;
  /** The checked value; what is wrong is added to `problems` and the fallback stands in for it. */
  read(input: unknown, path: string, problems: Problem[]): T;
  /** Turns text (of a flag or an annotation) into an input for {@link read}. */
  fromText(text: string): unknown;
}

export type Infer<S> = S extends Schema<infer T> ? T : never;

function leaf<T>(
  expects: string,
  fallback: T,
  check: (input: unknown) => T | undefined,
  fromText: (text: string) => unknown = (text) => text,
): Schema<T> {
  return {
    expects,
    fallback,
    fromText,
    read(input, path, problems) {
      if (input === undefined || input === null) return fallback;
      const value = check(input);
      if (value !== undefined) return value;
      problems.push({ path, message: `expected ${expects}, got ${shown(input)}` });
      return fallback;
    },
  };
}

/** At most this many characters of a wrong value are repeated. */
const SHOWN = 60;

function shown(input: unknown): string {
  const text = JSON.stringify(input) ?? String(input);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

const numberText = (text: string) => (/^[+-]?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : text);

/** Text; numbers and booleans that YAML made of bare words count as the text they were. */
export function text(fallback: string): Schema<string> {
  return leaf("text", fallback, (input) =>
    typeof input === "string"
      ? input
      : typeof input === "number" || typeof input === "boolean"
        ? String(input)
        : undefined,
  );
}

/** Text that `parse` accepts; the message of what it throws becomes the problem. */
export function parsed(expects: string, fallback: string, parse: (text: string) => unknown): Schema<string> {
  const plain = text(fallback);
  return {
    ...plain,
    expects,
    read(input, path, problems) {
      const before = problems.length;
      const value = plain.read(input, path, problems);
      if (problems.length > before || value === fallback) return value;
      try {
        parse(value);
        return value;
      } catch (error) {
        problems.push({ path, message: (error as Error).message });
        return fallback;
      }
    },
  };
}

export function integer(fallback: number, range: { min: number; max: number }): Schema<number> {
  return leaf(
    `an integer from ${range.min} to ${range.max}`,
    fallback,
    (input) =>
      Number.isInteger(input) && (input as number) >= range.min && (input as number) <= range.max
        ? (input as number)
        : undefined,
    numberText,
  );
}

export function decimal(fallback: number, range: { min: number; max: number }): Schema<number> {
  return leaf(
    `a number from ${range.min} to ${range.max}`,
    fallback,
    (input) => (typeof input === "number" && input >= range.min && input <= range.max ? input : undefined),
    numberText,
  );
}

export function flag(fallback: boolean): Schema<boolean> {
  return leaf(
    "true or false",
    fallback,
    (input) => (typeof input === "boolean" ? input : undefined),
    (source) => (source === "true" ? true : source === "false" ? false : source),
  );
}

export function choice<const T extends string>(options: readonly T[], fallback: T): Schema<T> {
  return leaf(`one of ${options.join(", ")}`, fallback, (input) =>
    options.includes(input as T) ? (input as T) : undefined,
  );
}

export function list<T>(item: Schema<T>): Schema<readonly T[]> {
  return {
    expects: "a list",
    fallback: [],
    fromText(source) {
      try {
        return JSON.parse(source);
      } catch {
        return source;
      }
    },
    read(input, path, problems) {
      if (input === undefined || input === null) return [];
      if (!Array.isArray(input)) {
        problems.push({ path, message: `expected a list, got ${shown(input)}` });
        return [];
      }
      return input.map((value, index) => item.read(value, `${path}[${index}]`, problems));
    },
  };
}

/** Any map, passed through as it is: for parts whose meaning is Kubernetes' own. */
export function map(fallback: Readonly<Record<string, unknown>>): Schema<Readonly<Record<string, unknown>>> {
  return leaf(
    "a map",
    fallback,
    (input) =>
      typeof input === "object" && !Array.isArray(input) ? (input as Record<string, unknown>) : undefined,
    (source) => {
      try {
        return JSON.parse(source);
      } catch {
        return source;
      }
    },
  );
}

type Fields = Readonly<Record<string, Schema<unknown>>>;
export type ObjectSchema<F extends Fields> = Schema<{ readonly [K in keyof F]: Infer<F[K]> }> & {
  readonly fields: F;
};

export function object<F extends Fields>(fields: F): ObjectSchema<F> {
  type Value = { readonly [K in keyof F]: Infer<F[K]> };
  const names = Object.keys(fields);
  const fallback = Object.fromEntries(names.map((name) => [name, fields[name]!.fallback])) as Value;
  return {
    expects: "a map",
    fallback,
    fields,
    fromText: (source) => source,
    read(input, path, problems) {
      if (input === undefined || input === null) return fallback;
      if (typeof input !== "object" || Array.isArray(input)) {
        problems.push({ path, message: `expected a map, got ${shown(input)}` });
        return fallback;
      }
      const given = input as Record<string, unknown>;
      const join = (name: string) => (path === "" ? name : `${path}.${name}`);
      for (const name of Object.keys(given)) {
        if (!Object.hasOwn(fields, name))
          problems.push({ path: join(name), message: unknownName(name, names) });
      }
      return Object.fromEntries(
        names.map((name) => [name, fields[name]!.read(given[name], join(name), problems)]),
      ) as Value;
    },
  };
}

/** The schema at a dotted path, or the problem that there is none. */
export function schemaAt(schema: Schema<unknown>, path: string): Schema<unknown> | Problem {
  let current = schema;
  const seen: string[] = [];
  for (const name of path.split(".")) {
    seen.push(name);
    const fields = (current as Partial<ObjectSchema<Fields>>).fields;
    if (!fields)
      return { path: seen.join("."), message: `there is nothing below ${seen.slice(0, -1).join(".")}` };
    if (!Object.hasOwn(fields, name)) {
      return { path: seen.join("."), message: unknownName(name, Object.keys(fields)) };
    }
    current = fields[name]!;
  }
  return current;
}

function unknownName(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near === undefined
    ? `unknown name; expected one of ${known.join(", ")}`
    : `unknown name; did you mean ${near}?`;
}

// Objects, lists and maps of other schemas.
import {
  type Findings,
  type Infer,
  isMap,
  join,
  type OpenApi,
  type Optional,
  type Problem,
  type Schema,
  schemaOf,
  shown,
  unknownName,
} from "./schema.ts";

const jsonText = (source: string): unknown => {
  try {
    return JSON.parse(source);
  } catch {
    return source;
  }
};

export interface ListOptions<T> {
  readonly default?: readonly NoInfer<T>[];
  readonly minItems?: number;
  readonly maxItems?: number;
  /** Names of the fields that tell items apart: the list merges by them, and no two items may have the same. */
  readonly keys?: readonly string[];
}

export function list<T>(item: Schema<T>, options: ListOptions<T> = {}): Schema<readonly T[]> {
  const { minItems, maxItems, keys } = options;
  return schemaOf<readonly T[]>({
    expects: `a list${minItems ? ` of at least ${minItems}` : ""}`,
    fallback: options.default,
    fromText: jsonText,
    openApi: () => ({
      type: "array",
      items: item.openApi(),
      ...(minItems === undefined ? {} : { minItems }),
      ...(maxItems === undefined ? {} : { maxItems }),
      ...(keys ? { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys } : {}),
    }),
    present(input, path, findings) {
      if (!Array.isArray(input)) {
        findings.problem(path, `expected a list, got ${shown(input)}`);
        return undefined;
      }
      if (minItems !== undefined && input.length < minItems)
        findings.problem(path, `expected at least ${minItems} ${items(minItems)}, got ${input.length}`);
      if (maxItems !== undefined && input.length > maxItems) {
        findings.problem(path, `expected at most ${maxItems} ${items(maxItems)}, got ${input.length}`);
        return [];
      }
      if (keys) findDuplicates(input, keys, path, findings);
      return input.map((value, index) => item.read(value, `${path}[${index}]`, findings));
    },
  });
}

const items = (count: number): string => (count === 1 ? "item" : "items");

function findDuplicates(
  input: readonly unknown[],
  keys: readonly string[],
  path: string,
  findings: Findings,
): void {
  const seen = new Map<string, number>();
  input.forEach((value, index) => {
    const own = isMap(value) ? keys.map((key) => value[key]) : value;
    const known = seen.get(JSON.stringify(own));
    if (known !== undefined) {
      findings.problem(
        `${path}[${index}]`,
        `expected ${keys.join(" and ")} to be unique in the list, got that of [${known}] again: ${shown(own)}`,
      );
    }
    seen.set(JSON.stringify(own), index);
  });
}

/** A map of text to values of one kind. */
export function mapOf<T>(value: Schema<T>): Schema<Readonly<Record<string, T>>> {
  return schemaOf<Readonly<Record<string, T>>>({
    expects: "a map",
    fallback: undefined,
    fromText: jsonText,
    openApi: () => ({ type: "object", additionalProperties: value.openApi() }),
    present(input, path, findings) {
      if (!isMap(input)) {
        findings.problem(path, `expected a map, got ${shown(input)}`);
        return undefined;
      }
      return Object.fromEntries(
        Object.entries(input).map(([key, item]) => [
          key,
          value.read(item, `${path}[${JSON.stringify(key)}]`, findings),
        ]),
      );
    },
  });
}

/** Any map, passed through as it is: for parts whose meaning is another's. */
export function anyMap(
  options: { readonly default?: Readonly<Record<string, unknown>> } = {},
): Schema<Readonly<Record<string, unknown>>> {
  return schemaOf<Readonly<Record<string, unknown>>>({
    expects: "a map",
    fallback: options.default,
    fromText: jsonText,
    openApi: () => ({ type: "object", "x-kubernetes-preserve-unknown-fields": true }),
    present(input, path, findings) {
      if (isMap(input)) return input;
      findings.problem(path, `expected a map, got ${shown(input)}`);
      return undefined;
    },
  });
}

/** Something that may hold things of its own kind. OpenAPI cannot say so, and takes any map there. */
export function nested<T>(inner: () => Schema<T>): Schema<T> {
  const any = anyMap();
  return schemaOf<T>({
    expects: "a map",
    fallback: undefined,
    openApi: any.openApi,
    present: (input, path, findings) =>
      findings.withRules
        ? inner().read(input, path, findings)
        : (any.read(input, path, findings) as unknown as T),
  });
}

type Fields = Readonly<Record<string, Schema<unknown>>>;
type OptionalKeys<F extends Fields> = {
  [K in keyof F]: F[K] extends { readonly presence: "optional" } ? K : never;
}[keyof F];
type Value<F extends Fields> = {
  readonly [K in Exclude<keyof F, OptionalKeys<F>>]: Infer<F[K]>;
} & { readonly [K in OptionalKeys<F>]?: F[K] extends Optional<infer T> ? T : never };
/** One object type instead of an intersection, for whoever reads it in an editor. */
type Flat<T> = { [K in keyof T]: T[K] };

export type ObjectSchema<F extends Fields> = Schema<Flat<Value<F>>> & { readonly fields: F };

export interface ObjectOptions {
  /** Fields of which exactly one must be there. */
  readonly exactlyOneOf?: readonly string[];
  /** A name that it does not know is a problem even where OpenAPI keeps such names. */
  readonly strict?: boolean;
  /** Of the whole object, before the defaults of its fields. */
  readonly default?: Readonly<Record<string, never>>;
}

/**
 * An object of a cluster. Fields that it does not name are pruned by the API server: they are worth a warning.
 */
export function object<const F extends Fields>(fields: F, options: ObjectOptions = {}): ObjectSchema<F> {
  const { exactlyOneOf, strict } = options;
  const names = Object.keys(fields);
  return {
    fields,
    ...schemaOf<Flat<Value<F>>>({
      expects: "a map",
      fallback: options.default as Flat<Value<F>> | undefined,
      openApi: () => ({
        type: "object",
        ...requiredOf(fields),
        properties: Object.fromEntries(names.map((name) => [name, fields[name]!.openApi()])),
        ...(exactlyOneOf ? { oneOf: exactlyOneOf.map((name) => ({ required: [name] })) } : {}),
      }),
      present(input, path, findings) {
        const value = readFields(fields, input, path, findings, (at, message) => {
          if (strict && findings.withRules) findings.problem(at, message);
          else findings.warning(at, message);
        });
        if (value && exactlyOneOf) {
          const given = exactlyOneOf.filter((name) => value[name] !== undefined);
          if (given.length !== 1) {
            const got = given.length === 0 ? "none" : given.join(" and ");
            findings.problem(path, `expected exactly one of ${exactlyOneOf.join(", ")}, got ${got}`);
          }
        }
        return value as Flat<Value<F>> | undefined;
      },
    }),
  };
}

function requiredOf(fields: Fields): OpenApi {
  const required = Object.keys(fields).filter((name) => fields[name]!.presence === "required");
  return required.length > 0 ? { required } : {};
}

/** Settings, all of which have defaults: the whole may be absent, and a name that it does not know is a problem. */
export function settings<const F extends Fields>(fields: F): ObjectSchema<F> {
  const fallback = Object.fromEntries(
    Object.entries(fields).map(([name, schema]) => [name, schema.fallback]),
  ) as Flat<Value<F>>;
  return {
    fields,
    ...schemaOf<Flat<Value<F>>>({
      expects: "a map",
      fallback,
      openApi: () => object(fields).openApi(),
      present: (input, path, findings) =>
        readFields(fields, input, path, findings, (at, message) => findings.problem(at, message)) as
          | Flat<Value<F>>
          | undefined,
    }),
  };
}

function readFields(
  fields: Fields,
  input: unknown,
  path: string,
  findings: Findings,
  unknown: (path: string, message: string) => void,
): Record<string, unknown> | undefined {
  if (!isMap(input)) {
    findings.problem(path, `expected a map, got ${shown(input)}`);
    return undefined;
  }
  const names = Object.keys(fields);
  for (const name of Object.keys(input)) {
    if (!Object.hasOwn(fields, name)) unknown(join(path, name), unknownName(name, names));
  }
  const value: Record<string, unknown> = {};
  for (const name of names) {
    const given = Object.hasOwn(input, name) ? input[name] : undefined;
    const field = fields[name]!.read(given, join(path, name), findings);
    if (field !== undefined) value[name] = field;
  }
  return value;
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

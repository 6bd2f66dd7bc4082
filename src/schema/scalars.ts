// Texts, numbers, choices.
import { type OpenApi, type Schema, schemaOf, shown } from "./schema.ts";

interface WithDefault<T> {
  readonly default?: T;
}

const numberText = (text: string) => (/^[+-]?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : text);

/** Only the members that are set. */
const set = (members: OpenApi): OpenApi =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

function leaf<T>(
  expects: string,
  options: WithDefault<T>,
  openApi: OpenApi,
  read: (input: unknown) => T | undefined,
  fromText?: (text: string) => unknown,
): Schema<T> {
  return schemaOf<T>({
    expects,
    fallback: options.default,
    openApi: () => openApi,
    present(input, path, findings) {
      const value = read(input);
      if (value === undefined) findings.problem(path, `expected ${expects}, got ${shown(input)}`);
      return value;
    },
    ...(fromText ? { fromText } : {}),
  });
}

export interface TextOptions extends WithDefault<string> {
  readonly expects?: string;
  /** Of Unicode characters. */
  readonly minLength?: number;
  readonly maxLength?: number;
  /** In the syntax that Go's RE2 and JavaScript share; anchored by itself. */
  readonly pattern?: RegExp;
  readonly format?: "date-time" | "duration";
  /** Numbers and booleans that YAML made of bare words count as the text they were. */
  readonly bare?: boolean;
}

/** Formats of texts that API servers check (k8s.io/kube-openapi strfmt), as far as kinds use them. */
export const TEXT_FORMATS: Readonly<Record<string, (text: string) => boolean>> = {
  "date-time": (text) => /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d/.test(text) && !Number.isNaN(Date.parse(text)),
  duration: (text) => /^-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d|w))+$|^0$/.test(text),
};

export function text(options: TextOptions = {}): Schema<string> {
  const { minLength, maxLength, pattern, format, bare } = options;
  const fits = (value: string): boolean => {
    const length = minLength === undefined && maxLength === undefined ? 0 : [...value].length;
    return (
      (minLength === undefined || length >= minLength) &&
      (maxLength === undefined || length <= maxLength) &&
      (pattern === undefined || pattern.test(value)) &&
      (format === undefined || TEXT_FORMATS[format]!(value))
    );
  };
  return leaf(
    options.expects ?? textExpectation(options),
    options,
    set({ type: "string", minLength, maxLength, pattern: pattern?.source, format }),
    (input) => {
      const value = bare && (typeof input === "number" || typeof input === "boolean") ? String(input) : input;
      // The default needs no check: it may be the text that stands for nothing.
      return typeof value === "string" && (value === options.default || fits(value)) ? value : undefined;
    },
  );
}

function textExpectation({ minLength, maxLength, pattern, format }: TextOptions): string {
  if (format === "date-time") return "a time such as 2026-01-02T15:04:05Z";
  if (format === "duration") return "a duration such as 30s";
  const bounds =
    minLength !== undefined && maxLength !== undefined
      ? ` of ${minLength} to ${maxLength} characters`
      : maxLength !== undefined
        ? ` of at most ${maxLength} characters`
        : minLength !== undefined
          ? ` of at least ${minLength} ${minLength === 1 ? "character" : "characters"}`
          : "";
  return `text${bounds}${pattern ? ` that matches ${pattern.source}` : ""}`;
}

export interface NumberOptions extends WithDefault<number> {
  readonly min?: number;
  readonly max?: number;
  readonly format?: "int32" | "int64" | "float" | "double";
}

const bounds = ({ min, max }: NumberOptions): string =>
  min !== undefined && max !== undefined
    ? ` from ${min} to ${max}`
    : min !== undefined
      ? ` of at least ${min}`
      : max !== undefined
        ? ` of at most ${max}`
        : "";

const within =
  ({ min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY }: NumberOptions) =>
  (value: number) =>
    value >= min && value <= max;

const INT32 = 2 ** 31;

export function integer(options: NumberOptions = {}): Schema<number> {
  const fits = within(options);
  const narrow = options.format === "int32";
  return leaf(
    `an integer${bounds(options)}`,
    options,
    set({ type: "integer", format: options.format, minimum: options.min, maximum: options.max }),
    (input) =>
      typeof input === "number" &&
      Number.isInteger(input) &&
      fits(input) &&
      (!narrow || (input >= -INT32 && input < INT32))
        ? input
        : undefined,
    numberText,
  );
}

export function decimal(options: NumberOptions = {}): Schema<number> {
  const fits = within(options);
  return leaf(
    `a number${bounds(options)}`,
    options,
    set({ type: "number", format: options.format, minimum: options.min, maximum: options.max }),
    (input) => (typeof input === "number" && fits(input) ? input : undefined),
    numberText,
  );
}

export function flag(options: WithDefault<boolean> = {}): Schema<boolean> {
  return leaf(
    "true or false",
    options,
    { type: "boolean" },
    (input) => (typeof input === "boolean" ? input : undefined),
    (source) => (source === "true" ? true : source === "false" ? false : source),
  );
}

export function choice<const T extends string>(
  values: readonly T[],
  options: WithDefault<NoInfer<T>> = {},
): Schema<T> {
  return leaf(`one of ${values.join(", ")}`, options, { type: "string", enum: values }, (input) =>
    values.includes(input as T) ? (input as T) : undefined,
  );
}

/** One of a few numbers. */
export function numberChoice<const T extends number>(values: readonly T[]): Schema<T> {
  return leaf(`one of ${values.join(", ")}`, {}, { type: "integer", enum: values }, (input) =>
    values.includes(input as T) ? (input as T) : undefined,
  );
}

/** An integer or a text, such as a port by number or name. */
export function intOrString(options: { expects?: string; pattern?: RegExp } = {}): Schema<number | string> {
  const { pattern } = options;
  return leaf(
    options.expects ?? "an integer or a text",
    {},
    set({ "x-kubernetes-int-or-string": true, pattern: pattern?.source }),
    (input) =>
      typeof input === "string"
        ? pattern === undefined || pattern.test(input)
          ? input
          : undefined
        : Number.isInteger(input)
          ? (input as number)
          : undefined,
    numberText,
  );
}

/** Text that `parse` accepts; the message of what it throws is the problem. */
export function parsed(options: TextOptions, parse: (text: string) => unknown): Schema<string> {
  const plain = text(options);
  return {
    ...plain,
    read(input, path, findings) {
      const before = findings.problems.length;
      const value = plain.read(input, path, findings);
      if (findings.problems.length > before || !findings.withRules) return value;
      if (value === undefined || value === options.default) return value;
      try {
        parse(value);
        return value;
      } catch (error) {
        findings.problem(path, (error as Error).message);
        return options.default ?? value;
      }
    },
  };
}

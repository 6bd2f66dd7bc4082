// A description of what somebody writes: it gives the type, the check with path, value and expectation, the defaults,
// the coercion of text, and the OpenAPI schema of a CustomResourceDefinition.
import { nearest } from "../util/nearest.ts";

export interface Problem {
  /** Dotted path from the root, empty for the root itself. */
  readonly path: string;
  readonly message: string;
}

/** An OpenAPI v3 schema, as a CustomResourceDefinition holds it. */
export type OpenApi = Readonly<Record<string, unknown>>;

/** What reading found. */
export class Findings {
  /** Also what OpenAPI cannot say: rules between fields, texts that must parse, conditions that nest. */
  readonly withRules: boolean;
  readonly problems: Problem[] = [];
  /** Legal, but probably not meant. */
  readonly warnings: Problem[] = [];

  constructor(withRules = true) {
    this.withRules = withRules;
  }

  problem(path: string, message: string): void {
    this.problems.push({ path, message });
  }

  warning(path: string, message: string): void {
    this.warnings.push({ path, message });
  }
}

/** What becomes of an object's field that is not there. */
export type Presence = "required" | "optional" | "defaulted";

export interface Schema<T> {
  /** What is expected, as the end of "expected …". */
  readonly expects: string;
  readonly presence: Presence;
  /** Value used where the input has none; undefined unless `presence` is `defaulted`. */
  readonly fallback: T | undefined;
  /**
   * The checked value with defaults filled in. What is wrong is told to `findings`, and the value is then no more than
   * something of the right form, or nothing.
   */
  read(input: unknown, path: string, findings: Findings): T;
  /** Turns text (of a flag or an annotation) into an input for {@link read}. */
  fromText(text: string): unknown;
  openApi(): OpenApi;
}

export type Infer<S> = S extends Schema<infer T> ? T : never;
export type Optional<T> = Schema<T> & { readonly presence: "optional" };

export interface Checked<T> {
  readonly value: T;
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
}

/** @param withRules false: only what the OpenAPI schema says too */
export function check<T>(schema: Schema<T>, input: unknown, path = "", withRules = true): Checked<T> {
  const findings = new Findings(withRules);
  const value = schema.read(input, path, findings);
  return { value, problems: findings.problems, warnings: findings.warnings };
}

/** `path: message`, as a person reads it. */
export const problemText = ({ path, message }: Problem): string =>
  path === "" ? message : `${path}: ${message}`;

/** At most this many characters of a wrong value are repeated. */
const SHOWN = 60;

/** A wrong value, short enough to be repeated. */
export function shown(input: unknown): string {
  const text = JSON.stringify(input) ?? String(input);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

/** The path of a field, or of an item when `name` is `[i]`. */
export const join = (path: string, name: string): string =>
  path === "" || name === "" || name.startsWith("[") ? `${path}${name}` : `${path}.${name}`;

/** For a name that is none of `known`. */
export function unknownName(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near === undefined
    ? `unknown name; expected one of ${known.join(", ")}`
    : `unknown name; did you mean ${near}?`;
}

export const isMap = (input: unknown): input is Readonly<Record<string, unknown>> =>
  typeof input === "object" && input !== null && !Array.isArray(input);

/** A schema from its parts: absence is dealt with here, once. */
export function schemaOf<T>(parts: {
  readonly expects: string;
  readonly fallback: T | undefined;
  readonly openApi: () => OpenApi;
  /** Is not asked about what is absent. */
  readonly present: (input: unknown, path: string, findings: Findings) => T | undefined;
  readonly fromText?: (text: string) => unknown;
}): Schema<T> {
  const { expects, fallback } = parts;
  return {
    expects,
    fallback,
    presence: fallback === undefined ? "required" : "defaulted",
    fromText: parts.fromText ?? ((text) => text),
    openApi: () =>
      fallback === undefined ? parts.openApi() : { ...parts.openApi(), default: fallback as unknown },
    read(input, path, findings) {
      if (input === undefined || input === null) {
        if (fallback === undefined) findings.problem(path, `expected ${expects}, but it is missing`);
        return fallback as T;
      }
      return (parts.present(input, path, findings) ?? fallback) as T;
    },
  };
}

/** A field that may be absent. */
export function optional<T>(schema: Schema<T>): Optional<T> {
  return {
    ...schema,
    presence: "optional",
    read: (input, path, findings) =>
      input === undefined || input === null ? (undefined as T) : schema.read(input, path, findings),
  };
}

/** What a rule tells; paths are from the value that the rule is about. */
export interface Report {
  problem(path: string, message: string): void;
  warning(path: string, message: string): void;
}

/** A rule about a value that is in form: between fields, or of what a text means. */
export function ruled<S extends Schema<unknown>>(
  schema: S,
  rule: (value: Infer<S>, report: Report) => void,
): S {
  return {
    ...schema,
    read(input: unknown, path: string, findings: Findings) {
      const before = findings.problems.length;
      const value = schema.read(input, path, findings) as Infer<S>;
      if (findings.withRules && value !== undefined && findings.problems.length === before) {
        rule(value, {
          problem: (below, message) => findings.problem(join(path, below), message),
          warning: (below, message) => findings.warning(join(path, below), message),
        });
      }
      return value;
    },
  };
}

/** With a sentence for `kubectl explain`. */
export function described<S extends Schema<unknown>>(description: string, schema: S): S {
  return { ...schema, openApi: () => ({ description, ...schema.openApi() }) };
}

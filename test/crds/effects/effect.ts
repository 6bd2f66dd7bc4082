// What a field or an annotation does: two values of it, and what is seen with each.
import type { KubeObject } from "../../../src/kube/types.ts";
import { changed } from "../objects.ts";

/** How an object shows: what proxies are told, or decide, because of it. */
export type Look = (object: KubeObject) => unknown;

/** One field: undefined as a value means that it is left out. */
export interface Effect {
  /** As the tables name it: `rules[].timeouts.request`, or the key of an annotation. */
  readonly field: string;
  readonly cases: readonly (readonly [value: unknown, seen: unknown])[];
  /** What is seen of the object with this value. */
  show(value: unknown): unknown;
}

export interface KindEffects {
  /** `group/Kind`, or `v1/Kind`. */
  readonly kind: string;
  readonly effects: readonly Effect[];
  /** Fields that change nothing by themselves, and why. */
  readonly without?: Readonly<Record<string, string>>;
}

/** Path in the spec, with indices; a value and what is seen; another; what else is set, and another way to look. */
export type Row = readonly [
  path: string,
  a: unknown,
  seenA: unknown,
  b: unknown,
  seenB: unknown,
  set?: Readonly<Record<string, unknown>>,
  look?: Look,
];

const named = (path: string): string => path.replace(/\.\d+/g, "[]");

/** Effects of fields of an object's spec. */
export const fields = (object: KubeObject, look: Look, rows: readonly Row[]): Effect[] =>
  rows.map(([path, a, seenA, b, seenB, set = {}, own = look]) => ({
    field: named(path),
    cases: [
      [a, seenA],
      [b, seenB],
    ],
    show(value) {
      const given = Object.entries(structuredClone({ ...set, [path]: value }));
      return own(changed(object, Object.fromEntries(given.map(([key, to]) => [`spec.${key}`, to]))));
    },
  }));

/** Key of an annotation, its value, what is seen without it and with it; annotations beside it. */
export type AnnotationRow = readonly [
  key: string,
  value: string,
  without: unknown,
  seen: unknown,
  beside?: Readonly<Record<string, string>>,
  look?: Look,
];

/** Effects of an object's annotations. */
export const annotations = (object: KubeObject, look: Look, rows: readonly AnnotationRow[]): Effect[] =>
  rows.map(([key, text, without, seen, beside = {}, own = look]) => ({
    field: key,
    cases: [
      [undefined, without],
      [text, seen],
    ],
    show: (value) =>
      own({
        ...object,
        metadata: {
          ...object.metadata,
          annotations: { ...beside, ...(value === undefined ? {} : { [key]: value as string }) },
        },
      }),
  }));

// Kubernetes label selectors: `app=web,tier!=cache,env in (a, b),!canary`.

interface Requirement {
  readonly key: string;
  readonly operator: "in" | "notin" | "exists" | "absent";
  readonly values: readonly string[];
}

/** A parsed selector; all of its requirements must hold. */
export type LabelSelector = readonly Requirement[];

const KEY = "[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?";
const VALUE = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|";
const PATTERNS: [RegExp, (match: RegExpExecArray) => Requirement][] = [
  [
    new RegExp(`^(${KEY})\\s+(in|notin)\\s+\\(([^()]*)\\)$`),
    (m) => ({
      key: m[1]!,
      operator: m[2] as "in" | "notin",
      values: m[3]!.split(",").map((value) => value.trim()),
    }),
  ],
  [new RegExp(`^(${KEY})\\s*!=\\s*(${VALUE})$`), (m) => ({ key: m[1]!, operator: "notin", values: [m[2]!] })],
  [new RegExp(`^(${KEY})\\s*==?\\s*(${VALUE})$`), (m) => ({ key: m[1]!, operator: "in", values: [m[2]!] })],
  [new RegExp(`^!\\s*(${KEY})$`), (m) => ({ key: m[1]!, operator: "absent", values: [] })],
  [new RegExp(`^(${KEY})$`), (m) => ({ key: m[1]!, operator: "exists", values: [] })],
];

/** @throws RangeError naming the requirement that cannot be read. */
export function parseLabelSelector(text: string): LabelSelector {
  const parts = text.split(/,(?![^(]*\))/).map((part) => part.trim());
  return parts
    .filter((part) => part !== "")
    .map((part) => {
      for (const [pattern, build] of PATTERNS) {
        const match = pattern.exec(part);
        if (match) return build(match);
      }
      throw new RangeError(
        `expected a label selector such as app=web or tier in (a,b), got ${JSON.stringify(part)}`,
      );
    });
}

export function matchesLabels(
  selector: LabelSelector,
  labels: Readonly<Record<string, string>> | undefined,
): boolean {
  return selector.every(({ key, operator, values }) => {
    const value = labels && Object.hasOwn(labels, key) ? labels[key] : undefined;
    switch (operator) {
      case "exists":
        return value !== undefined;
      case "absent":
        return value === undefined;
      case "in":
        return value !== undefined && values.includes(value);
      case "notin":
        return value === undefined || !values.includes(value);
    }
    return false;
  });
}

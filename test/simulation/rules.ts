// What a mesh keeps whatever happens. docs/architecture.md tells what each of them says; mutations.ts has a fault for
// each that it must find.
export const RULES = [
  // At every step.
  "addresses",
  "identities",
  "authorization",
  "routes",
  "leadership",
  "writes",
  "certificates",
  "renewal",
  "bounds",
  // Once the faults have stopped.
  "endpoints",
  "profiles",
  "outbound",
  "inbound",
  "statuses",
  "events",
  "slices",
  "leases",
  "silence",
  // When nobody is there any more.
  "remains",
] as const;
export type Rule = (typeof RULES)[number];

/** Something that is not as a rule would have it. */
export interface Finding {
  readonly rule: Rule;
  readonly what: string;
}

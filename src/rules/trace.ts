// How a decision explains itself. A rule takes an optional trace; the data path passes none and pays nothing.

export interface TraceStep {
  /** What was looked at, e.g. `policy all-authenticated` or `annotation linkerd.io/inject`. */
  readonly rule: string;
  readonly matched: boolean;
  /** Why it matched or did not, as a sentence part for a person. */
  readonly why: string;
}

/** Collects the steps of one decision, in order. */
export class Trace {
  readonly steps: TraceStep[] = [];

  add(rule: string, matched: boolean, why: string): void {
    this.steps.push({ rule, matched, why });
  }
}

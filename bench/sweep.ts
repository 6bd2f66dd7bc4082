// The same subjects at several loads: one table of CPU per request, one of requests per second, one of memory.
import { disturbancesOf, type Load, measureLoad, middle, type Sample } from "./closed-loop.ts";
import type { Cell, RowResult, Table } from "./report.ts";
import { failuresOf, type Outcome, type Stage, type Subject } from "./stage.ts";

export interface SweepStep {
  readonly name: string;
  readonly load: Load;
  /** Takes so many times longer to get going. */
  readonly stretch?: number;
  /** s */
  readonly warmUp?: number;
}

export interface Sweep {
  readonly steps: readonly SweepStep[];
  readonly subjects: readonly Subject[];
  readonly notes: readonly string[];
}

/** Measures every subject at every step: each in fewer rounds, as there are many, and neighbours bear each other out. */
export async function sweep(stage: Stage, { steps, subjects, notes }: Sweep): Promise<RowResult> {
  const rounds = Math.max(1, Math.floor(stage.bench.options.rounds / 2));
  const results: { step: SweepStep; outcomes: Outcome<Sample>[] }[] = [];
  for (const step of steps) {
    stage.log(`at ${step.name}`);
    const outcomes = await stage.compare(
      subjects,
      (running) => measureLoad(stage, running, step.load, step.stretch, step.warmUp),
      rounds,
    );
    results.push({ step, outcomes });
  }
  const table = (
    caption: string,
    digits: number,
    pick: (sample: Sample, subject: Subject) => Cell,
  ): Table => ({
    caption,
    columns: steps.map(({ name }) => ({ head: name, digits })),
    rows: subjects.map((subject, index) => ({
      name: subject.name,
      cells: results.map(({ outcomes }) => {
        const { samples } = outcomes[index]!;
        return samples.length === 0 ? "not measured" : pick(middle(samples), subject);
      }),
    })),
  });
  const ofProxy = (pick: (sample: Sample) => number) => (sample: Sample, subject: Subject) =>
    subject.kind === "direct" ? null : pick(sample);
  return {
    tables: [
      table(
        "CPU µs per request and proxy",
        1,
        ofProxy((sample) => sample.cpu),
      ),
      table("Requests per second", 0, (sample) => sample.perSecond),
      table("p99, ms", 2, (sample) => (sample.latency?.p99 ?? 0) / 1_000),
      table(
        "Anonymous memory of a proxy after it, MB",
        1,
        ofProxy((sample) => sample.anonymous),
      ),
    ],
    verdicts: [],
    failures: results.flatMap(({ step, outcomes }) => {
      const where = ` (${step.name})`;
      return [...failuresOf(outcomes, where), ...disturbancesOf(outcomes, where)];
    }),
    notes: [...notes, `Of the rounds, ${rounds} for each figure.`],
  };
}

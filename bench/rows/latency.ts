// Latency at rates that leave the proxies room: what a request waits, and what the proxies add to it.

import { Histogram } from "../histogram.ts";
import { type OpenLoop, openLoop } from "../load/open-loop-run.ts";
import { haproxyPair } from "../peers/haproxy.ts";
import type { Table, Verdict } from "../report.ts";
import { failuresOf, type Outcome, type Row, type Subject } from "../stage.ts";
import { median } from "../statistics.ts";

const RATES = [500, 1_000, 2_000];
const CONNECTIONS = 50;

export const latency: Row = {
  id: "latency",
  title: "Latency at a fixed rate, a pair of proxies with mTLS",
  needs: ["haproxy"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await stage.backEnd();
    const subjects: Subject[] = [
      stage.direct(app),
      { name: "HAProxy pair", kind: "haproxy", start: () => haproxyPair(bench, app, tls) },
      { name: "kubectl-mesh pair", kind: "ours", start: () => mesh.pair(app) },
    ];
    const tables: Table[] = [];
    const failures: string[] = [];
    const verdicts: Verdict[] = [];
    for (const rate of RATES) {
      const outcomes = await stage.compare(subjects, ({ port, processes }) =>
        openLoop(bench, {
          port,
          processes,
          rate,
          connections: CONNECTIONS,
          seconds: 2 * bench.options.seconds,
        }),
      );
      tables.push(tableOf(rate, outcomes));
      failures.push(...failuresOf(outcomes, ` (${rate}/s)`));
      if (rate === 1_000) {
        const [direct, ours] = [pooled(outcomes, "direct"), pooled(outcomes, "ours")];
        verdicts.push({
          work: "added p99 at 1,000 requests/s open loop, meshed pair",
          sense: "at most",
          limit: 1,
          value: direct && ours ? (ours.percentile(99) - direct.percentile(99)) / 1_000 : null,
          unit: " ms",
        });
      }
    }
    return {
      tables,
      verdicts,
      failures,
      notes: [
        `${CONNECTIONS} kept connections; latency from when each request was due; percentiles of all rounds' samples together.`,
      ],
    };
  },
};

function pooled(outcomes: readonly Outcome<OpenLoop>[], kind: Subject["kind"]): Histogram | undefined {
  const samples = outcomes.find(({ subject }) => subject.kind === kind)?.samples ?? [];
  if (samples.length === 0) return undefined;
  const all = new Histogram();
  for (const { latency } of samples) all.merge(latency);
  return all;
}

function tableOf(rate: number, outcomes: readonly Outcome<OpenLoop>[]): Table {
  const direct = pooled(outcomes, "direct")?.percentile(99);
  return {
    caption: `${rate} requests/s`,
    columns: [
      ...["p50 ms", "p90", "p99", "p99.9", "added p99 ms"].map((head) => ({ head, digits: 3 })),
      { head: "p99 of the rounds, ms" },
      { head: "CPU µs/request", digits: 1 },
    ],
    rows: outcomes.map(({ subject, samples }) => {
      const all = pooled(outcomes, subject.kind);
      if (!all) return { name: subject.name, cells: ["not measured"] };
      const { p50, p90, p99, p999 } = all.percentiles();
      const rounds = samples.map((sample) => sample.latency.percentile(99) / 1_000).sort((a, b) => a - b);
      const proxied = subject.kind !== "direct";
      return {
        name: subject.name,
        cells: [
          ...[p50, p90, p99, p999].map((us) => us / 1_000),
          proxied && direct !== undefined ? (p99 - direct) / 1_000 : null,
          `${rounds[0]!.toFixed(2)}–${rounds.at(-1)!.toFixed(2)}`,
          proxied ? median(samples.map(({ cpu }) => cpu)) : null,
        ],
      };
    }),
  };
}

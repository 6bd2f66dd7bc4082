// Latency at rates that leave the proxies room: what a request waits, and what the proxies add to it.

import { Histogram } from "../histogram.ts";
import { type OpenLoop, openLoop } from "../load/open-loop-run.ts";
import { wrk } from "../load/wrk.ts";
import { haproxyPair } from "../peers/haproxy.ts";
import type { Table, Verdict } from "../report.ts";
import { failuresOf, type Outcome, type Row, type Subject } from "../stage.ts";
import { median } from "../statistics.ts";

const RATES = [500, 1_000, 2_000];
const CONNECTIONS = 50;
/** The rate of the target, and of what comes first to a proxy that has just started. */
const TARGET_RATE = 1_000;
/** Of the first requests, s; and of the closed loop behind them. */
const COLD = 2;
const WARM_UP = 4;
/** More time stolen than this share shows in the slowest hundredth of the requests. */
const MOST_STOLEN = 0.01;

/** One round of one subject. */
interface Round {
  readonly cold: OpenLoop;
  /** By rate, once warm. */
  readonly warm: ReadonlyMap<number, OpenLoop>;
}

export const latency: Row = {
  id: "latency",
  title: "Latency at a fixed rate, a pair of proxies with mTLS",
  needs: ["haproxy", "wrk"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await stage.backEnd();
    const subjects: Subject[] = [
      stage.direct(app),
      { name: "HAProxy pair", kind: "haproxy", start: () => haproxyPair(bench, app, tls) },
      { name: "kubectl-mesh pair", kind: "ours", start: () => mesh.pair(app) },
    ];
    const rounds = await stage.compare(subjects, async ({ port, processes }): Promise<Round> => {
      const run = { port, processes, connections: CONNECTIONS };
      const cold = await openLoop(bench, { ...run, rate: TARGET_RATE, seconds: COLD, warmUp: 0 });
      await wrk(bench, { connections: CONNECTIONS })(port, bench.options.quick ? 1 : WARM_UP);
      const warm = new Map<number, OpenLoop>();
      for (const rate of RATES)
        warm.set(
          rate,
          await stage.leastDisturbed(
            () => openLoop(bench, { ...run, rate, seconds: 2 * bench.options.seconds }),
            ({ stolen }) => stolen,
            MOST_STOLEN,
          ),
        );
      return { cold, warm };
    });
    const at = (pick: (round: Round) => OpenLoop): Outcome<OpenLoop>[] =>
      rounds.map(({ subject, samples, failure }) => ({ subject, samples: samples.map(pick), failure }));
    const warm = at(({ warm: byRate }) => byRate.get(TARGET_RATE)!);
    const [direct, ours] = [pooled(warm, "direct"), pooled(warm, "ours")];
    const verdict: Verdict = {
      work: "added p99 at 1,000 requests/s open loop, meshed pair",
      sense: "at most",
      limit: 1,
      value: direct && ours ? (ours.percentile(99) - direct.percentile(99)) / 1_000 : null,
      unit: " ms",
    };
    return {
      tables: [
        ...RATES.map((rate) =>
          tableOf(
            `${rate} requests/s`,
            at(({ warm: byRate }) => byRate.get(rate)!),
          ),
        ),
        tableOf(
          `The first ${COLD} s after the start, ${TARGET_RATE} requests/s`,
          at(({ cold }) => cold),
        ),
      ],
      verdicts: [verdict],
      failures: failuresOf(rounds),
      notes: [
        `${CONNECTIONS} kept connections; latency from when each request was due; percentiles of all rounds' samples together.`,
        `Each proxy is measured as it has just started (the last table: connections, TLS and compilers are cold), then kept busy for ${WARM_UP} s, all alike, then measured at each rate.`,
        "Stolen is the share of both cores' time that the machine below gave to other machines: it makes requests wait, whoever carries them. Where it was above 1 % a rate was measured up to three times, and the least disturbed one counts.",
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

function tableOf(caption: string, outcomes: readonly Outcome<OpenLoop>[]): Table {
  const direct = pooled(outcomes, "direct")?.percentile(99);
  return {
    caption,
    columns: [
      ...["p50 ms", "p90", "p99", "p99.9", "added p99 ms"].map((head) => ({ head, digits: 3 })),
      { head: "p99 of the rounds, ms" },
      { head: "CPU µs/request", digits: 1 },
      { head: "stolen %", digits: 1 },
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
          median(samples.map(({ stolen }) => stolen * 100)),
        ],
      };
    }),
  };
}

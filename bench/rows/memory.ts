// What a proxy holds: idle, under load, with many connections, and a minute after; and what it burns doing nothing.
import { cpuSince } from "../closed-loop.ts";
import { type Child, type Running, sleep } from "../harness.ts";
import { openLoop } from "../load/open-loop-run.ts";
import { haproxyPair } from "../peers/haproxy.ts";
import type { Verdict } from "../report.ts";
import { failuresOf, type Row, type Stage, type Subject } from "../stage.ts";

const RATE = 1_000;
const FEW = 50;
const MANY = 1_000;
/** Samples are taken this often while there is load, ms. */
const SAMPLING = 500;

/** MB of anonymous memory of the larger proxy, and shares of a core. */
interface Held {
  readonly idle: number;
  readonly loaded: number;
  readonly many: number;
  readonly after: number;
  readonly idleCpu: number;
  readonly afterCpu: number;
  readonly rss: number;
}

export const memory: Row = {
  id: "memory",
  title: "Memory and idle CPU, a pair of proxies with mTLS",
  needs: ["haproxy"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await stage.backEnd();
    const times = bench.options.quick
      ? { rest: 3_000, load: 3, after: 5_000 }
      : { rest: 60_000, load: 20, after: 60_000 };
    const subjects: Subject[] = [
      { name: "HAProxy pair", kind: "haproxy", start: () => haproxyPair(bench, app, tls) },
      { name: "kubectl-mesh pair", kind: "ours", start: () => mesh.pair(app) },
    ];
    const outcomes = await stage.compare(subjects, (running) => hold(stage, running, times), 1);
    const ours = outcomes.find(({ subject }) => subject.kind === "ours")?.samples[0];
    return {
      tables: [
        {
          columns: [
            { head: "idle MB", digits: 1 },
            { head: `${RATE}/s on ${FEW} connections`, digits: 1 },
            { head: `${RATE}/s on ${MANY} connections`, digits: 1 },
            { head: `${times.after / 1_000} s after`, digits: 1 },
            { head: "most RSS", digits: 1 },
            { head: "idle CPU", digits: 2, suffix: " %" },
            { head: "idle CPU after", digits: 2, suffix: " %" },
          ],
          rows: outcomes.map(({ subject, samples: [held] }) => ({
            name: subject.name,
            cells: held
              ? [
                  ...[held.idle, held.loaded, held.many, held.after, held.rss],
                  ...[held.idleCpu * 100, held.afterCpu * 100],
                ]
              : ["not measured"],
          })),
        },
      ],
      verdicts: verdictsOf(ours),
      failures: failuresOf(outcomes),
      notes: [
        `Anonymous memory of the larger of both proxies, the most that was seen in each phase; ${times.load} s of load, idle CPU over ${times.rest / 1_000} s.`,
      ],
    };
  },
};

function verdictsOf(held: Held | undefined): Verdict[] {
  const verdict = (work: string, limit: number, unit: string, value: number | undefined): Verdict => ({
    work,
    sense: "at most",
    limit,
    unit,
    value: value ?? null,
  });
  return [
    verdict("anonymous memory of a proxy, idle", 20, " MB", held?.idle),
    verdict("… at 1,000 requests/s with 50 connections", 28, " MB", held?.loaded),
    verdict("… with 1,000 connections", 60, " MB", held?.many),
    verdict("… a minute after the load", 1.2, "× idle", held && held.after / held.idle),
    verdict("idle CPU of a proxy", 0.2, " % of a core", held && held.idleCpu * 100),
  ];
}

async function hold(
  { bench }: Stage,
  { port, processes }: Running,
  times: { rest: number; load: number; after: number },
): Promise<Held> {
  let rss = 0;
  const now = () => {
    const held = processes.map((child) => child.memory());
    rss = Math.max(rss, ...held.map((each) => each.rss));
    return Math.max(...held.map((each) => each.anonymous));
  };
  const most = async (connections: number): Promise<number> => {
    let highest = 0;
    const timer = setInterval(() => {
      highest = Math.max(highest, now());
    }, SAMPLING);
    try {
      await openLoop(bench, { port, processes, rate: RATE, connections, seconds: times.load });
    } finally {
      clearInterval(timer);
    }
    return highest;
  };
  // What starting up took is not idling.
  await sleep(times.rest / 10);
  const idleCpu = await cpuWhile(processes, times.rest);
  const idle = now();
  const loaded = await most(FEW);
  const many = await most(MANY);
  const afterCpu = await cpuWhile(processes, times.after);
  return { idle, loaded, many, after: now(), idleCpu, afterCpu, rss };
}

/** Share of a core that each uses in the next `ms`, on the mean. */
async function cpuWhile(processes: readonly Child[], ms: number): Promise<number> {
  const before = processes.map((child) => child.cpu());
  await sleep(ms);
  const { user, system } = cpuSince(processes, before);
  return (user + system) / processes.length / (ms * 1_000);
}

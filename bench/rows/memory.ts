// What a proxy holds: idle, under load, with many connections, and a minute after; and what it burns doing nothing, alone
// and with a kubelet and a Prometheus that ask. Pairs rest side by side, and are loaded one after the other.
import { cpuSince } from "../closed-loop.ts";
import { type Child, type Running, sleep } from "../harness.ts";
import { openLoop } from "../load/open-loop-run.ts";
import { haproxyPair } from "../peers/haproxy.ts";
import type { Verdict } from "../report.ts";
import type { Row, Stage } from "../stage.ts";

const RATE = 1_000;
const FEW = 50;
const MANY = 1_000;
/** Samples are taken this often while there is load, ms. */
const SAMPLING = 500;
/** A kubelet's probes and a Prometheus's scrapes of our proxies come this often, ms. */
const ASKING = 10_000;
const ASKED = ["/live", "/ready", "/metrics"];

/** MB of anonymous memory of the larger proxy. */
interface Held {
  readonly idle: number;
  readonly loaded: number;
  readonly many: number;
  readonly after: number;
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
      ? { settle: 3_000, rest: 3_000, load: 3, after: 15_000 }
      : { settle: 25_000, rest: 55_000, load: 15, after: 60_000 };
    const haproxy = await haproxyPair(bench, app, tls);
    const [ours, asked] = [await mesh.pair(app), await mesh.pair(app)];
    // What starting up took is not idling.
    await sleep(times.settle);
    stage.log("all rest");
    const stopAsking = askRegularly(asked.admin!);
    const [haproxyCpu, idleCpu, askedCpu] = await Promise.all(
      [haproxy, ours, asked].map(({ processes }) => cpuWhile(processes, times.rest)),
    );
    const failures = stopAsking();
    await bench.stop(asked.processes);
    const held: Omit<Held, "after">[] = [];
    for (const pair of [haproxy, ours]) held.push(await hold(stage, pair, times));
    const afterCpu = await cpuWhile(ours.processes, times.after);
    const after = [haproxy, ours].map(({ processes }) => now(processes).anonymous);
    await bench.stop([...haproxy.processes, ...ours.processes]);
    const [theirs, our] = held.map((each, index) => ({ ...each, after: after[index]! }));
    const cells = ({ idle, loaded, many, after: left, rss }: Held) => [idle, loaded, many, left, rss];
    return {
      tables: [
        {
          columns: [
            { head: "idle MB", digits: 1 },
            { head: `${RATE}/s on ${FEW} connections`, digits: 1 },
            { head: `${RATE}/s on ${MANY} connections`, digits: 1 },
            { head: `${times.after / 1_000} s after`, digits: 1 },
            { head: "most RSS", digits: 1 },
            { head: "idle CPU", digits: 3, suffix: " %" },
            { head: "probed and scraped", digits: 3, suffix: " %" },
            { head: "after load", digits: 3, suffix: " %" },
          ],
          rows: [
            { name: "HAProxy pair", cells: [...cells(theirs!), haproxyCpu! * 100] },
            {
              name: "kubectl-mesh pair",
              cells: [...cells(our!), idleCpu! * 100, askedCpu! * 100, afterCpu * 100],
            },
          ],
        },
      ],
      verdicts: [
        verdict("anonymous memory of a proxy, idle", 20, " MB", our!.idle),
        verdict("… at 1,000 requests/s with 50 connections", 28, " MB", our!.loaded),
        verdict("… with 1,000 connections", 60, " MB", our!.many),
        verdict("… a minute after the load", 1.2, "× idle", our!.after / our!.idle),
        verdict("idle CPU of a proxy", 0.2, " % of a core", idleCpu! * 100),
        verdict("idle CPU of a proxy, probed and scraped each 10 s", 0.2, " % of a core", askedCpu! * 100),
      ],
      failures,
      notes: [
        `Anonymous memory of the larger of both proxies, the most that was seen in each phase; ${times.load} s of load, idle CPU over ${times.rest / 1_000} s, after the load over ${times.after / 1_000} s with what is done to give memory back.`,
      ],
    };
  },
};

const verdict = (work: string, limit: number, unit: string, value: number): Verdict => ({
  work,
  sense: "at most",
  ...{ limit, unit, value },
});

/** The largest of each, MB. */
function now(processes: readonly Child[]): { anonymous: number; rss: number } {
  const all = processes.map((child) => child.memory());
  return {
    anonymous: Math.max(...all.map(({ anonymous }) => anonymous)),
    rss: Math.max(...all.map(({ rss }) => rss)),
  };
}

async function hold(
  { bench }: Stage,
  { port, processes }: Running,
  { load }: { load: number },
): Promise<Omit<Held, "after">> {
  let rss = 0;
  const most = async (connections: number): Promise<number> => {
    let highest = 0;
    const timer = setInterval(() => {
      const held = now(processes);
      highest = Math.max(highest, held.anonymous);
      rss = Math.max(rss, held.rss);
    }, SAMPLING);
    try {
      await openLoop(bench, { port, processes, rate: RATE, connections, seconds: load });
    } finally {
      clearInterval(timer);
    }
    return highest;
  };
  const idle = now(processes).anonymous;
  const loaded = await most(FEW);
  const many = await most(MANY);
  return { idle, loaded, many, rss };
}

/** Asks what a kubelet and a Prometheus ask, each time on a new connection. @returns ends it, and tells what went wrong */
function askRegularly(ports: readonly number[]): () => string[] {
  const problems = new Set<string>();
  let ended = false;
  const ask = async (url: string) => {
    try {
      const response = await fetch(url, { headers: { connection: "close" } });
      await response.arrayBuffer();
      if (!response.ok && !ended) problems.add(`${url}: ${response.status}`);
    } catch (error) {
      if (!ended) problems.add(`${url}: ${error}`);
    }
  };
  const timer = setInterval(() => {
    for (const port of ports) for (const path of ASKED) void ask(`http://127.0.0.1:${port}${path}`);
  }, ASKING);
  return () => {
    ended = true;
    clearInterval(timer);
    return [...problems];
  };
}

/** Share of a core that each uses in the next `ms`, on the mean. */
async function cpuWhile(processes: readonly Child[], ms: number): Promise<number> {
  const before = processes.map((child) => child.cpu());
  await sleep(ms);
  const { user, system } = cpuSince(processes, before);
  return (user + system) / processes.length / (ms * 1_000);
}

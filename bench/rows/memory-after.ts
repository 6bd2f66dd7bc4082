// What a proxy still holds a minute after load of each kind: what it took to carry it, it must give back.
//
// All pairs run side by side, each with its own load, so that they rest at the same time and the row lasts minutes.
import { join } from "node:path";
import { carried, type Load } from "../closed-loop.ts";
import { type Bench, LOAD_CORE, type Running, sleep } from "../harness.ts";
import { grpcStreamServer, grpcStreams } from "../load/grpc-stream-run.ts";
import { h2load } from "../load/h2load.ts";
import { iperf, iperfServer } from "../load/iperf.ts";
import { wrk } from "../load/wrk.ts";
import { nghttpd } from "../peers/nghttpd.ts";
import { nginx, nginxFiles } from "../peers/nginx.ts";
import type { Verdict } from "../report.ts";
import type { Row, Stage } from "../stage.ts";

const MB = 1_048_576;
/** Of gRPC, bytes. */
const MESSAGE = 60;
/** s */
const WARM_UP = 1;
/** Samples are taken this often while there is load, ms. */
const SAMPLING = 200;

interface Kind {
  readonly name: string;
  readonly start: () => Promise<Running>;
  readonly load: Load;
}

/** MB of anonymous memory of the proxy that strayed furthest. */
interface Held {
  readonly idle: number;
  readonly most: number;
  readonly after: number;
}

export const memoryAfter: Row = {
  id: "memory-after",
  title: "Memory a minute after load, a pair of proxies with mTLS",
  needs: ["haproxy", "nginx", "nghttpd", "wrk", "h2load", "iperf3"],
  async measure(stage) {
    const { quick } = stage.bench.options;
    const times = quick ? { rest: 3_000, load: 2, after: 35_000 } : { rest: 30_000, load: 8, after: 60_000 };
    const kinds = await kindsOf(stage);
    const running: Running[] = [];
    for (const kind of kinds) running.push(await kind.start());
    await sleep(times.rest);
    const results: Promise<Held | undefined>[] = [];
    const failures: string[] = [];
    for (const [index, { name, load }] of kinds.entries()) {
      stage.log(name);
      const pair = running[index]!;
      const idle = anonymous(pair);
      const most = [...idle];
      const timer = setInterval(() => {
        for (const [each, mb] of anonymous(pair).entries()) most[each] = Math.max(most[each]!, mb);
      }, SAMPLING);
      try {
        // Of the first requests to a proxy that has no connection yet, those that find its queue full are refused.
        await load(pair.port, WARM_UP).catch(() => {});
        carried(await load(pair.port, times.load));
      } catch (error) {
        // What was not carried took no memory that could be given back.
        failures.push(`${name}: not measured: ${(error as Error).message}`);
        results.push(Promise.resolve(undefined));
        continue;
      } finally {
        clearInterval(timer);
      }
      results.push(
        sleep(times.after).then(() =>
          furthest(anonymous(pair).map((after, each) => ({ idle: idle[each]!, most: most[each]!, after }))),
        ),
      );
    }
    stage.log("all rest");
    const held = await Promise.all(results);
    await stage.bench.stop(running.flatMap(({ processes }) => processes));
    return {
      tables: [
        {
          columns: [
            { head: "idle MB", digits: 1 },
            { head: "most under load", digits: 1 },
            { head: `${times.after / 1_000} s after`, digits: 1 },
            { head: "after / idle", digits: 2, suffix: "×" },
          ],
          rows: kinds.map(({ name }, index) => {
            const each = held[index];
            if (!each) return { name, cells: ["not measured"] };
            return { name, cells: [each.idle, each.most, each.after, each.after / each.idle] };
          }),
        },
      ],
      verdicts: kinds.flatMap(({ name }, index): Verdict[] => {
        const each = held[index];
        if (!each) return [];
        const work = `anonymous memory of a proxy a minute after ${name}`;
        return [{ work, sense: "at most", limit: 1.2, unit: "× idle", value: each.after / each.idle }];
      }),
      failures,
      notes: [`Of the proxy of each pair that kept more; ${times.load} s of load each.`],
    };
  },
};

const anonymous = ({ processes }: Running): number[] => processes.map((child) => child.memory().anonymous);

/** Of the one that kept most of what it took. */
const furthest = (held: readonly Held[]): Held =>
  held.reduce((worst, each) => (each.after / each.idle > worst.after / worst.idle ? each : worst));

async function kindsOf(stage: Stage): Promise<Kind[]> {
  const { bench, mesh } = stage;
  bench.write(`memory/${MB}`, "x".repeat(MB));
  const directory = join(bench.directory, "memory");
  const [app, files, http2Files, streams, sink] = [
    await stage.backEnd(),
    await fileServer(bench, directory),
    await nghttpd(bench, directory),
    await grpcStreamServer(bench),
    await iperfServer(bench),
  ];
  const pair = (to: number, opaque = false) => ({ start: () => mesh.pair(to, { opaque }) });
  return [
    { name: "HTTP/1, 50 connections", ...pair(app), load: wrk(bench) },
    { name: "HTTP/1, 1,000 connections", ...pair(app), load: wrk(bench, { connections: 1_000 }) },
    {
      name: "HTTP/1, 1 MB responses",
      ...pair(files),
      load: wrk(bench, { connections: 10, path: `/${MB}` }),
    },
    { name: "HTTP/2, 8 × 16", ...pair(app), load: h2load(bench) },
    {
      name: "HTTP/2, 1 MB responses",
      ...pair(http2Files),
      load: h2load(bench, { connections: 4, streams: 4, path: `/${MB}` }),
    },
    {
      name: "HTTP/2, 1 MB requests",
      ...pair(app),
      load: h2load(bench, { streams: 4, body: "x".repeat(MB) }),
    },
    { name: "gRPC streams", ...pair(streams), load: grpcStreams(bench, MESSAGE) },
    { name: "TCP to the server", ...pair(sink, true), load: iperf(bench) },
    { name: "TCP from the server", ...pair(sink, true), load: iperf(bench, true) },
    {
      name: "new connections",
      ...pair(app, true),
      load: wrk(bench, { headers: ["Connection: close"], connections: 50 }),
    },
  ];
}

async function fileServer(bench: Bench, directory: string): Promise<number> {
  const port = await bench.port();
  await nginx(bench, "memory", LOAD_CORE, port, nginxFiles(port, directory));
  return port;
}

// HTTP/1 through two proxies with mTLS between them.
import { closedLoop, cpuOf, cpuVerdict, ratio, rowResult } from "../closed-loop.ts";
import { PROXY_CORE, type Running } from "../harness.ts";
import { wrk } from "../load/wrk.ts";
import { haproxyPair } from "../peers/haproxy.ts";
import { nginxPair } from "../peers/nginx.ts";
import type { Row, Stage } from "../stage.ts";

export const http1Meshed: Row = {
  id: "http1-meshed",
  title: "HTTP/1, a pair of proxies with mTLS",
  needs: ["haproxy", "nginx", "wrk"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await stage.backEnd();
    const result = await closedLoop(stage, {
      unit: "request",
      load: wrk(bench),
      subjects: [
        stage.direct(app),
        { name: "HAProxy pair", kind: "haproxy", start: () => haproxyPair(bench, app, tls) },
        { name: "nginx pair", kind: "nginx", start: () => nginxPair(bench, app, tls) },
        { name: "kubectl-mesh pair", kind: "ours", start: () => mesh.pair(app) },
        { name: "node:http + node:https pair", kind: "naive", start: () => naivePair(stage, app) },
      ],
    });
    const { outcomes } = result;
    return rowResult(
      result,
      [
        cpuVerdict("HTTP/1 over a meshed pair with mTLS, CPU per pass", outcomes, 1.6),
        {
          work: "the same pair on node:http + node:https, CPU per pass",
          sense: "at least",
          limit: 2.5,
          value: ratio(cpuOf(outcomes, "naive"), cpuOf(outcomes, "ours")),
          unit: "× ours",
        },
      ],
      ["50 kept connections, 24-byte bodies; both proxies share core 0, CPU and memory are of one."],
    );
  },
};

/** The pair that a straightforward Node programme makes. */
async function naivePair({ bench, tls }: Stage, app: number): Promise<Running> {
  const [front, back] = [await bench.port(), await bench.port()];
  const start = async (side: "client" | "server", listen: number, target: number) => {
    const { name, key, chain, anchors } = tls;
    const child = bench.start(
      `node:http ${side}`,
      PROXY_CORE,
      process.execPath,
      [bench.program("peers/naive.ts")],
      {
        NAIVE: JSON.stringify({ side, listen, target, name, key, chain, anchors }),
      },
    );
    await bench.listening(child, listen);
    return child;
  };
  const server = await start("server", back, app);
  const client = await start("client", front, back);
  return { port: front, processes: [client, server] };
}

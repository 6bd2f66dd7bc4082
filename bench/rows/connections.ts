// What the number of connections costs.
import { wrk } from "../load/wrk.ts";
import { haproxyPair, haproxyPlain } from "../peers/haproxy.ts";
import type { Row } from "../stage.ts";
import { sweep } from "../sweep.ts";

const COUNTS = [1, 10, 100, 1_000, 5_000];

export const connections: Row = {
  id: "connections",
  title: "Cost by number of connections, HTTP/1",
  needs: ["haproxy", "wrk"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await stage.backEnd();
    return sweep(stage, {
      steps: COUNTS.map((count) => ({
        name: count.toLocaleString("en"),
        load: wrk(bench, { connections: count }),
      })),
      subjects: [
        stage.direct(app),
        { name: "HAProxy", kind: "haproxy", start: () => haproxyPlain(bench, app) },
        { name: "kubectl-mesh outbound", kind: "ours", start: () => mesh.outbound(app) },
        { name: "HAProxy pair, mTLS", kind: "haproxy", start: () => haproxyPair(bench, app, tls) },
        { name: "kubectl-mesh pair, mTLS", kind: "ours", start: () => mesh.pair(app) },
      ],
      notes: ["Kept connections, always one request on each."],
    });
  },
};

// What the number of connections costs.
import { wrk } from "../load/wrk.ts";
import { haproxyPair, haproxyPlain } from "../peers/haproxy.ts";
import type { Row } from "../stage.ts";
import { sweep } from "../sweep.ts";

/** Many connections take long to make, above all with TLS. */
const COUNTS = [
  { count: 1, stretch: 1 },
  { count: 10, stretch: 1 },
  { count: 100, stretch: 1 },
  { count: 1_000, stretch: 2 },
  { count: 5_000, stretch: 4 },
];

export const connections: Row = {
  id: "connections",
  title: "Cost by number of connections, HTTP/1",
  needs: ["haproxy", "wrk"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await stage.backEnd();
    return sweep(stage, {
      steps: COUNTS.map(({ count, stretch }) => ({
        name: count.toLocaleString("en"),
        stretch,
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

// Bytes that nobody interprets: through one proxy, and through a pair with mTLS.
import { closedLoop, rateOf, ratio } from "../closed-loop.ts";
import { iperf, iperfServer } from "../load/iperf.ts";
import { haproxyPair, haproxyPlain } from "../peers/haproxy.ts";
import type { Row } from "../stage.ts";

const TCP = { mode: "tcp" } as const;
const OPAQUE = { opaque: true };

export const tcp: Row = {
  id: "tcp",
  title: "TCP, one connection",
  needs: ["haproxy", "iperf3"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await iperfServer(bench);
    const results = [];
    const verdicts = [];
    for (const [direction, reverse] of [
      ["to the server", false],
      ["from the server", true],
    ] as const) {
      const load = iperf(bench, reverse);
      const plain = await closedLoop(stage, {
        caption: `One proxy, ${direction}`,
        unit: "MB",
        load,
        subjects: [
          stage.direct(app),
          { name: "HAProxy", kind: "haproxy", start: () => haproxyPlain(bench, app, TCP) },
          { name: "kubectl-mesh outbound", kind: "ours", start: () => mesh.outbound(app, OPAQUE) },
        ],
      });
      const meshed = await closedLoop(stage, {
        caption: `A pair with mTLS, ${direction}`,
        unit: "MB",
        load,
        subjects: [
          { name: "HAProxy pair", kind: "haproxy", start: () => haproxyPair(bench, app, tls, TCP) },
          { name: "kubectl-mesh pair", kind: "ours", start: () => mesh.pair(app, OPAQUE) },
        ],
      });
      results.push(plain, meshed);
      for (const [work, { outcomes }] of [
        ["TCP pass-through", plain],
        ["TCP over a meshed pair with mTLS", meshed],
      ] as const)
        verdicts.push({
          work: `${work}, ${direction}, throughput`,
          sense: "at least" as const,
          limit: 0.5,
          value: ratio(rateOf(outcomes, "ours"), rateOf(outcomes, "haproxy")),
          unit: "× HAProxy",
        });
    }
    return {
      tables: results.map(({ table }) => table),
      failures: results.flatMap(({ failures }) => failures),
      verdicts,
      notes: [
        "A proxy that does not fill its core waits for load and back end, which share the other: then CPU per MB says more than MB/s.",
      ],
    };
  },
};

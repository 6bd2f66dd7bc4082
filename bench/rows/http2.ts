// HTTP/2 through one proxy, and through a pair with mTLS.
import { closedLoop, cpuVerdict } from "../closed-loop.ts";
import { h2load } from "../load/h2load.ts";
import { haproxyPair, haproxyPlain } from "../peers/haproxy.ts";
import { nginxPlain } from "../peers/nginx.ts";
import type { Row } from "../stage.ts";

export const http2: Row = {
  id: "http2",
  title: "HTTP/2, 8 connections × 16 streams",
  needs: ["haproxy", "nginx", "h2load"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await stage.backEnd();
    const load = h2load(bench);
    const plain = await closedLoop(stage, {
      caption: "One proxy",
      unit: "request",
      load,
      subjects: [
        stage.direct(app),
        { name: "HAProxy", kind: "haproxy", start: () => haproxyPlain(bench, app, { h2: true }) },
        {
          name: "nginx (HTTP/1 to the back end)",
          kind: "nginx",
          start: () => nginxPlain(bench, app, "http2"),
        },
        { name: "kubectl-mesh outbound", kind: "ours", start: () => mesh.outbound(app) },
        { name: "kubectl-mesh inbound", kind: "ours", start: () => mesh.inbound(app) },
      ],
    });
    const meshed = await closedLoop(stage, {
      caption: "A pair with mTLS",
      unit: "request",
      load,
      subjects: [
        { name: "HAProxy pair", kind: "haproxy", start: () => haproxyPair(bench, app, tls, { h2: true }) },
        { name: "kubectl-mesh pair", kind: "ours", start: () => mesh.pair(app) },
      ],
    });
    return {
      tables: [plain.table, meshed.table],
      failures: [...plain.failures, ...meshed.failures],
      verdicts: [
        ...["outbound", "inbound"].map((side) =>
          cpuVerdict(`HTTP/2 pass, ${side}, CPU per request`, plain.outcomes, 3, side),
        ),
        cpuVerdict("HTTP/2 over a meshed pair with mTLS, CPU per pass", meshed.outcomes, 3),
      ],
      notes: ["24-byte bodies."],
    };
  },
};

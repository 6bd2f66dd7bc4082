// HTTP/1 through one proxy without TLS.
import { closedLoop, cpuVerdict, rowResult } from "../closed-loop.ts";
import { wrk } from "../load/wrk.ts";
import { haproxyPlain } from "../peers/haproxy.ts";
import { nginxPlain } from "../peers/nginx.ts";
import type { Row } from "../stage.ts";

export const http1: Row = {
  id: "http1",
  title: "HTTP/1, one proxy",
  needs: ["haproxy", "nginx", "wrk"],
  async measure(stage) {
    const { bench, mesh } = stage;
    const app = await stage.backEnd();
    const result = await closedLoop(stage, {
      unit: "request",
      load: wrk(bench),
      subjects: [
        stage.direct(app),
        { name: "HAProxy", kind: "haproxy", start: () => haproxyPlain(bench, app) },
        { name: "nginx", kind: "nginx", start: () => nginxPlain(bench, app, "http1") },
        { name: "kubectl-mesh outbound", kind: "ours", start: () => mesh.outbound(app) },
        { name: "kubectl-mesh inbound", kind: "ours", start: () => mesh.inbound(app) },
      ],
    });
    return rowResult(
      result,
      ["outbound", "inbound"].map((side) =>
        cpuVerdict(`HTTP/1 plain pass, ${side}, CPU per request`, result.outcomes, 1.6, side),
      ),
      ["50 kept connections, 24-byte bodies."],
    );
  },
};

// What a response's size costs.
import { join } from "node:path";
import { LONG_WARM_UP } from "../closed-loop.ts";
import { LOAD_CORE } from "../harness.ts";
import { wrk } from "../load/wrk.ts";
import { haproxyPair, haproxyPlain } from "../peers/haproxy.ts";
import { nginx, nginxFiles } from "../peers/nginx.ts";
import type { Row } from "../stage.ts";
import { sweep } from "../sweep.ts";

const SIZES = [
  { name: "0 B", bytes: 0 },
  { name: "1 KB", bytes: 1_024 },
  { name: "16 KB", bytes: 16_384 },
  { name: "64 KB", bytes: 65_536 },
  { name: "1 MB", bytes: 1_048_576 },
];

/** Of bodies of this size and more only some thousands go through in a second: just-in-time compilers take longer to settle. */
const FEW_A_SECOND = 65_536;

export const bodySize: Row = {
  id: "body-size",
  title: "Cost by size of the response's body, HTTP/1",
  needs: ["haproxy", "nginx", "wrk"],
  async measure(stage) {
    const { bench, mesh, tls } = stage;
    const app = await bench.port();
    for (const { bytes } of SIZES) bench.write(`files/${bytes}`, "x".repeat(bytes));
    await nginx(bench, "files", LOAD_CORE, app, nginxFiles(app, join(bench.directory, "files")));
    return sweep(stage, {
      steps: SIZES.map(({ name, bytes }) => ({
        name,
        ...(bytes >= FEW_A_SECOND ? { warmUp: LONG_WARM_UP } : {}),
        load: wrk(bench, { connections: bytes > 65_536 ? 10 : 50, path: `/${bytes}` }),
      })),
      subjects: [
        stage.direct(app),
        { name: "HAProxy", kind: "haproxy", start: () => haproxyPlain(bench, app) },
        { name: "kubectl-mesh outbound", kind: "ours", start: () => mesh.outbound(app) },
        { name: "HAProxy pair, mTLS", kind: "haproxy", start: () => haproxyPair(bench, app, tls) },
        { name: "kubectl-mesh pair, mTLS", kind: "ours", start: () => mesh.pair(app) },
      ],
      notes: ["50 kept connections, 10 at 1 MB; files served by nginx."],
    });
  },
};

// gRPC, unary and streaming, through one proxy and through a pair with mTLS.
import { closedLoop, cpuVerdict } from "../closed-loop.ts";
import { type Bench, LOAD_CORE } from "../harness.ts";
import { grpcStreamServer, grpcStreams } from "../load/grpc-stream-run.ts";
import { h2load } from "../load/h2load.ts";
import { haproxyPair, haproxyPlain } from "../peers/haproxy.ts";
import { nginx, nginxGrpc, nginxGrpcBackEnd } from "../peers/nginx.ts";
import type { Row, Stage, Subject } from "../stage.ts";

/** Of a message, without its frame. */
const MESSAGE = 60;

export const grpc: Row = {
  id: "grpc",
  title: "gRPC, 8 connections × 16 streams",
  needs: ["haproxy", "nginx", "h2load"],
  async measure(stage) {
    const { bench } = stage;
    const unary = h2load(bench, {
      path: "/bench.Echo/Unary",
      headers: ["content-type: application/grpc", "te: trailers"],
      body: `\0\0\0\0${String.fromCharCode(MESSAGE)}${"a".repeat(MESSAGE)}`,
    });
    const kinds = [
      { kind: "unary", app: await unaryBackEnd(bench), load: unary, unit: "call" },
      {
        kind: "streaming",
        app: await grpcStreamServer(bench),
        load: grpcStreams(bench, MESSAGE),
        unit: "message",
      },
    ];
    const results = [];
    const verdicts = [];
    for (const { kind, app, load, unit } of kinds) {
      const plain = await closedLoop(stage, {
        caption: `${kind}, one proxy`,
        ...{ unit, load, subjects: plainSubjects(stage, app) },
      });
      const meshed = await closedLoop(stage, {
        caption: `${kind}, a pair with mTLS`,
        ...{ unit, load, subjects: pairs(stage, app) },
      });
      results.push(plain, meshed);
      verdicts.push(
        cpuVerdict(`gRPC ${kind} pass, outbound, CPU per ${unit}`, plain.outcomes, 3, "outbound"),
        cpuVerdict(`gRPC ${kind} pass, inbound, CPU per ${unit}`, plain.outcomes, 3, "inbound"),
        cpuVerdict(`gRPC ${kind} over a meshed pair with mTLS, CPU per pass`, meshed.outcomes, 3),
      );
    }
    return {
      tables: results.map(({ table }) => table),
      failures: results.flatMap(({ failures }) => failures),
      verdicts,
      notes: [
        `Messages of ${MESSAGE} bytes each way. Streaming: each stream sends a message, and the next when it has come back; a message is counted once.`,
      ],
    };
  },
};

function plainSubjects(stage: Stage, app: number): Subject[] {
  const { bench, mesh } = stage;
  return [
    stage.direct(app),
    { name: "HAProxy", kind: "haproxy", start: () => haproxyPlain(bench, app, { h2: true }) },
    { name: "nginx", kind: "nginx", start: () => nginxGrpc(bench, app) },
    { name: "kubectl-mesh outbound", kind: "ours", start: () => mesh.outbound(app) },
    { name: "kubectl-mesh inbound", kind: "ours", start: () => mesh.inbound(app) },
  ];
}

const pairs = ({ bench, mesh, tls }: Stage, app: number): Subject[] => [
  { name: "HAProxy pair", kind: "haproxy", start: () => haproxyPair(bench, app, tls, { h2: true }) },
  { name: "kubectl-mesh pair", kind: "ours", start: () => mesh.pair(app) },
];

async function unaryBackEnd(bench: Bench): Promise<number> {
  const port = await bench.port();
  await nginx(bench, "grpc-back-end", LOAD_CORE, port, nginxGrpcBackEnd(port));
  return port;
}

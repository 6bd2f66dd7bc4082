// Spans on their way to a collector: the proxy's own gRPC client against gRPC's server.
import { createConnection } from "node:net";
import * as grpc from "@grpc/grpc-js";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decode, type MessageOf } from "../../../src/api/codec.ts";
import { Export, ExportTraceServiceRequest, type Span } from "../../../src/api/otlp.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { GrpcClient } from "../../../src/proxy/control/grpc-client.ts";
import { SpanExporter } from "../../../src/proxy/telemetry/tracing.ts";
import { withWaits } from "../../support/clock.ts";
import { until } from "../../support/until.ts";

const test = suite("OTLP export");

type Request = MessageOf<typeof ExportTraceServiceRequest>;
type Answer = (error: Partial<grpc.StatusObject> | null, value?: Buffer) => void;

interface World {
  readonly exporter: SpanExporter;
  readonly requests: Request[];
  readonly registry: Registry;
  readonly warnings: string[];
}

/** @param answer of the collector to each call */
async function world(answer: (done: Answer) => void, body: (w: World) => Promise<void>): Promise<void> {
  const requests: Request[] = [];
  const same = (bytes: Buffer) => bytes;
  const server = new grpc.Server();
  server.addService(
    {
      Export: {
        path: Export.path,
        requestStream: false,
        responseStream: false,
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    },
    {
      Export: (call: { request: Buffer }, done: Answer) => {
        requests.push(decode(ExportTraceServiceRequest, call.request));
        answer(done);
      },
    },
  );
  const credentials = grpc.ServerCredentials.createInsecure();
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  const warnings: string[] = [];
  const log = createLogger({ level: "warn", write: (line) => warnings.push(line) });
  const registry = new Registry();
  const clock = withWaits((ms) => (ms === 1_000 ? 20 : ms));
  const client = new GrpcClient({
    authority: `127.0.0.1:${port}`,
    clock,
    log,
    registry,
    connect: () =>
      new Promise((resolve, reject) => {
        const socket = createConnection(port, "127.0.0.1");
        socket.once("connect", () => resolve(socket)).once("error", reject);
      }),
  });
  const resource = { "service.name": "web", "k8s.pod.name": "web-0" };
  const exporter = new SpanExporter({ client, clock, log, registry, resource });
  try {
    await body({ exporter, requests, registry, warnings });
  } finally {
    client.close();
    server.forceShutdown();
  }
}

const span = (name: string): MessageOf<typeof Span> => ({
  traceId: Buffer.alloc(16, 1),
  spanId: Buffer.alloc(8, 2),
  parentSpanId: Buffer.alloc(0),
  traceState: "",
  name,
  kind: 2,
  startTimeUnixNano: 1_700_000_000_000_000_000n,
  endTimeUnixNano: 1_700_000_000_001_000_000n,
  attributes: [{ key: "http.request.method", value: { stringValue: "GET" } }],
  status: { message: "", code: 0 },
});

test("spans go out together, with what the pod says of itself", () =>
  world(
    (done) => done(null, Buffer.alloc(0)),
    async ({ exporter, requests, registry }) => {
      exporter.add(span("one"));
      exporter.add(span("two"));
      await until(() => /trace_spans_exported_total 2\n/.test(registry.expose()), 5_000, "both spans");
      assert.is(requests.length, 1);
      const { resource, scopeSpans } = requests[0]!.resourceSpans[0]!;
      assert.equal(
        resource!.attributes.map(({ key, value }) => [key, value?.stringValue]),
        [
          ["service.name", "web"],
          ["k8s.pod.name", "web-0"],
        ],
      );
      assert.equal(scopeSpans[0]!.spans, [span("one"), span("two")]);
    },
  ));

test("what a collector refuses is dropped and counted, and told of once", () =>
  world(
    (done) => done({ code: grpc.status.RESOURCE_EXHAUSTED, details: "enough" }),
    async ({ exporter, requests, registry, warnings }) => {
      exporter.add(span("one"));
      await until(() => /trace_spans_dropped_total 1\n/.test(registry.expose()), 5_000, "the first");
      exporter.add(span("two"));
      await until(() => /trace_spans_dropped_total 2\n/.test(registry.expose()), 5_000, "the second");
      assert.is(requests.length, 2);
      assert.is(warnings.filter((line) => line.includes("spans cannot be exported")).length, 1);
    },
  ));

test("a collector that does not answer holds no more than so many spans", () =>
  world(
    () => {},
    async ({ exporter, requests, registry }) => {
      for (let i = 0; i < 5_000; i += 1) exporter.add(span("many"));
      await until(() => requests.length === 1, 5_000, "the first batch");
      const dropped = Number(/trace_spans_dropped_total (\d+)/.exec(registry.expose())![1]);
      assert.is(dropped, 5_000 - 256 - 2_048);
    },
  ));

test.run();

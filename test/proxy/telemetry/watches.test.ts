// What watches exchanges, on real requests through both sides: access log and traces.
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { MessageOf } from "../../../src/api/codec.ts";
import type { Span } from "../../../src/api/otlp.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { AccessLog } from "../../../src/proxy/telemetry/access-log.ts";
import { resourceAttributes, Tracing } from "../../../src/proxy/telemetry/tracing.ts";
import { Watches } from "../../../src/proxy/telemetry/watches.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { createAuthority, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";

const test = suite("watches");
const NAME = "web.ns.serviceaccount.identity.test";
const CLIENT = "app.ns.serviceaccount.identity.test";

/** A meshed pair before an application that echoes, watched. */
async function world(
  ratio: number,
  body: (w: {
    port: number;
    lines: () => Record<string, unknown>[];
    spans: MessageOf<typeof Span>[];
    seen: http.IncomingHttpHeaders[];
    watches: Watches;
  }) => Promise<void>,
): Promise<void> {
  const seen: http.IncomingHttpHeaders[] = [];
  const app = http.createServer((request, response) => {
    seen.push(request.headers);
    request.resume();
    request.on("end", () => {
      response.statusCode = request.url === "/fail" ? 500 : 200;
      response.end("four");
    });
  });
  await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
  const authority = createAuthority();
  const clock = systemClock;
  let text = "";
  const watches = new Watches();
  const spans: MessageOf<typeof Span>[] = [];
  const exporter = { add: (span: MessageOf<typeof Span>) => void spans.push(span) };
  const tracing = new Tracing({ exporter, clock, ratio });
  watches.add(
    new AccessLog({
      format: "json",
      clock,
      log: createLogger({ level: "off" }),
      sink: (chunk, done) => {
        text += chunk;
        done();
      },
    }),
  );
  watches.add(tracing);
  const outboundWatches = new Watches();
  outboundWatches.add(tracing);
  const inbound = await startInbound(
    { ip: "127.0.0.1", port: (app.address() as AddressInfo).port },
    { identity: authority.identity(NAME), watches },
  );
  const outbound = await startOutbound(
    { ip: "127.0.0.1", port: 80 },
    { identity: authority.identity(CLIENT), watches: outboundWatches },
  );
  outbound.discovery.service("127.0.0.1:80", "web.ns.svc.cluster.local", [
    { port: inbound.port, identity: NAME, h2: true },
  ]);
  try {
    await body({
      port: outbound.port,
      lines: () =>
        text
          .split("\n")
          .filter((line) => line !== "")
          .map((line) => JSON.parse(line)),
      spans,
      seen,
      watches,
    });
  } finally {
    outbound.path.close();
    inbound.path.close();
    app.close();
    app.closeAllConnections();
  }
}

const ask = (port: number, path: string, headers: http.OutgoingHttpHeaders = {}, body = "") =>
  new Promise<number>((resolve, reject) => {
    const options = { port, host: "127.0.0.1", path, method: "POST", agent: false, headers } as const;
    const request = http.request(options, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode!));
    });
    request.on("error", reject);
    request.end(body);
  });

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";

test("each inbound request has a line, with its client's identity and what really went over", () =>
  world(0, async ({ port, lines }) => {
    await ask(port, "/a?b", { "user-agent": "tester", "x-request-id": "r1", host: "web" }, "body!");
    await ask(port, "/fail");
    await until(() => lines().length === 2, 5_000, "two lines");
    const [first, second] = lines();
    assert.equal(
      [first!["client.id"], first!["method"], first!["uri"], first!["host"], first!["version"]],
      [CLIENT, "POST", "/a?b", "web", "HTTP/1.1"],
    );
    assert.equal(
      [first!["request_bytes"], first!["response_bytes"], first!["status"], first!["trace_id"]],
      [5, 4, 200, "r1"],
    );
    assert.ok(Number(first!["total_ns"]) >= Number(first!["processing_ns"]));
    assert.is(second!["status"], 500);
  }));

test("a trace is continued through both proxies, span by span", () =>
  world(0, async ({ port, spans, seen }) => {
    await ask(port, "/x", { traceparent: `00-${TRACE}-${PARENT}-01`, tracestate: "k=v" });
    await until(() => spans.length === 2, 5_000, "two spans");
    const [server, client] = [spans.find(({ kind }) => kind === 2)!, spans.find(({ kind }) => kind === 3)!];
    const hex = (bytes: Buffer) => bytes.toString("hex");
    assert.is(hex(client.traceId), TRACE);
    assert.is(hex(client.parentSpanId), PARENT);
    assert.is(hex(server.parentSpanId), hex(client.spanId));
    assert.is(seen[0]!["traceparent"], `00-${TRACE}-${hex(server.spanId)}-01`);
    assert.is(seen[0]!["tracestate"], "k=v");
    assert.ok(server.endTimeUnixNano >= server.startTimeUnixNano);
    const attribute = (key: string) => server.attributes.find((each) => each.key === key)?.value;
    assert.is(attribute("client.id")?.stringValue, CLIENT);
    assert.is(attribute("http.response.status_code")?.intValue, 200);
  }));

/** The other ways to tell a context; each is told on in its own. */
const FORMS: readonly { name: string; told: http.OutgoingHttpHeaders; on: (span: string) => object }[] = [
  {
    name: "B3 in one field",
    told: { b3: `${TRACE}-${PARENT}-1` },
    on: (span) => ({ b3: `${TRACE}-${span}-1` }),
  },
  {
    name: "B3 in several",
    told: { "x-b3-traceid": TRACE, "x-b3-spanid": PARENT, "x-b3-sampled": "1" },
    on: (span) => ({ "x-b3-traceid": TRACE, "x-b3-spanid": span, "x-b3-sampled": "1" }),
  },
  {
    name: "grpc-trace-bin",
    told: { "grpc-trace-bin": binary(PARENT) },
    on: (span) => ({ "grpc-trace-bin": binary(span) }),
  },
];

function binary(span: string): string {
  return Buffer.from(`0000${TRACE}01${span}0201`, "hex").toString("base64").replace(/=+$/, "");
}

for (const { name, told, on } of FORMS) {
  test(`a trace is continued as it was told: ${name}`, () =>
    world(0, async ({ port, spans, seen }) => {
      await ask(port, "/x", told);
      await until(() => spans.length === 2, 5_000, "two spans");
      const server = spans.find(({ kind }) => kind === 2)!;
      assert.ok(spans.every(({ traceId }) => traceId.toString("hex") === TRACE));
      for (const [field, value] of Object.entries(on(server.spanId.toString("hex"))))
        assert.ok(String(seen[0]![field]).startsWith(value), field);
      assert.is(seen[0]!["traceparent"], undefined);
    }));
}

test("requests without a context, or not sampled, have no span and go on as they came", () =>
  world(0, async ({ port, spans, seen, lines }) => {
    await ask(port, "/");
    await ask(port, "/", { traceparent: `00-${TRACE}-${PARENT}-00` });
    await until(() => lines().length === 2, 5_000, "both lines");
    assert.is(spans.length, 0);
    assert.is(seen[0]!["traceparent"], undefined);
    assert.is(seen[1]!["traceparent"], `00-${TRACE}-${PARENT}-00`);
  }));

test("a share of requests begins a trace when that is asked for", () =>
  world(1, async ({ port, spans, seen }) => {
    await ask(port, "/fail");
    await until(() => spans.length === 2, 5_000, "two spans");
    const root = spans.find(({ parentSpanId }) => parentSpanId.length === 0)!;
    assert.is(root.kind, 3);
    assert.is(root.status?.code, 2, "a failing request is an error");
    assert.ok(seen[0]!["traceparent"]);
  }));

test("HTTP/2 requests are watched too, and nothing when all is off", () =>
  world(0, async ({ port, lines, watches }) => {
    const off = watches.add({ begin: () => undefined });
    off();
    const client = http2.connect(`http://127.0.0.1:${port}`);
    client.on("error", () => {});
    const stream = client.request({ ":path": "/h2", ":method": "POST" });
    stream.end("12345678");
    stream.resume();
    await new Promise((resolve) => stream.on("close", resolve));
    client.destroy();
    await until(() => lines().length === 1, 5_000, "a line");
    assert.equal([lines()[0]!["version"], lines()[0]!["uri"]], ["HTTP/2.0", "/h2"]);
    const empty = new Watches();
    empty.add({ begin: () => undefined })();
    assert.is(empty.current, undefined);
  }));

test("resource attributes: the environment wins over extras, extras over labels", () => {
  const labels = 'app="web"\nservice.name="from labels"\nteam="a"';
  assert.equal(
    resourceAttributes({ labels, extra: "team=b,x=y", otel: "x=z", serviceName: "linkerd-proxy" }),
    { app: "web", "service.name": "from labels", team: "b", x: "z" },
  );
});

test.run();

// The metrics API as a source of numbers, however it answers.
import { type AddressInfo, connect, createServer } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PodRecord } from "../../src/controller/metrics-api/pod.ts";
import { createMetricsServer } from "../../src/controller/metrics-api/server.ts";
import { TrafficStore } from "../../src/controller/metrics-api/store.ts";
import { createLogger } from "../../src/log/logger.ts";
import { MeshError } from "../../src/util/error.ts";
import { MetricsApiSource } from "../../src/viz/metrics-api-source.ts";
import { podOf } from "../support/exposition.ts";

const test = suite("metrics api source");

test("asks over streams that it dials, and uses one again", async () => {
  const store = new TrafficStore<PodRecord>();
  const api = createMetricsServer(
    () => ({ store, pods: () => [podOf("web")], now: 0 }),
    createLogger({ level: "off" }),
  );
  await new Promise<void>((resolve) => api.listen(0, "127.0.0.1", resolve));
  const { port } = api.address() as AddressInfo;
  let dials = 0;
  const source = new MetricsApiSource(async () => {
    dials += 1;
    return connect(port, "127.0.0.1");
  });
  try {
    for (let i = 0; i < 3; i += 1) {
      const answer = await source.stat({ resource: { kind: "deployment" }, window: 60_000 });
      assert.equal(
        answer.rows.map((row) => row.name),
        ["web"],
      );
    }
    assert.is(dials, 1);
    assert.equal((await source.edges({ resource: { kind: "deployment" }, window: 60_000 })).rows, []);
    const refused = await source.stat({ resource: { kind: "pod" }, window: 1 }).catch((error) => error);
    assert.instance(refused, MeshError);
    assert.match(refused.message, "the metrics API refused: window");
  } finally {
    source.close();
    api.closeAllConnections();
    api.close();
  }
});

test("a connection that cannot be opened, breaks or talks nonsense is an error for a person", async () => {
  const refused = new MetricsApiSource(async () => {
    throw new MeshError("pods is forbidden");
  });
  const ask = (source: MetricsApiSource) =>
    source.stat({ resource: { kind: "pod" }, window: 60_000 }).catch((error) => error);
  assert.is((await ask(refused)).message, "pods is forbidden");

  for (const [answer, message] of [
    ["", /asking the metrics API failed/],
    ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", /not JSON/],
  ] as const) {
    const server = createServer((socket) => {
      socket.once("data", () => socket.end(answer));
      socket.on("error", () => {});
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const source = new MetricsApiSource(async () =>
      connect((server.address() as AddressInfo).port, "127.0.0.1"),
    );
    const error = await ask(source);
    assert.instance(error, MeshError);
    assert.match(error.message, message);
    source.close();
    server.close();
  }
});

test.run();

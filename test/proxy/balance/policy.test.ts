// What an outbound policy says of balancing, as it reaches the balancer of its backend.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { MessageOf } from "../../../src/api/codec.ts";
import type { Backend, FailureAccrual, OutboundPolicy } from "../../../src/api/outbound.ts";
import { durationOf } from "../../../src/api/time.ts";
import { backendPolicy } from "../../../src/proxy/outbound/endpoints.ts";
import { endpointSet, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawServer } from "../../support/wire.ts";

const test = suite("balancing policy");
const SERVICE = { ip: "127.0.0.1", port: 80 };
const GET = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

type Closable = { close(): unknown };
const test_ = (name: string, body: (keep: <T extends Closable>(thing: T) => T) => Promise<void>) =>
  test(name, async () => {
    const things: Closable[] = [];
    try {
      await body((thing) => {
        things.push(thing);
        return thing;
      });
    } finally {
      for (const thing of things.reverse()) await thing.close();
    }
  });

function policy(
  backend: Partial<MessageOf<typeof Backend>>,
  failureAccrual?: MessageOf<typeof FailureAccrual>,
): MessageOf<typeof OutboundPolicy> {
  const balancer = { discovery: { dst: { path: "web" } } };
  const backends = { firstAvailable: { backends: [{ filters: [], backend: { balancer, ...backend } }] } };
  const rules = [{ matches: [], filters: [], allowL5dRequestHeaders: false, backends }];
  const http = { routes: [{ hosts: [], rules }], ...(failureAccrual ? { failureAccrual } : {}) };
  return { protocol: { detect: { http1: http, http2: http } } };
}

async function outbound(keep: <T extends Closable>(thing: T) => T, wanted: ReturnType<typeof policy>) {
  const proxy = await startOutbound(SERVICE, { config: { failfastTimeout: 60_000 } });
  keep(proxy.path);
  proxy.discovery.outboundPolicy("127.0.0.1", 80);
  const policies = proxy.discovery.policies.get("127.0.0.1:80")!;
  policies.set(wanted);
  const client = () => {
    const made = new RawClient(proxy.port);
    keep({ close: () => made.destroy() });
    return made;
  };
  return { ...proxy, policies, client, endpoints: proxy.discovery.endpointsOf("web") };
}

/** An application that answers with what it is told to. */
async function app(status: () => number) {
  const server = await RawServer.start((peer) => {
    peer.onData = (received) => {
      if (received.endsWith("\r\n\r\n")) peer.send(`HTTP/1.1 ${status()} X\r\ncontent-length: 2\r\n\r\nok`);
    };
  });
  return server;
}

test_("queue: as many wait as it says, as long as it says", async (keep) => {
  const proxy = await outbound(keep, policy({ queue: { capacity: 1, failfastTimeout: durationOf(300) } }));
  proxy.endpoints.set(endpointSet([]));
  const first = proxy.client().send(GET);
  await until(() => /balancer_queue_length\{[^}]*\} 1/.test(proxy.registry.expose()));
  assert.match(
    await proxy.client().send(GET).sees("\r\n\r\n"),
    /^HTTP\/1.1 503 .*\r\nl5d-proxy-error: service overloaded/,
  );
  assert.match(await first.sees("\r\n\r\n"), /^HTTP\/1.1 504 .*\r\nl5d-proxy-error: service in fail-fast/);
});

test_(
  "circuit breaking: an endpoint that fails is left, and a change of the policy counts at once",
  async (keep) => {
    let requests = 0;
    const good = keep(await app(() => 200));
    const bad = keep(
      await app(() => {
        requests += 1;
        return 500;
      }),
    );
    const accrual = {
      consecutiveFailures: {
        maxFailures: 2,
        backoff: {
          minBackoff: durationOf(60_000),
          maxBackoff: durationOf(60_000),
          jitterRatio: 0,
          respectRetryAfterHint: false,
        },
      },
    };
    const proxy = await outbound(keep, policy({}, accrual));
    proxy.endpoints.set(endpointSet([{ port: good.port }, { port: bad.port }]));
    const client = proxy.client();
    const ask = async () => {
      client.received = "";
      await client.send(GET).sees("ok");
    };
    // However unlucky its first answers were: the slower endpoint is asked now and then.
    await until(async () => {
      await ask();
      return requests === 2;
    });
    for (let i = 0; i < 60; i += 1) await ask();
    assert.is(requests, 2);
    assert.match(proxy.registry.expose(), /outbound_http_balancer_ejections_total\{[^}]*\} 1/);
    assert.match(proxy.registry.expose(), /endpoint_state="pending"\} 1/);
    proxy.policies.set(policy({}));
    await until(async () => {
      await ask();
      return requests > 4;
    });
  },
);

test("what a policy leaves out stays as the proxy is configured", () => {
  assert.is(backendPolicy(undefined, undefined).queue, undefined);
  assert.is(backendPolicy({ queue: { capacity: 0 } }, undefined).queue, undefined);
  assert.is(backendPolicy({}, {}).accrual, undefined);
});

test.run();

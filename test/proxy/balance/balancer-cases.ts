// What every way of reaching endpoints owes to a balancer, run over real servers of each kind.
import type { Test } from "uvu";
import * as assert from "uvu/assert";
import { Registry } from "../../../src/metrics/registry.ts";
import type { Balancer } from "../../../src/proxy/balance/balancer.ts";
import type { Waiter } from "../../../src/proxy/balance/wait-queue.ts";
import {
  type BackendPolicy,
  createBalancer,
  NO_BACKEND_POLICY,
} from "../../../src/proxy/outbound/endpoints.ts";
import type { EndpointSet, IdentitySource } from "../../../src/proxy/ports.ts";
import { BalancerFamilies } from "../../../src/proxy/telemetry/balancer-series.ts";
import { ConnectionFamilies } from "../../../src/proxy/telemetry/connection-series.ts";
import { RouteFamilies } from "../../../src/proxy/telemetry/route-series.ts";
import { Families } from "../../../src/proxy/telemetry/series.ts";
import type { AccrualConfig } from "../../../src/rules/failure-accrual.ts";
import { systemClock } from "../../../src/util/clock.ts";
import { freePort } from "../../support/free-port.ts";
import { FakeExchange } from "../../support/http-exchange.ts";
import { endpointSet, type FakeEndpoint, FakeIdentity, FakeWatch } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";

/** A server of the kind under test. */
export interface App {
  readonly port: number;
  /** Requests seen. */
  requests: number;
  /** What it answers with. */
  status: number;
  /** Answers only once this has resolved. */
  hold: Promise<void> | undefined;
  /** Ends its connections in the way of its kind, as at a restart. */
  leave(): void;
  close(): Promise<void>;
}

export interface Kind {
  readonly name: string;
  /** How requests come. */
  readonly version: 1 | 2;
  /** Who dials; undefined: without TLS. */
  readonly identity?: IdentitySource;
  /** What discovery says of each endpoint. */
  readonly endpoint?: Partial<FakeEndpoint>;
  start(port?: number): Promise<App>;
}

/** An outbound side reduced to its balancer. */
class World {
  readonly registry = new Registry();
  readonly watch: FakeWatch<EndpointSet>;
  readonly balancer: Balancer;
  readonly #kind: Kind;

  constructor(kind: Kind, endpoints: readonly FakeEndpoint[], policy: Partial<BackendPolicy> = {}) {
    const families = new Families(this.registry, "outbound", systemClock);
    const clock = systemClock;
    this.#kind = kind;
    this.watch = new FakeWatch(this.#setOf(endpoints));
    this.balancer = createBalancer(
      this.watch,
      "web:80",
      {
        families,
        routes: new RouteFamilies(this.registry),
        balancers: new BalancerFamilies(this.registry),
        connections: new ConnectionFamilies(this.registry),
        shared: {
          clock,
          dial: {
            clock,
            identity: kind.identity ?? new FakeIdentity("unused.test"),
            connectTimeout: 1_000,
            keepAlive: 0,
          },
          pool: { clock, idleTimeout: 3_000, maxIdle: 100 },
          backoff: { min: 20, max: 50, jitter: 0 },
          maxWaiting: 100,
          inFlight: 0,
        },
        queues: {
          request: { capacity: 100, failfastTimeout: 1_000 },
          connection: { capacity: 100, failfastTimeout: 1_000 },
        },
        isLocal: () => false,
      },
      { ...NO_BACKEND_POLICY, ...policy },
    );
  }

  #setOf(endpoints: readonly FakeEndpoint[]): EndpointSet {
    return endpointSet(endpoints.map((endpoint) => ({ ...this.#kind.endpoint, ...endpoint })));
  }

  set(endpoints: readonly FakeEndpoint[]): void {
    this.watch.set(this.#setOf(endpoints));
  }

  /** Begins a request; what was certainly not worked on is tried elsewhere, as the accepting sides do. */
  begin(): FakeExchange {
    const exchange = new FakeExchange({ version: this.#kind.version });
    exchange.onFailure = () => {
      const { broken, failure, attempts } = exchange;
      if (broken && !broken.unprocessed && !(broken.key === "upstream-closed" && exchange.upstream!.reused))
        return;
      if (attempts >= 5) {
        exchange.refuse(broken?.key ?? failure!.key);
        return;
      }
      exchange.broken = undefined;
      this.#dispatch(exchange);
    };
    this.#dispatch(exchange);
    return exchange;
  }

  #dispatch(exchange: FakeExchange): void {
    const { balancer } = this;
    const endpoint = balancer.pick();
    if (endpoint) {
      if (exchange.failure && !endpoint.reachable && exchange.attempts >= balancer.size)
        exchange.refuse(exchange.failure.key);
      else endpoint.serve(exchange);
      return;
    }
    const waiter: Waiter = {
      onEndpoints: () => this.#dispatch(exchange),
      onFailfast: () => exchange.refuse("fail-fast"),
    };
    const state = balancer.wait(waiter, "request");
    if (state !== "waiting") exchange.refuse(state === "full" ? "load-shed" : "fail-fast");
  }

  async ask(): Promise<FakeExchange> {
    return this.begin().done();
  }

  /** So many requests, a few at a time. */
  async flood(count: number, width = 4): Promise<FakeExchange[]> {
    const done: FakeExchange[] = [];
    let begun = 0;
    const worker = async () => {
      while (begun < count) {
        begun += 1;
        done.push(await this.ask());
      }
    };
    await Promise.all(Array.from({ length: width }, worker));
    return done;
  }

  /** The value of a series, by its name and a part of its labels. */
  metric(name: string, label = ""): number {
    const line = this.registry
      .expose()
      .split("\n")
      .find((each) => each.startsWith(name) && each.includes(label));
    return Number(line?.slice(line.lastIndexOf(" ") + 1) ?? Number.NaN);
  }

  close(): void {
    this.balancer.close();
  }
}

const served = (exchanges: readonly FakeExchange[]) => {
  for (const { response, refused, broken } of exchanges)
    assert.is(response?.status, 200, `${refused ?? broken?.key}`);
};

export function balancerCases(test: Test, kind: Kind): void {
  const it = (name: string, body: (keep: <T extends { close(): unknown }>(thing: T) => T) => Promise<void>) =>
    test(`${kind.name}: ${name}`, async () => {
      const things: { close(): unknown }[] = [];
      try {
        await body((thing) => {
          things.push(thing);
          return thing;
        });
      } finally {
        for (const thing of things.reverse()) await thing.close();
      }
    });
  const world = (endpoints: readonly FakeEndpoint[], policy?: Partial<BackendPolicy>) =>
    new World(kind, endpoints, policy);

  it("all endpoints serve", async (keep) => {
    const apps = [keep(await kind.start()), keep(await kind.start()), keep(await kind.start())];
    const mesh = keep(world(apps));
    served(await mesh.flood(120));
    assert.ok(
      apps.every(({ requests }) => requests > 10),
      apps.map(({ requests }) => requests).join(),
    );
    assert.is(mesh.metric("outbound_http_balancer_endpoints", 'endpoint_state="ready"'), 3);
    assert.is(mesh.metric("outbound_http_balancer_p2c_endpoints"), 3);
  });

  it("shares follow weights, also when they change", async (keep) => {
    const [heavy, light] = [keep(await kind.start()), keep(await kind.start())];
    const mesh = keep(
      world([
        { port: heavy.port, weight: 900 },
        { port: light.port, weight: 100 },
      ]),
    );
    served(await mesh.flood(300));
    assert.ok(heavy.requests > 4 * light.requests, `${heavy.requests} and ${light.requests}`);
    assert.ok(light.requests > 0);
    mesh.set([
      { port: heavy.port, weight: 0 },
      { port: light.port, weight: 100 },
    ]);
    heavy.requests = 0;
    served(await mesh.flood(50));
    assert.is(heavy.requests, 0);
  });

  it("requests stay in the zone as long as it can take them", async (keep) => {
    const [near, far] = [keep(await kind.start()), keep(await kind.start())];
    const endpoints = [
      { port: near.port, labels: { zone_locality: "local" } },
      { port: far.port, labels: { zone_locality: "remote" } },
    ];
    const mesh = keep(world(endpoints));
    served(await mesh.flood(60, 1));
    assert.is(far.requests, 0);
    await near.close();
    served(await mesh.flood(20, 1));
    assert.is(far.requests, 20);
  });

  it("an endpoint that hangs gets no more than its first", async (keep) => {
    const [quick, stuck] = [keep(await kind.start()), keep(await kind.start())];
    let release = () => {};
    stuck.hold = new Promise((resolve) => {
      release = resolve;
    });
    const mesh = keep(world([quick, stuck]));
    const asked = Array.from({ length: 200 }, () => mesh.begin());
    await until(() => asked.filter(({ over }) => over).length >= 100, 5_000, "most requests");
    served(await mesh.flood(100));
    assert.ok(stuck.requests <= 101, `${stuck.requests}`);
    release();
    for (const exchange of asked) await exchange.done();
    served(asked);
  });

  it("an endpoint that refuses connections costs no request, and comes back", async (keep) => {
    const app = keep(await kind.start());
    const port = await freePort();
    const mesh = keep(world([app, { port }]));
    served(await mesh.flood(40));
    assert.is(mesh.metric("outbound_http_balancer_endpoints", 'endpoint_state="pending"'), 1);
    const late = keep(await kind.start(port));
    await until(() => mesh.metric("outbound_http_balancer_endpoints", 'endpoint_state="ready"') === 2);
    served(await mesh.flood(60));
    assert.ok(late.requests > 0);
  });

  it("when none can be reached each is tried, and then the caller is told", async (keep) => {
    const mesh = keep(world([{ port: await freePort() }, { port: await freePort() }]));
    const exchange = await mesh.ask();
    assert.is(exchange.refused, "connect");
    assert.is(exchange.attempts, 2);
  });

  it("without endpoints requests wait, fail fast, and flow at once when one comes", async (keep) => {
    const app = keep(await kind.start());
    const mesh = keep(world([], { queue: { capacity: 2, failfastTimeout: 50 } }));
    const first = [mesh.begin(), mesh.begin(), mesh.begin()];
    assert.is(first[2]!.refused, "load-shed");
    assert.is(mesh.metric("outbound_http_balancer_queue_length"), 2);
    assert.is((await first[0]!.done()).refused, "fail-fast");
    assert.is((await first[1]!.done()).refused, "fail-fast");
    assert.is(mesh.begin().refused, "fail-fast", "at once");
    mesh.set([app]);
    served([await mesh.ask()]);
    mesh.set([]);
    const waiting = mesh.begin();
    mesh.set([app]);
    served([await waiting.done()]);
    assert.is(mesh.metric("outbound_http_balancer_queue_length"), 0);
    assert.is(mesh.metric("outbound_http_balancer_queue_requests_total"), 3);
    assert.is(mesh.metric("outbound_http_balancer_queue_gate_shut_total"), 1);
    assert.is(mesh.metric("outbound_http_balancer_queue_gate_open_total"), 2);
    assert.is(mesh.metric("outbound_http_balancer_queue_gate_timeout_seconds"), 0.05);
  });

  it("endpoints that come, go and restart cost no request", async (keep) => {
    const stable = keep(await kind.start());
    let apps = [keep(await kind.start()), keep(await kind.start())];
    const mesh = keep(world([stable, ...apps]));
    let over = false;
    const flood = mesh.flood(1_500, 8).finally(() => {
      over = true;
    });
    for (let round = 0; !over; round += 1) {
      const next = keep(await kind.start());
      const leaving = apps[0]!;
      apps = [apps[1]!, next];
      // As at a rolling update: discovery tells, and the old one ends what it has.
      mesh.set([stable, ...apps]);
      leaving.leave();
      if (round % 3 === 0) apps[0]!.leave();
      const before = stable.requests;
      await until(() => over || stable.requests > before + 5);
    }
    served(await flood);
  });

  const accrual = (maxFailures: number, minReadyEndpoints = 1): Partial<BackendPolicy> => ({
    accrual: consecutive(maxFailures, minReadyEndpoints),
  });

  it("who keeps failing is ejected until a probe passes", async (keep) => {
    const [good, bad] = [keep(await kind.start()), keep(await kind.start())];
    bad.status = 500;
    const mesh = keep(world([good, bad], accrual(3)));
    await mesh.flood(100);
    await until(() => mesh.metric("outbound_http_balancer_ejections_total") >= 1);
    const before = bad.requests;
    const asked = await mesh.flood(200);
    const probes = bad.requests - before;
    assert.is(asked.filter(({ response }) => response?.status === 500).length, probes);
    assert.ok(probes <= 10, `only probes go there: ${probes}`);
    bad.status = 200;
    await until(async () => {
      await mesh.ask();
      return mesh.metric("outbound_http_balancer_probes_total", 'classification="success"') === 1;
    });
    bad.requests = 0;
    served(await mesh.flood(100));
    assert.ok(bad.requests > 10, `it serves again: ${bad.requests}`);
  });

  it("the last endpoints are never ejected", async (keep) => {
    const apps = [keep(await kind.start()), keep(await kind.start()), keep(await kind.start())];
    for (const app of apps) app.status = 503;
    const mesh = keep(world(apps, accrual(2, 2)));
    const asked = await mesh.flood(100, 2);
    assert.ok(
      asked.every(({ response }) => response?.status === 503),
      "each is answered by an endpoint",
    );
    assert.is(mesh.metric("outbound_http_balancer_endpoints", 'endpoint_state="ready"'), 2);
  });
}

/** Ejected for 30 ms, then for longer. */
function consecutive(maxFailures: number, minReadyEndpoints: number): AccrualConfig {
  return {
    maxFailures,
    rate: undefined,
    backoff: { min: 30, max: 200, jitter: 0 },
    respectsRetryAfter: false,
    minReadyEndpoints,
  };
}

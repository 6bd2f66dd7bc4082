// A control plane that goes away for hours, with real streams, real requests, and a clock that the test holds: what is known
// serves on, and on its return what changed meanwhile is taken over.
import { createConnection, type Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressOf } from "../../../src/api/address.ts";
import * as destination from "../../../src/api/destination.ts";
import { GrpcError, STATUS } from "../../../src/api/grpc-status.ts";
import * as inbound from "../../../src/api/inbound.ts";
import * as outbound from "../../../src/api/outbound.ts";
import { GrpcServer } from "../../../src/controller/grpc-server.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { GrpcClient } from "../../../src/proxy/control/grpc-client.ts";
import { ControlDiscovery } from "../../../src/proxy/control/index.ts";
import { ManualClock } from "../../support/clock.ts";
import { serverPolicy, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { app, ask, type Keep, ok, prefix, scenarios } from "../../support/routed.ts";
import { until } from "../../support/until.ts";

const test = suite("a control plane that is away");
const scenario = scenarios(test);
const log = createLogger({ level: "off" });
const HOUR = 3_600_000;
const ONE_PATH = {
  metadata: {
    resource: { group: "g", kind: "HTTPRoute", name: "one", namespace: "ns", section: "", port: 0 },
  },
  hosts: [],
  authorizations: [],
  rules: [{ matches: [prefix("/only")], filters: [] }],
};

/** A control plane with one service; its answers are what the fields say when it is asked. */
class Plane {
  endpoints: number[] = [];
  asked = 0;
  #server: GrpcServer | undefined;
  readonly #sockets = new Set<Socket>();
  #port = 0;

  async start(): Promise<void> {
    const server = new GrpcServer({ log, registry: new Registry() });
    server.stream(destination.Get, (_request, sender) => {
      this.asked += 1;
      const addrs = this.endpoints.map((port) => ({ addr: addressOf("127.0.0.1", port), weight: 1 }));
      sender.send(addrs.length > 0 ? { add: { addrs } } : { noEndpoints: { exists: true } });
    });
    server.stream(destination.GetProfile, (_request, sender) =>
      sender.send({ fullyQualifiedName: "web.ns.svc.cluster.local" } as never),
    );
    server.stream(outbound.Watch, () => {
      throw new GrpcError(STATUS.NOT_FOUND, "no policy");
    });
    server.stream(inbound.WatchPort, (_request, sender) => {
      this.asked += 1;
      sender.send({ ...serverPolicy("all"), protocol: { detect: { httpRoutes: [ONE_PATH] } } });
    });
    this.#port = await server.listen(this.#port, "127.0.0.1");
    this.#server = server;
  }

  /** It goes, and its connections with it. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.#server?.close();
    this.#server = undefined;
  }

  discovery(clock: ManualClock, keep: Keep): ControlDiscovery {
    const client = new GrpcClient({
      authority: `127.0.0.1:${this.#port}`,
      clock,
      log,
      registry: new Registry(),
      connect: () =>
        new Promise((resolve, reject) => {
          const socket = createConnection(this.#port, "127.0.0.1");
          this.#sockets.add(socket);
          socket.once("close", () => this.#sockets.delete(socket));
          socket.once("connect", () => resolve(socket)).once("error", reject);
        }),
    });
    const discovery = new ControlDiscovery({
      destination: client,
      policy: client,
      clock,
      context: "",
      workload: "",
      profiled: () => true,
      profileTimeout: 500,
      streamTimeout: 3_000,
      defaultPolicy: "all-unauthenticated",
      clusterNetworks: [],
      opaquePorts: [],
    });
    keep(() => {
      discovery.close();
      client.close();
    });
    return discovery;
  }
}

async function away(keep: Keep): Promise<Plane> {
  const plane = new Plane();
  await plane.start();
  keep(() => plane.stop());
  return plane;
}

/** Lets hours pass in steps in which connections can be tried. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += ms / 100) await clock.advance(ms / 100);
}

scenario("endpoints serve on, and on its return those that left are left and new ones come", async (keep) => {
  const plane = await away(keep);
  const old = await app(keep, ok("old"));
  const young = await app(keep, ok("young"));
  plane.endpoints = [old.port];
  const clock = new ManualClock();
  const discovery = plane.discovery(clock, keep);
  // Nothing listens at the service's own address: whoever is forgotten cannot be reached.
  const proxy = await startOutbound({ ip: "127.0.0.1", port: 1 }, { clock, discovery });
  keep(() => proxy.path.close());
  assert.is((await ask(proxy.port, "/")).body, "old");
  await plane.stop();
  // Each request has a connection of its own: between them nobody uses the destination.
  for (let hour = 0; hour < 6; hour += 1) {
    await pass(clock, HOUR);
    const got = await ask(proxy.port, "/");
    assert.equal([got.status, got.body], [200, "old"], `hour ${hour}`);
  }
  plane.endpoints = [young.port];
  const before = plane.asked;
  await plane.start();
  await until(
    async () => {
      await clock.advance(1_000);
      return plane.asked > before;
    },
    10_000,
    "it to be asked again",
  );
  await until(async () => (await ask(proxy.port, "/")).body === "young", 5_000, "the new endpoint");
  const served = old.bodies.length;
  for (let i = 0; i < 10; i += 1) assert.is((await ask(proxy.port, "/")).body, "young");
  assert.is(old.bodies.length, served, "who left gets no more");
  // It is there again: who is idle is forgotten as ever.
  const asked = plane.asked;
  await until(
    async () => {
      await clock.advance(6_000);
      await ask(proxy.port, "/");
      return plane.asked > asked;
    },
    10_000,
    "a new look-up",
  );
});

scenario("a server's policy holds on, however long nobody calls, rather than the default", async (keep) => {
  const plane = await away(keep);
  const web = await app(keep, ok("web"));
  const clock = new ManualClock();
  const proxy = await startInbound(
    { ip: "127.0.0.1", port: web.port },
    { clock, discovery: plane.discovery(clock, keep), config: { discoveryIdleTimeout: 90_000 } },
  );
  keep(() => proxy.path.close());
  const status = async () => (await ask(proxy.port, "/")).status;
  // The default holds until it is known that only one path has a route.
  await until(async () => (await status()) === 404, 5_000, "the policy");
  await plane.stop();
  await pass(clock, 6 * HOUR);
  assert.is(await status(), 404);
  assert.is((await ask(proxy.port, "/only")).body, "web");
});

test.run();

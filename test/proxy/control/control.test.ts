// The proxy's client of the control plane against the control plane's server, over real sockets.
import { createConnection, type Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressOf } from "../../../src/api/address.ts";
import type { MessageOf } from "../../../src/api/codec.ts";
import * as destination from "../../../src/api/destination.ts";
import { GrpcError, STATUS } from "../../../src/api/grpc-status.ts";
import * as outbound from "../../../src/api/outbound.ts";
import { GrpcServer, type Sender } from "../../../src/controller/grpc-server.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { GrpcClient } from "../../../src/proxy/control/grpc-client.ts";
import { ControlDiscovery } from "../../../src/proxy/control/index.ts";
import { withWaits } from "../../support/clock.ts";
import { until } from "../../support/until.ts";

const test = suite("control-plane client");
const log = createLogger({ level: "off" });
/** Waits at most 20 ms, so that back-off does not slow the tests. */
const quick = withWaits((ms) => (ms > 2_000 ? ms : Math.min(ms, 20)));

type Update = MessageOf<typeof destination.Update>;

class Plane {
  server!: GrpcServer;
  port = 0;
  readonly senders: Sender<Update>[] = [];
  readonly sockets: Socket[] = [];
  get: (path: string, sender: Sender<Update>) => void = () => {};

  async start(): Promise<void> {
    this.server = new GrpcServer({ log, registry: new Registry() });
    this.server.stream(destination.Get, ({ path }, sender) => {
      this.senders.push(sender);
      this.get(path, sender);
    });
    this.server.unary(
      destination.GetProfile as never,
      (() => {
        throw new GrpcError(STATUS.NOT_FOUND, "no such thing: 50 %");
      }) as never,
    );
    this.port = await this.server.listen(this.port, "127.0.0.1");
  }

  client(): GrpcClient {
    return new GrpcClient({
      authority: `127.0.0.1:${this.port}`,
      clock: quick,
      log,
      registry: new Registry(),
      connect: () =>
        new Promise((resolve, reject) => {
          const socket = createConnection(this.port, "127.0.0.1");
          this.sockets.push(socket);
          socket.once("connect", () => resolve(socket)).once("error", reject);
        }),
    });
  }
}

async function withPlane(
  run: (plane: Plane, client: GrpcClient, discovery: ControlDiscovery) => Promise<void>,
): Promise<void> {
  const plane = new Plane();
  await plane.start();
  const client = plane.client();
  const discovery = new ControlDiscovery({
    destination: client,
    policy: client,
    clock: quick,
    context: "",
    workload: "",
    profiled: () => true,
    profileTimeout: 5_000,
    streamTimeout: 3_000,
    defaultPolicy: "all-unauthenticated",
    clusterNetworks: [],
    opaquePorts: [],
  });
  try {
    await run(plane, client, discovery);
  } finally {
    discovery.close();
    client.close();
    await plane.server.close();
  }
}

const add = (...ports: number[]) => ({
  add: { addrs: ports.map((port) => ({ addr: addressOf("10.0.0.1", port), weight: 1 })) },
});

test("endpoints stream in, and changes are applied", () =>
  withPlane(async (plane, _client, discovery) => {
    plane.get = (path, sender) =>
      sender.send(path === "a:80" ? add(1, 2) : { noEndpoints: { exists: false } });
    const watch = discovery.endpoints("a:80");
    await watch.ready;
    assert.equal([...watch.current!.endpoints.keys()], ["10.0.0.1:1", "10.0.0.1:2"]);
    plane.senders[0]!.send({ remove: { addrs: [addressOf("10.0.0.1", 1)] } });
    plane.senders[0]!.send(add(3));
    await until(() => watch.current!.endpoints.size === 2 && watch.current!.endpoints.has("10.0.0.1:3"));
    const none = discovery.endpoints("b:80");
    await none.ready;
    assert.is(none.current!.exists, false);
  }));

test("holders of one path share a stream, which ends with the last of them", () =>
  withPlane(async (plane, client, discovery) => {
    plane.get = (_path, sender) => sender.send(add(1));
    const [one, two] = [discovery.endpoints("a:80"), discovery.endpoints("a:80")];
    await Promise.all([one.ready, two.ready]);
    assert.is(plane.senders.length, 1);
    one.close();
    assert.not(plane.senders[0]!.closed);
    two.close();
    await until(() => plane.senders[0]!.closed);
    void client;
  }));

test("while the control plane is away the old endpoints stay; its first answer then replaces them", () =>
  withPlane(async (plane, _client, discovery) => {
    plane.get = (_path, sender) => sender.send(add(1, 2));
    const watch = discovery.endpoints("a:80");
    await watch.ready;
    await plane.server.close();
    assert.is(watch.current!.endpoints.size, 2);
    plane.get = (_path, sender) => sender.send(add(9));
    await plane.start();
    await until(() => watch.current!.endpoints.has("10.0.0.1:9"));
    await until(() => !watch.current!.endpoints.has("10.0.0.1:1"));
    assert.equal([...watch.current!.endpoints.keys()], ["10.0.0.1:9"]);
  }));

const ports = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const settling = [
  {
    name: "in several messages it never has fewer endpoints",
    tells: [add(...ports(1, 500)), add(...ports(501, 1_000)), add(...ports(1_001, 1_199))],
    least: 1_199,
    settles: 1_199,
  },
  {
    name: "what a message removes is gone at once",
    tells: [{ ...add(...ports(1, 500)), remove: { addrs: [addressOf("10.0.0.1", 1_200)] } }],
    least: 1_199,
    settles: 500,
  },
  { name: "none is its whole word", tells: [{ noEndpoints: { exists: true } }], least: 0, settles: 0 },
];
for (const { name, tells, least, settles } of settling) {
  test(`a control plane that comes back tells what it knows: ${name}`, () =>
    withPlane(async (plane, _client, discovery) => {
      plane.get = (_path, sender) => sender.send(add(...ports(1, 1_200)));
      const watch = discovery.endpoints("a:80");
      await watch.ready;
      await plane.server.close();
      const sizes: number[] = [];
      watch.subscribe(({ endpoints }) => sizes.push(endpoints.size));
      plane.get = (_path, sender) => {
        for (const message of tells) sender.send(message);
      };
      await plane.start();
      await until(
        () => sizes.at(-1) === settles && sizes.length >= tells.length,
        5_000,
        () => `${sizes}`,
      );
      assert.ok(
        sizes.slice(0, tells.length).every((size) => size >= least),
        `${sizes}`,
      );
    }));
}

test("a connection that dies in the middle is made again", () =>
  withPlane(async (plane, _client, discovery) => {
    let times = 0;
    plane.get = (_path, sender) => {
      times += 1;
      sender.send(add(times));
    };
    const watch = discovery.endpoints("a:80");
    await watch.ready;
    plane.sockets[0]!.destroy();
    await until(() => watch.current!.endpoints.has("10.0.0.1:2"));
  }));

test("a status reaches the caller with its message, and not found means null", () =>
  withPlane(async (plane, client, discovery) => {
    try {
      await client.unary(destination.GetProfile, { path: "x" }, 2_000);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, GrpcError);
      assert.is((error as GrpcError).code, STATUS.NOT_FOUND);
      assert.is((error as GrpcError).message, "no such thing: 50 %");
    }
    const profile = discovery.profile("10.0.0.1", 80);
    await profile.ready;
    assert.is(profile.current, null);
    const policy = discovery.outboundPolicy("10.0.0.1", 80);
    await policy.ready;
    assert.is(policy.current, null, "unimplemented");
    void plane;
  }));

test("an address is looked up as one, and a name that a request gave by its authority", () =>
  withPlane(async (plane, _client, discovery) => {
    const asked: unknown[] = [];
    const noting = (request: unknown) => {
      asked.push(request);
      throw new GrpcError(STATUS.NOT_FOUND, "nothing");
    };
    plane.server.unary(outbound.Watch as never, noting as never);
    plane.server.unary(destination.GetProfile as never, noting as never);
    const name = "web.shop.svc.cluster.local";
    for (const host of ["10.0.0.1", name]) {
      await discovery.outboundPolicy(host, 80).ready;
      await discovery.profile(host, 80).ready;
    }
    const of = (key: string) => asked.map((request) => (request as Record<string, unknown>)[key]);
    assert.equal(of("authority"), [undefined, undefined, `${name}:80`, undefined]);
    assert.equal(of("addr").map(Boolean), [true, false, false, false]);
    assert.equal(of("path"), [undefined, "10.0.0.1:80", undefined, `${name}:80`]);
  }));

test("a server policy holds from the first moment", () =>
  withPlane(async (_plane, _client, discovery) => {
    const watch = discovery.serverPolicy(8080);
    assert.is(watch.current!.labels["name"], "all-unauthenticated");
    watch.close();
  }));

test("large messages cross the flow-control windows whole", () =>
  withPlane(async (plane, _client, discovery) => {
    plane.get = (_path, sender) => {
      for (let batch = 0; batch < 40; batch += 1) {
        sender.send(add(...Array.from({ length: 500 }, (_, i) => 1 + batch * 500 + i)));
      }
    };
    const watch = discovery.endpoints("a:80");
    await until(() => watch.current?.endpoints.size === 20_000);
  }));

test("a control plane that is not there: the caller is told in time, and served once it comes", async () => {
  const plane = new Plane();
  await plane.start();
  await plane.server.close();
  const client = plane.client();
  try {
    try {
      await client.unary(destination.GetProfile, { path: "x" }, 15);
      assert.unreachable();
    } catch (error) {
      assert.is((error as GrpcError).code, STATUS.DEADLINE_EXCEEDED);
    }
    plane.get = (_path, sender) => sender.send(add(1));
    let got = 0;
    client.call(destination.Get, { path: "a" }, { onMessage: () => (got += 1), onEnd: () => {} });
    await plane.start();
    await until(() => got === 1);
  } finally {
    client.close();
    await plane.server.close();
  }
});

test.run();

// Resumed TLS sessions: they save the asymmetric work, and grant nothing that a full handshake would not.
import { createServer } from "node:net";
import type { TLSSocket } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Credentials } from "../../../src/proxy/ports.ts";
import {
  type DialError,
  type DialHandler,
  type DialTarget,
  dial,
} from "../../../src/proxy/transport/dial.ts";
import { terminateTls } from "../../../src/proxy/transport/terminate.ts";
import { type Clock, systemClock } from "../../../src/util/clock.ts";
import { createAuthority, FakeIdentity } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";

const test = suite("resumption");
const SERVER = "server.test";
const CLIENT = "client.test";
const HOUR = 3_600_000;
const authority = createAuthority();

/** What both sides saw of a handshake; `error` alone when the client refused. */
interface Shake {
  readonly clientId?: string | undefined;
  readonly reused?: boolean;
  readonly error?: string;
}

class World {
  /** The wall clock of both proxies; OpenSSL goes by the system's. */
  readonly clock: Clock = { ...systemClock, now: () => Date.now() + this.ahead };
  ahead = 0;
  server: Credentials = authority.credentials(SERVER);
  readonly identity = new FakeIdentity(CLIENT, authority.credentials(CLIENT));
  readonly #accepted: Shake[] = [];
  readonly #listener = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (raw) => {
    raw.on("error", () => {});
    terminateTls(raw, Buffer.alloc(0), this.server, this.clock, (error, terminated) => {
      this.#accepted.push(
        terminated
          ? { clientId: terminated.clientId, reused: terminated.socket.isSessionReused() }
          : { error: error ?? "" },
      );
      terminated?.socket.on("error", () => {}).end("x");
    });
  });

  static async run(body: (world: World) => Promise<void>): Promise<void> {
    const world = new World();
    await new Promise<void>((resolve) => world.#listener.listen(0, "127.0.0.1", resolve));
    try {
      await body(world);
    } finally {
      world.#listener.close();
    }
  }

  target(identity = SERVER): DialTarget & { tls: NonNullable<DialTarget["tls"]> } {
    const { port } = this.#listener.address() as { port: number };
    return {
      ip: "127.0.0.1",
      port,
      tls: {
        serverName: identity,
        identity,
        alpn: undefined,
        session: undefined,
        sessionContext: undefined,
        sessionExpiry: 0,
      },
    };
  }

  /** Connects, and takes the ticket that comes with it. */
  async shake(target: DialTarget): Promise<Shake> {
    const before = this.#accepted.length;
    const { identity, clock } = this;
    const error = await new Promise<DialError | undefined>((resolve) => {
      const handler: DialHandler = {
        onConnected: () => {},
        // The tickets come before the first bytes.
        onBytes: () => socket.destroy(),
        onEnd: () => {},
        onDrain: () => {},
        onClosed: resolve,
      };
      const socket = dial(
        target,
        { clock, connectTimeout: 5_000, keepAlive: 0, identity },
        handler,
      ) as TLSSocket;
    });
    if (error) return { error: error.key };
    return until(() => this.#accepted[before], 5_000, "the server's word");
  }
}

test("a second connection resumes the session of the first, with its identity", () =>
  World.run(async (world) => {
    const target = world.target();
    assert.equal(await world.shake(target), { clientId: CLIENT, reused: false });
    // Whose certificate would be read at each resumption, at a tenth of its cost.
    assert.ok(target.tls.session && !target.tls.session.includes(SERVER));
    for (let i = 0; i < 3; i += 1)
      assert.equal(await world.shake(target), { clientId: CLIENT, reused: true });
  }));

const CHANGES: Readonly<Record<string, readonly [change: (world: World) => void, then: Shake]>> = {
  "the server's certificate was renewed": [
    (world) => {
      world.server = authority.credentials(SERVER);
    },
    { clientId: CLIENT, reused: false },
  ],
  "the client's certificate was renewed": [
    (world) => {
      world.identity.current = authority.credentials(CLIENT);
    },
    { clientId: CLIENT, reused: false },
  ],
  "the client has another identity now": [
    (world) => {
      world.identity.current = authority.credentials("other.test");
    },
    { clientId: "other.test", reused: false },
  ],
  "the client's trust anchor was removed at the server": [
    (world) => {
      world.server = authority.credentials(SERVER, createAuthority().anchors);
    },
    { clientId: undefined, reused: false },
  ],
  "the server's trust anchor was removed at the client": [
    (world) => {
      world.identity.current = authority.credentials(CLIENT, createAuthority().anchors);
    },
    { error: "tls-handshake" },
  ],
  "the server became another": [
    (world) => {
      world.server = authority.credentials("other.test");
    },
    { error: "tls-identity" },
  ],
};

for (const [name, [change, then]] of Object.entries(CHANGES)) {
  test(`not resumed: ${name}`, () =>
    World.run(async (world) => {
      const target = world.target();
      await world.shake(target);
      assert.equal(await world.shake(target), { clientId: CLIENT, reused: true });
      change(world);
      assert.equal(await world.shake(target), then);
    }));
}

test("a client does not offer a session once the server's certificate has expired", () =>
  World.run(async (world) => {
    const target = world.target();
    await world.shake(target);
    world.ahead = HOUR + 60_000;
    const { reused } = await world.shake(target);
    assert.is(reused, false);
  }));

test("a server grants no identity by a session once the client's certificate has expired", () =>
  World.run(async (world) => {
    const target = world.target();
    await world.shake(target);
    // A client that offers it all the same.
    world.ahead = HOUR + 60_000;
    target.tls.sessionExpiry = Number.POSITIVE_INFINITY;
    assert.equal(await world.shake(target), { clientId: undefined, reused: true });
  }));

test("a session is not used for another identity, nor for another endpoint", () =>
  World.run(async (world) => {
    const first = world.target();
    await world.shake(first);
    assert.equal(await world.shake(world.target("other.test")), { error: "tls-identity" });
    assert.equal(await world.shake(world.target()), { clientId: CLIENT, reused: false });
  }));

test.run();

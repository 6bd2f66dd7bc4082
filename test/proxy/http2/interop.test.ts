// Our HTTP/2 against Node's (nghttp2), each as client and as server, over real sockets.
import * as http2 from "node:http2";
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Http2Connection } from "../../../src/http2/connection.ts";
import { ERROR } from "../../../src/http2/frame.ts";
import type { Header } from "../../../src/http2/hpack.ts";
import { Http2Failure, type Http2Stream, type StreamHandler } from "../../../src/http2/stream.ts";
import { Http2Client } from "../../../src/proxy/http2/client.ts";
import { withWaits } from "../../support/clock.ts";
import { until } from "../../support/until.ts";

const test = suite("http2 with node:http2 as peer");

/** Keeps the process alive while a test waits. */
const clock = withWaits((ms) => ms);

const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port;

async function listening<S extends { listen(port: number, host: string, done: () => void): unknown }>(
  server: S,
): Promise<S> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

// ---- our client, Node's server ----

interface Answer {
  headers: readonly Header[];
  body: Buffer;
  trailers: readonly Header[];
  error: Http2Failure | undefined;
}

class Peer {
  readonly server: http2.Http2Server;
  readonly sessions = new Set<http2.ServerHttp2Session>();
  client!: Http2Client;
  closed: (Http2Failure | undefined)[] = [];

  constructor(
    onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
    settings: http2.Settings = {},
  ) {
    this.server = http2.createServer({ settings });
    this.server.on("session", (session) => {
      this.sessions.add(session);
      session.on("error", () => {});
    });
    this.server.on("stream", (stream, headers) => {
      stream.on("error", () => {});
      onStream(stream, headers);
    });
  }

  async start(keepAlive = { interval: 10_000, timeout: 3_000 }): Promise<void> {
    await listening(this.server);
    const socket = createConnection(portOf(this.server), "127.0.0.1");
    await new Promise<void>((resolve) => socket.once("connect", resolve));
    this.client = new Http2Client(socket, {
      clock,
      keepAliveInterval: keepAlive.interval,
      keepAliveTimeout: keepAlive.timeout,
      onClose: (error) => this.closed.push(error),
    });
  }

  ask(path: string, body = Buffer.alloc(0), extra: Header[] = []): Promise<Answer> & { cancel: () => void } {
    let cancel = () => {};
    const promise = new Promise<Answer>((resolve) => {
      const answer: Answer = { headers: [], body: Buffer.alloc(0), trailers: [], error: undefined };
      const chunks: Buffer[] = [];
      cancel = this.client.request(
        [[":method", "POST"], [":scheme", "http"], [":path", path], [":authority", "web"], ...extra],
        body,
        {
          onHeaders: (headers) => {
            answer.headers = headers;
          },
          onData: (chunk) => chunks.push(Buffer.from(chunk)),
          onTrailers: (headers) => {
            answer.trailers = headers;
          },
          onClose: (error) => resolve({ ...answer, body: Buffer.concat(chunks), error }),
        },
      );
    });
    return Object.assign(promise, { cancel });
  }

  async stop(): Promise<void> {
    this.client.destroy();
    for (const session of this.sessions) session.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}

const echo = (stream: http2.ServerHttp2Stream) => {
  stream.respond(
    { ":status": 200, "x-kind": "echo", "set-cookie": ["a=1", "b=2"] },
    { waitForTrailers: true },
  );
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "done" }));
  stream.pipe(stream);
};

test("client: bodies beyond every window, many at once, with trailers", async () => {
  const peer = new Peer(echo, { initialWindowSize: 20_000, maxConcurrentStreams: 50, headerTableSize: 0 });
  await peer.start();
  try {
    const bodies = Array.from({ length: 20 }, (_, i) =>
      Buffer.alloc(i === 0 ? 3_000_000 : i * 10_000, i + 1),
    );
    const answers = await Promise.all(
      bodies.map((body, i) => peer.ask(`/${i}`, body, [["x-big", "v".repeat(4_000)]])),
    );
    answers.forEach((answer, i) => {
      assert.is(answer.error, undefined);
      assert.equal(answer.headers[0], [":status", "200"]);
      assert.equal(
        answer.headers.filter(([name]) => name === "set-cookie").map(([, value]) => value),
        ["a=1", "b=2"],
      );
      assert.ok(answer.body.equals(bodies[i]!));
      assert.equal(answer.trailers, [["x-sum", "done"]]);
    });
    assert.is(peer.client.active, 0);
  } finally {
    await peer.stop();
  }
});

test("client: a reset by the server ends one request; our cancel reaches it", async () => {
  let cancelled: number | undefined;
  const peer = new Peer((stream, headers) => {
    if (headers[":path"] === "/reset") stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    else if (headers[":path"] === "/hang") {
      stream.respond({ ":status": 200 });
      stream.on("close", () => {
        cancelled = stream.rstCode;
      });
    } else echo(stream);
  });
  await peer.start();
  try {
    const refused = await peer.ask("/reset");
    assert.is(refused.error?.code, ERROR.REFUSED_STREAM);
    assert.ok(refused.error?.unprocessed);
    const hanging = peer.ask("/hang");
    await until(() => peer.client.active === 1);
    hanging.cancel();
    assert.is((await hanging).error?.code, ERROR.CANCEL);
    await until(() => cancelled === ERROR.CANCEL);
    assert.is((await peer.ask("/x", Buffer.from("still"))).body.toString(), "still");
  } finally {
    await peer.stop();
  }
});

test("client: an answer before the whole request is taken, and the connection goes on", async () => {
  const peer = new Peer(
    (stream, headers) => {
      if (headers[":path"] !== "/early") return echo(stream);
      stream.respond({ ":status": 413 }, { endStream: true });
    },
    { initialWindowSize: 65_535 },
  );
  await peer.start();
  try {
    const early = await peer.ask("/early", Buffer.alloc(1_000_000));
    assert.is(early.error, undefined);
    assert.equal(early.headers[0], [":status", "413"]);
    assert.is((await peer.ask("/x", Buffer.from("on"))).body.toString(), "on");
  } finally {
    await peer.stop();
  }
});

test("client: GOAWAY lets the open request end and takes no more; then the connection is closed", async () => {
  let release = () => {};
  const peer = new Peer((stream) => {
    stream.respond({ ":status": 200 });
    release = () => stream.end("end");
  });
  await peer.start();
  try {
    const open = peer.ask("/");
    await until(() => peer.sessions.size === 1 && peer.client.active === 1);
    await until(() => release.toString().includes("end"));
    for (const session of peer.sessions) session.goaway(0);
    await until(() => !peer.client.available);
    release();
    assert.is((await open).body.toString(), "end");
    await until(() => peer.closed.length === 1);
    assert.is(peer.closed[0], undefined);
  } finally {
    await peer.stop();
  }
});

test("client: the socket's end fails what is open, once", async () => {
  const peer = new Peer((stream) => stream.respond({ ":status": 200 }));
  await peer.start();
  try {
    const asked = [peer.ask("/"), peer.ask("/")];
    await until(() => peer.sessions.size === 1 && peer.client.active === 2);
    for (const session of peer.sessions) session.destroy();
    for (const answer of await Promise.all(asked)) assert.ok(answer.error);
    assert.is(peer.closed.length, 1);
    assert.not(peer.client.available);
  } finally {
    await peer.stop();
  }
});

test("client: a peer that does not answer PING is given up; one that does is kept", async () => {
  const silent: Server = createServer((socket) => {
    socket.on("error", () => {});
    // SETTINGS and nothing more.
    socket.write(Buffer.from("000000040000000000", "hex"));
    socket.resume();
  });
  await listening(silent);
  const peer = new Peer(echo);
  await peer.start({ interval: 20, timeout: 20_000 });
  const socket = createConnection(portOf(silent), "127.0.0.1");
  let failure: Http2Failure | undefined;
  const client = new Http2Client(socket, {
    clock,
    keepAliveInterval: 20,
    keepAliveTimeout: 50,
    onClose: (error) => {
      failure = error;
    },
  });
  try {
    await until(() => failure);
    assert.match(failure!.message, /no answer to PING/);
    assert.not(client.available);
    assert.ok(peer.client.available);
    assert.is((await peer.ask("/", Buffer.from("alive"))).body.toString(), "alive");
  } finally {
    client.destroy();
    await peer.stop();
    await new Promise<void>((resolve) => silent.close(() => resolve()));
  }
});

// ---- Node's client, our server ----

class OurServer {
  readonly net: Server;
  readonly connections: Http2Connection[] = [];
  readonly sockets = new Set<Socket>();
  session!: http2.ClientHttp2Session;
  failures: (Http2Failure | undefined)[] = [];

  constructor(handle: (connection: Http2Connection, stream: Http2Stream) => StreamHandler) {
    this.net = createServer((socket) => {
      this.sockets.add(socket);
      const connection = new Http2Connection(
        {
          write: (bytes) => socket.write(bytes),
          onStream: (stream) => handle(connection, stream),
          onEnd: (failure) => {
            this.failures.push(failure);
            socket.end();
          },
        },
        {
          side: "server",
          now: () => performance.now(),
          streamWindow: 65_535,
          connectionWindow: 200_000,
          maxStreams: 100,
        },
      );
      this.connections.push(connection);
      socket.on("data", (chunk: Buffer) => connection.receive(chunk));
      socket.on("error", () => {});
      socket.on("close", () => connection.abort(new Http2Failure("closed", ERROR.CONNECT_ERROR)));
    });
  }

  async start(settings: http2.Settings = {}): Promise<void> {
    await listening(this.net);
    this.session = http2.connect(`http://127.0.0.1:${portOf(this.net)}`, { settings });
    this.session.on("error", () => {});
  }

  ask(
    headers: http2.OutgoingHttpHeaders,
    body?: Buffer,
  ): Promise<{ status: unknown; body: Buffer; trailers: http2.IncomingHttpHeaders; code: number }> {
    return new Promise((resolve) => {
      const stream = this.session.request(headers, { endStream: body === undefined });
      const chunks: Buffer[] = [];
      let status: unknown;
      let trailers: http2.IncomingHttpHeaders = {};
      stream.on("response", (list) => {
        status = list[":status"];
      });
      stream.on("trailers", (list) => {
        trailers = list;
      });
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("error", () => {});
      stream.on("close", () =>
        resolve({ status, body: Buffer.concat(chunks), trailers, code: stream.rstCode ?? 0 }),
      );
      if (body) stream.end(body);
    });
  }

  async stop(): Promise<void> {
    this.session.destroy();
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.net.close(() => resolve()));
  }
}

/** Sends back what comes, with room given only as it leaves again. */
function echoStream(connection: Http2Connection, stream: Http2Stream): StreamHandler {
  let owed = 0;
  return {
    onHeaders: (_headers, end) => {
      connection.sendHeaders(stream, [[":status", "200"]], false);
      if (end) connection.sendHeaders(stream, [["x-sum", "empty"]], true);
    },
    onData: (chunk, end) => {
      owed += chunk.length;
      if (connection.sendData(stream, Buffer.from(chunk), false)) {
        connection.consume(stream, owed);
        owed = 0;
      }
      if (end) connection.sendHeaders(stream, [["x-sum", "done"]], true);
    },
    onDrain: () => {
      connection.consume(stream, owed);
      owed = 0;
    },
    onTrailers: (headers) => connection.sendHeaders(stream, headers, true),
    onClose: () => {},
  };
}

test("server: bodies beyond every window, many at once, with trailers", async () => {
  const server = new OurServer(echoStream);
  await server.start({ initialWindowSize: 10_000, headerTableSize: 256 });
  try {
    const bodies = Array.from({ length: 20 }, (_, i) => Buffer.alloc(i === 0 ? 3_000_000 : i * 7_000, i + 1));
    const answers = await Promise.all(
      bodies.map((body, i) =>
        server.ask({ ":method": "POST", ":path": `/${i}`, "x-big": "v".repeat(3_000) }, body),
      ),
    );
    answers.forEach((answer, i) => {
      assert.is(answer.status, 200);
      assert.ok(answer.body.equals(bodies[i]!), `body ${i}`);
      assert.is(answer.trailers["x-sum"], "done");
      assert.is(answer.code, 0);
    });
    assert.is((await server.ask({ ":path": "/" })).trailers["x-sum"], "empty");
    assert.is(server.connections.length, 1);
    assert.is(server.connections[0]!.active, 0);
  } finally {
    await server.stop();
  }
});

test("server: what nghttp2 sends malformed is reset, a cancelled request is heard of, PING is answered", async () => {
  let heard: Http2Failure | undefined;
  const server = new OurServer((connection, stream) => ({
    ...echoStream(connection, stream),
    onHeaders: () => {},
    onClose: (error) => {
      heard = error;
    },
  }));
  await server.start();
  try {
    assert.is((await server.ask({ ":path": "no-slash" })).code, ERROR.PROTOCOL_ERROR);
    const stream = server.session.request({ ":path": "/" });
    stream.on("error", () => {});
    await until(() => server.connections[0]!.active === 1);
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await until(() => heard?.code === ERROR.CANCEL);
    const payload = Buffer.from("12345678");
    const answered = await new Promise<Buffer>((resolve, reject) =>
      server.session.ping(payload, (error, _ms, back) => (error ? reject(error) : resolve(back))),
    );
    assert.ok(answered.equals(payload));
  } finally {
    await server.stop();
  }
});

test("server: goAway lets nghttp2's open request end and closes the connection", async () => {
  const server = new OurServer(echoStream);
  await server.start();
  try {
    const stream = server.session.request({ ":method": "POST", ":path": "/" });
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.write("a");
    await until(() => chunks.length === 1);
    let gone = false;
    server.session.on("goaway", () => {
      gone = true;
    });
    server.connections[0]!.goAway();
    await until(() => gone);
    stream.end("b");
    await until(() => server.failures.length === 1 && server.session.closed);
    assert.is(Buffer.concat(chunks).toString(), "ab");
    assert.is(server.failures[0], undefined);
  } finally {
    await server.stop();
  }
});

test.run();

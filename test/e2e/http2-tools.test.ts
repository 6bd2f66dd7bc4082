// The HTTP/2 machine against nghttp2's own tools, with the options by which they use the less used parts of the
// protocol: CONTINUATION, padding, tiny windows, no header table, trailers, early answers.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Http2Connection } from "../../src/http2/connection.ts";
import { ERROR } from "../../src/http2/frame.ts";
import type { Header } from "../../src/http2/hpack.ts";
import { Http2Failure, type Http2Stream, type StreamHandler } from "../../src/http2/stream.ts";
import { Http2Client } from "../../src/proxy/http2/client.ts";
import { systemClock } from "../../src/util/clock.ts";
import { freePort } from "../support/free-port.ts";
import { until } from "../support/until.ts";

const test = suite("the HTTP/2 machine and nghttp2's tools");
const run = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), "http2-tools-"));
const upload = join(directory, "upload");
const BODY = Buffer.from(Array.from({ length: 300_000 }, (_, i) => 0x20 + ((i * 7) % 90)));
const LONG = "v".repeat(9_000);

// ---- our server ----

/** Sends back what comes, trailers too, with room given as it leaves again. */
class Echo implements StreamHandler {
  readonly #connection: Http2Connection;
  readonly #stream: Http2Stream;
  #owed = 0;
  #answer: readonly Header[] | undefined;
  constructor(connection: Http2Connection, stream: Http2Stream) {
    this.#connection = connection;
    this.#stream = stream;
  }
  onHeaders(headers: readonly Header[], end: boolean): void {
    const long = headers.find(([name]) => name === "x-long");
    this.#answer = [[":status", "200"], ...(long ? [long] : [])];
    // Whoever waits for this sends no body once it has the final answer.
    if (!headers.some(([name]) => name === "expect")) this.#begin(end);
    else this.#connection.sendHeaders(this.#stream, [[":status", "100"]], false);
  }
  #begin(end: boolean): void {
    if (this.#answer) this.#connection.sendHeaders(this.#stream, this.#answer, end);
    this.#answer = undefined;
  }
  onData(chunk: Buffer, end: boolean): void {
    this.#begin(false);
    this.#owed += chunk.length;
    if (this.#connection.sendData(this.#stream, chunk, end)) this.onDrain();
  }
  onDrain(): void {
    this.#connection.consume(this.#stream, this.#owed);
    this.#owed = 0;
  }
  onTrailers(headers: readonly Header[]): void {
    this.#connection.sendHeaders(this.#stream, headers, true);
  }
  onClose(): void {}
}

const sockets = new Set<net.Socket>();
const failures: (Http2Failure | undefined)[] = [];
const server = net.createServer((socket) => {
  sockets.add(socket);
  const connection: Http2Connection = new Http2Connection(
    {
      write: (bytes) => {
        socket.write(bytes);
      },
      taken: () => socket.writableLength === 0,
      onStream: (stream) => new Echo(connection, stream),
      onEnd: (failure) => {
        if (failure?.code !== ERROR.CONNECT_ERROR) failures.push(failure);
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
  socket.on("data", (chunk) => connection.receive(chunk));
  socket.on("error", () => {});
  socket.on("close", () => connection.abort(new Http2Failure("closed", ERROR.CONNECT_ERROR)));
});
let url = "";

test.before(async () => {
  writeFileSync(upload, BODY);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}/`;
});

test.after(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

for (const options of [
  [],
  ["--continuation"],
  ["--padding=200"],
  ["--window-bits=6", "--connection-window-bits=30"],
  ["--header-table-size=0", "--encoder-header-table-size=0"],
  ["--trailer=x-sum: 1"],
  ["--no-content-length"],
  ["--expect-continue"],
  ["--no-dep"],
]) {
  test(`nghttp ${options.join(" ")}: a body goes there and back`, async () => {
    const args = [...options, "-H", `x-long: ${LONG}`, "-d", upload, url];
    const { stdout } = await run("nghttp", args, { maxBuffer: 1e7, timeout: 30_000 });
    assert.is(stdout, BODY.toString());
  });
}

test("nghttp: what we answer is understood, headers and trailers to the last", async () => {
  const args = ["-v", "-n", "-H", `x-long: ${LONG}`, "--trailer=x-sum: 1", "-d", upload, url];
  const { stdout } = await run("nghttp", args, { maxBuffer: 1e7, timeout: 30_000 });
  assert.ok(stdout.includes(`x-long: ${LONG}`));
  assert.match(stdout, /recv \(stream_id=\d+\) x-sum: 1/);
  assert.not.match(stdout, /invalid|protocol error/i);
});

test("h2load: many small requests and uploads on a few connections, none fails", async () => {
  for (const args of [
    ["-n", "20000", "-c", "4", "-m", "50", url],
    ["-n", "200", "-c", "4", "-m", "10", "-d", upload, url],
    ["-n", "200", "-c", "4", "-m", "10", "-w", "12", "-W", "13", "-d", upload, url],
  ]) {
    const { stdout } = await run("h2load", args, { timeout: 60_000 });
    assert.match(stdout, new RegExp(`${args[1]} succeeded, 0 failed, 0 errored`), args.join(" "));
  }
  assert.ok(failures.every((failure) => failure === undefined));
});

// ---- our client ----

interface Answer {
  headers: readonly Header[];
  body: Buffer;
  trailers: readonly Header[];
}

async function ask(client: Http2Client, path: string, body: Buffer): Promise<Answer> {
  await until(() => client.available);
  return new Promise((resolve, reject) => {
    const answer: Answer = { headers: [], body: Buffer.alloc(0), trailers: [] };
    const parts: Buffer[] = [];
    client.request(
      [
        [":method", body.length > 0 ? "POST" : "GET"],
        [":scheme", "http"],
        [":path", path],
        [":authority", "localhost"],
        ["x-long", LONG],
      ],
      body,
      {
        onHeaders: (headers) => {
          answer.headers = headers;
        },
        onData: (chunk) => parts.push(Buffer.from(chunk)),
        onTrailers: (trailers) => {
          answer.trailers = trailers;
        },
        onClose: (error) => {
          answer.body = Buffer.concat(parts);
          if (error) reject(error);
          else resolve(answer);
        },
      },
    );
  });
}

for (const options of [
  [],
  ["--padding=100"],
  ["--window-bits=7"],
  ["--connection-window-bits=20"],
  ["--header-table-size=0", "--encoder-header-table-size=0"],
  ["--max-concurrent-streams=2"],
  ["--trailer=x-sum: 1"],
]) {
  test(`nghttpd ${options.join(" ")}: bodies go there and back, files come`, async () => {
    const port = await freePort();
    const args = ["--no-tls", "-a", "127.0.0.1", "-d", directory, "--echo-upload", ...options, String(port)];
    const child: ChildProcess = spawn("nghttpd", args, { stdio: "ignore" });
    let client: Http2Client | undefined;
    try {
      const socket = await until(() => connected(port));
      client = new Http2Client(socket, {
        clock: systemClock,
        keepAliveInterval: 10_000,
        keepAliveTimeout: 10_000,
        onClose: () => {},
      });
      const asked = client;
      for (const answer of await Promise.all([1, 2].map(() => ask(asked, "/echo", BODY)))) {
        assert.equal(answer.headers[0], [":status", "200"]);
        assert.ok(answer.body.equals(BODY));
      }
      const file = await ask(asked, "/upload", Buffer.alloc(0));
      assert.ok(file.body.equals(BODY));
      if (options[0]?.startsWith("--trailer")) assert.equal(file.trailers, [["x-sum", "1"]]);
    } finally {
      client?.destroy();
      child.kill();
    }
  });
}

function connected(port: number): Promise<net.Socket | undefined> {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(socket)).once("error", () => resolve(undefined));
  });
}

test.run();

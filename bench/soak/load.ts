// The load of the soak: HTTP/1 and HTTP/2 requests of several sizes on kept connections, each answer checked to be the
// answer to its own request.
//
//   SOAK_LOAD='{"port":4140,"http1":24,"http2":4,"streams":6,"requests":1000000}' node load.mjs
//
// Writes a line of JSON each second, and one at the end: LoadReport.
import { connect, type Socket } from "node:net";
import type { Header } from "../../src/http2/hpack.ts";
import { Http2Client } from "../../src/proxy/http2/client.ts";
import { systemClock } from "../../src/util/clock.ts";
import type { Failure, FailureKind } from "./verdict.ts";

export interface LoadSettings {
  readonly port: number;
  /** HTTP/1 connections. */
  readonly http1: number;
  /** HTTP/2 connections, and requests at once on each. */
  readonly http2: number;
  readonly streams: number;
  readonly requests: number;
}

export interface LoadReport {
  /** Requests that were answered as they should, so far. */
  readonly answered: number;
  /** Those that were not since the last report. */
  readonly failures: readonly Failure[];
  readonly ended: boolean;
}

const settings: LoadSettings = JSON.parse(process.env["SOAK_LOAD"] ?? "{}");
/** Who waits longer for an answer has none, ms. */
const PATIENCE = 15_000;
/** Before a lane that failed goes on, ms. */
const PAUSE = 20;
/** Failures told in one report; further ones wait for the next. */
const MAX_TOLD = 1_000;

interface Work {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body: Buffer;
  /** Of the answer. */
  readonly size: number;
  readonly prefix: string;
}

const NOTHING = Buffer.alloc(0);
const ECHO = Buffer.alloc(2_000, 0x65);
/** Sizes of answers by the last two digits of the request's number: mostly small, some large. */
const SIZES: readonly (number | "echo")[] = [100, 100, 100, 100, 100, 100, 100, 10_000, 10_000, "echo"];
const LARGE = 200_000;

let begun = 0;
let answered = 0;
let failures: Failure[] = [];

/** undefined once all have been sent. */
function nextWork(): Work | undefined {
  if (begun >= settings.requests) return undefined;
  begun += 1;
  const id = begun;
  const kind = id % 100 === 0 ? LARGE : SIZES[id % 10]!;
  if (kind === "echo") {
    const prefix = `${id}:`;
    return { method: "POST", path: `/echo?id=${id}`, body: ECHO, size: prefix.length + ECHO.length, prefix };
  }
  return { method: "GET", path: `/bytes/${kind}?id=${id}`, body: NOTHING, size: kind, prefix: `${id}:` };
}

function fail(version: 1 | 2, { method }: Work, startedAt: number, kind: FailureKind, detail: string): void {
  failures.push({ version, method, startedAt, endedAt: Date.now(), kind, detail });
}

/** @returns whether an answer is that to `work`; notes the failure when it is not */
function check(
  version: 1 | 2,
  work: Work,
  startedAt: number,
  { status, error, body }: { status: number; error: string; body: Body },
): boolean {
  if (status !== 200) fail(version, work, startedAt, "status", `${status} ${error}`);
  else if (body.size !== work.size || !body.beginsWith(work.prefix))
    fail(version, work, startedAt, "wrong answer", `${body.size} bytes for ${work.path}`);
  else {
    answered += 1;
    return true;
  }
  return false;
}

/** The size of a body, and how it begins: all that is looked at. */
class Body {
  size = 0;
  #first = "";

  push(chunk: Buffer): void {
    if (this.#first.length < 16) this.#first += chunk.toString("latin1", 0, Math.min(16, chunk.length));
    this.size += chunk.length;
  }

  beginsWith(prefix: string): boolean {
    return this.#first.startsWith(prefix.slice(0, 16));
  }
}

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE));

// ---- HTTP/1 ----

const HEAD_END = Buffer.from("\r\n\r\n", "latin1");

/** One kept connection with one request at a time. */
class Http1Lane {
  #socket: Socket | undefined;
  #leaves = false;

  async run(): Promise<void> {
    for (let work = nextWork(); work; work = nextWork()) if (!(await this.#exchange(work))) await pause();
    this.#socket?.destroy();
  }

  /** @returns whether the request was answered as it should be */
  #exchange(work: Work): Promise<boolean> {
    const startedAt = Date.now();
    return new Promise((resolve) => {
      const socket = this.#connection();
      let head: Buffer | undefined = NOTHING;
      let status = 0;
      let error = "";
      let missing = 0;
      const body = new Body();
      const settle = (complete: boolean, kind: FailureKind = "closed", detail = "") => {
        clearTimeout(timer);
        socket.removeAllListeners("data").removeAllListeners("close");
        const well = complete && check(1, work, startedAt, { status, error, body });
        if (!complete) fail(1, work, startedAt, kind, detail);
        if (!complete || this.#leaves) {
          this.#socket = undefined;
          socket.destroy();
        }
        resolve(well);
      };
      const timer = setTimeout(() => settle(false, "timeout", work.path), PATIENCE);
      socket.on("close", () =>
        settle(false, "closed", status === 0 ? "before an answer" : "within an answer"),
      );
      socket.on("data", (chunk: Buffer) => {
        let rest = chunk;
        if (head) {
          head = Buffer.concat([head, chunk]);
          const end = head.indexOf(HEAD_END);
          if (end < 0) return;
          const text = head.toString("latin1", 0, end);
          rest = head.subarray(end + 4);
          head = undefined;
          status = Number(text.slice(9, 12));
          missing = Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? Number.NaN);
          error = /\r\nl5d-proxy-error: *(.*)/i.exec(text)?.[1] ?? "";
          this.#leaves = /\r\nconnection: *close/i.test(text);
          if (Number.isNaN(missing)) return settle(false, "wrong answer", "no content-length");
        }
        body.push(rest);
        missing -= rest.length;
        if (missing <= 0) settle(missing === 0, "wrong answer", "bytes behind the answer");
      });
      socket.write(requestBytes(work));
    });
  }

  #connection(): Socket {
    if (this.#socket && !this.#socket.destroyed) return this.#socket;
    const socket = connect(settings.port, "127.0.0.1");
    socket.setNoDelay(true);
    socket.on("error", () => {});
    this.#leaves = false;
    this.#socket = socket;
    return socket;
  }
}

/** Bodies go chunked and with their length in turn. */
function requestBytes({ method, path, body, prefix }: Work): Buffer {
  const head = `${method} ${path} HTTP/1.1\r\nHost: app.test\r\n`;
  if (method === "GET") return Buffer.from(`${head}\r\n`, "latin1");
  if (prefix.length % 2 === 0)
    return Buffer.concat([Buffer.from(`${head}Content-Length: ${body.length}\r\n\r\n`, "latin1"), body]);
  return Buffer.concat([
    Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n`, "latin1"),
    body,
    Buffer.from("\r\n0\r\n\r\n", "latin1"),
  ]);
}

// ---- HTTP/2 ----

/** One connection with several requests at once; another one when it ends. */
class Http2Connection {
  #client: Http2Client | undefined;
  #connecting: Promise<Http2Client> | undefined;

  async lane(): Promise<void> {
    for (let work = nextWork(); work; work = nextWork()) {
      const startedAt = Date.now();
      try {
        if (!(await this.#exchange(await this.#connected(), work, startedAt))) await pause();
      } catch (error) {
        fail(2, work, startedAt, "closed", String(error));
        await pause();
      }
    }
  }

  #connected(): Promise<Http2Client> {
    if (this.#client?.lasting) return Promise.resolve(this.#client);
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connect(): Promise<Http2Client> {
    const socket = connect(settings.port, "127.0.0.1");
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    socket.setNoDelay(true);
    this.#client = new Http2Client(socket, {
      clock: systemClock,
      keepAliveInterval: 10_000,
      keepAliveTimeout: 5_000,
      onClose: () => {},
    });
    return this.#client;
  }

  #exchange(client: Http2Client, work: Work, startedAt: number): Promise<boolean> {
    return new Promise((resolve) => {
      let status = 0;
      let error = "";
      const body = new Body();
      const timer = setTimeout(() => {
        fail(2, work, startedAt, "timeout", work.path);
        done = true;
        cancel();
        resolve(false);
      }, PATIENCE);
      let done = false;
      const cancel = client.request(headersOf(work), work.body, {
        onHeaders: (headers) => {
          status = Number(headers.find(([name]) => name === ":status")?.[1]);
          error = headers.find(([name]) => name === "l5d-proxy-error")?.[1] ?? "";
        },
        onData: (chunk) => body.push(chunk),
        onTrailers: () => {},
        onClose: (failure) => {
          clearTimeout(timer);
          if (done) return;
          if (failure) fail(2, work, startedAt, "closed", `${failure.message} (${failure.code})`);
          resolve(!failure && check(2, work, startedAt, { status, error, body }));
        },
      });
    });
  }
}

const headersOf = ({ method, path }: Work): Header[] => [
  [":method", method],
  [":scheme", "http"],
  [":path", path],
  [":authority", "app.test"],
];

// ---- all of it ----

function report(ended: boolean): void {
  const told = failures.slice(0, MAX_TOLD);
  failures = failures.slice(MAX_TOLD);
  const line: LoadReport = { answered, failures: told, ended };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const lanes: Promise<void>[] = [];
for (let i = 0; i < settings.http1; i += 1) lanes.push(new Http1Lane().run());
for (let i = 0; i < settings.http2; i += 1) {
  const connection = new Http2Connection();
  for (let j = 0; j < settings.streams; j += 1) lanes.push(connection.lane());
}
setInterval(() => report(false), 1_000);
await Promise.all(lanes);
while (failures.length > MAX_TOLD) report(false);
report(true);
process.stdout.write("", () => process.exit(0));

// What the HTTP/2 codec itself costs: requests through client → proxy → server in one process, over pipes in memory,
// with our machine and with node:http2. The pass is what the proxy's two machines add to client → server alone.
//
//   node --import tsx bench/http2-codec.ts [--requests 100000] [--only ours|node] [--case get|grpc|upload|download]
//
// CPU of this process per request, µs, best of several rounds: sockets, routing and metrics are not in it.
import * as http2 from "node:http2";
import { Duplex } from "node:stream";
import { parseArgs } from "node:util";
import { Http2Connection } from "../src/http2/connection.ts";
import type { Header } from "../src/http2/hpack.ts";
import type { Http2Failure, Http2Stream, StreamHandler } from "../src/http2/stream.ts";

const { values: flags } = parseArgs({
  options: {
    requests: { type: "string", default: "100000" },
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    case: { type: "string", default: "" },
  },
});
const CONNECTIONS = 8;
const STREAMS = 16;

interface Work {
  readonly name: string;
  readonly request: readonly Header[];
  readonly requestBody: number;
  readonly response: readonly Header[];
  readonly responseBody: number;
  readonly trailers: readonly Header[] | undefined;
  /** Share of `--requests` that is sent. */
  readonly share: number;
}

const GET: readonly Header[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/api/items"],
  [":authority", "web.default.svc.cluster.local:8080"],
  ["user-agent", "bench/1.0"],
  ["accept", "*/*"],
];
const ANSWER: readonly Header[] = [
  [":status", "200"],
  ["content-type", "application/json"],
  ["content-length", "25"],
  ["server", "bench"],
  ["cache-control", "no-cache"],
];
const CASES: readonly Work[] = [
  {
    name: "get",
    request: GET,
    requestBody: 0,
    response: ANSWER,
    responseBody: 25,
    trailers: undefined,
    share: 1,
  },
  {
    name: "grpc",
    request: [
      [":method", "POST"],
      [":scheme", "http"],
      [":path", "/shop.Catalog/Get"],
      [":authority", "catalog.shop.svc.cluster.local:8080"],
      ["te", "trailers"],
      ["content-type", "application/grpc"],
      ["user-agent", "grpc-node-js/1.14.7"],
      ["grpc-accept-encoding", "identity,deflate,gzip"],
    ],
    requestBody: 30,
    response: [
      [":status", "200"],
      ["content-type", "application/grpc"],
    ],
    responseBody: 60,
    trailers: [
      ["grpc-status", "0"],
      ["grpc-message", ""],
    ],
    share: 1,
  },
  {
    name: "upload",
    request: [[":method", "POST"], ...GET.slice(1)],
    requestBody: 1 << 20,
    response: ANSWER,
    responseBody: 25,
    trailers: undefined,
    share: 0.01,
  },
  {
    name: "download",
    request: GET,
    requestBody: 0,
    response: ANSWER.filter(([name]) => name !== "content-length"),
    responseBody: 1 << 20,
    trailers: undefined,
    share: 0.01,
  },
];

/** Runs so many requests through `links` chains. @returns when all are answered */
type Runner = (work: Work, hops: number, requests: number) => Promise<void>;

// ---- ours ----

/** Bytes under way, in the order in which they were written. */
let wire: { to: Http2Connection; bytes: Buffer }[] = [];

function deliver(): void {
  while (wire.length > 0) {
    const now = wire;
    wire = [];
    for (const { to, bytes } of now) {
      // As a socket would give it: no more than its buffer at once.
      if (bytes.length <= 65_536) to.receive(bytes);
      else
        for (let from = 0; from < bytes.length; from += 65_536)
          to.receive(bytes.subarray(from, from + 65_536));
    }
  }
}

const WINDOWS = { streamWindow: 1 << 20, connectionWindow: 1 << 24 };

function pair(onStream: (server: Http2Connection, stream: Http2Stream) => StreamHandler): Http2Connection {
  const ends: Http2Connection[] = [];
  const make = (side: "client" | "server"): Http2Connection => {
    const early: Buffer[] = [];
    const other = side === "client" ? 1 : 0;
    const connection = new Http2Connection(
      {
        write: (bytes) => {
          const to = ends[other];
          if (to) wire.push({ to, bytes });
          else early.push(bytes);
        },
        onStream: (stream) => onStream(connection, stream),
        onEnd: (failure) => {
          if (failure) throw failure;
        },
      },
      { side, now: () => performance.now(), ...WINDOWS, maxStreams: 1_000 },
    );
    ends.push(connection);
    earlier.push(() => {
      for (const bytes of early) wire.push({ to: ends[other]!, bytes });
    });
    return connection;
  };
  const earlier: (() => void)[] = [];
  const client = make("client");
  make("server");
  for (const write of earlier) write();
  deliver();
  return client;
}

/** Answers each request once it is complete. */
class Answering implements StreamHandler {
  readonly #connection: Http2Connection;
  readonly #stream: Http2Stream;
  readonly #work: Work;
  readonly #body: Buffer;
  constructor(connection: Http2Connection, stream: Http2Stream, work: Work, body: Buffer) {
    this.#connection = connection;
    this.#stream = stream;
    this.#work = work;
    this.#body = body;
  }
  onHeaders(_headers: readonly Header[], end: boolean): void {
    if (end) this.#answer();
  }
  onData(chunk: Buffer, end: boolean): void {
    this.#connection.consume(this.#stream, chunk.length);
    if (end) this.#answer();
  }
  onTrailers(): void {
    this.#answer();
  }
  onClose(): void {}
  #answer(): void {
    const { response, trailers } = this.#work;
    this.#connection.sendHeaders(this.#stream, response, false);
    this.#connection.sendData(this.#stream, this.#body, trailers === undefined);
    if (trailers) this.#connection.sendHeaders(this.#stream, trailers, true);
  }
}

/** One direction of a forwarded exchange: what comes here goes out there. */
class Forwarding implements StreamHandler {
  readonly #from: Http2Connection;
  readonly #to: Http2Connection;
  readonly #incoming: Http2Stream;
  #outgoing: Http2Stream | undefined;
  #owed = 0;
  other: Forwarding | undefined;
  constructor(from: Http2Connection, to: Http2Connection, incoming: Http2Stream, outgoing?: Http2Stream) {
    this.#from = from;
    this.#to = to;
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }
  onHeaders(headers: readonly Header[], end: boolean): void {
    if (this.#outgoing) this.#to.sendHeaders(this.#outgoing, headers, end);
    else {
      const back = new Back(this.#from, this.#to, this.#incoming, this);
      this.#outgoing = this.#to.open(headers, end, back);
      back.stream = this.#outgoing;
    }
  }
  onData(chunk: Buffer, end: boolean): void {
    if (this.#to.sendData(this.#outgoing!, chunk, end)) this.#from.consume(this.#incoming, chunk.length);
    else this.#owed += chunk.length;
  }
  onTrailers(headers: readonly Header[]): void {
    this.#to.sendHeaders(this.#outgoing!, headers, true);
  }
  /** What was sent here has found room there. */
  drained(): void {
    this.#from.consume(this.#incoming, this.#owed);
    this.#owed = 0;
  }
  onDrain(): void {
    this.other?.drained();
  }
  onClose(): void {}
}

/** The way back of a Forwarding. */
class Back implements StreamHandler {
  stream!: Http2Stream;
  readonly #server: Http2Connection;
  readonly #client: Http2Connection;
  readonly #asked: Http2Stream;
  readonly #there: Forwarding;
  #owed = 0;
  constructor(server: Http2Connection, client: Http2Connection, asked: Http2Stream, there: Forwarding) {
    this.#server = server;
    this.#client = client;
    this.#asked = asked;
    this.#there = there;
    there.other = { drained: () => this.drained() } as Forwarding;
  }
  onHeaders(headers: readonly Header[], end: boolean): void {
    this.#server.sendHeaders(this.#asked, headers, end);
  }
  onData(chunk: Buffer, end: boolean): void {
    if (this.#server.sendData(this.#asked, chunk, end)) this.#client.consume(this.stream, chunk.length);
    else this.#owed += chunk.length;
  }
  onTrailers(headers: readonly Header[]): void {
    this.#server.sendHeaders(this.#asked, headers, true);
  }
  onDrain(): void {
    this.#there.drained();
  }
  drained(): void {
    this.#client.consume(this.stream, this.#owed);
    this.#owed = 0;
  }
  onClose(): void {}
}

const ours: Runner = async (work, hops, requests) => {
  const body = Buffer.alloc(work.responseBody, 0x61);
  const upload = Buffer.alloc(work.requestBody, 0x62);
  const connections: Http2Connection[] = [];
  for (let i = 0; i < CONNECTIONS; i += 1) {
    const answering = (server: Http2Connection, stream: Http2Stream) =>
      new Answering(server, stream, work, body);
    if (hops === 0) connections.push(pair(answering));
    else {
      const back = pair(answering);
      connections.push(pair((server, stream) => new Forwarding(server, back, stream)));
    }
  }
  let left = requests;
  let open = 0;
  class Asking implements StreamHandler {
    stream!: Http2Stream;
    readonly #connection: Http2Connection;
    constructor(connection: Http2Connection) {
      this.#connection = connection;
    }
    onHeaders(): void {}
    onData(chunk: Buffer): void {
      this.#connection.consume(this.stream, chunk.length);
    }
    onTrailers(): void {}
    onClose(error: Http2Failure | undefined): void {
      if (error) throw error;
      open -= 1;
      if (left > 0) ask(this.#connection);
    }
  }
  const ask = (connection: Http2Connection): void => {
    left -= 1;
    open += 1;
    const handler = new Asking(connection);
    handler.stream = connection.open(work.request, work.requestBody === 0, handler);
    if (work.requestBody > 0) connection.sendData(handler.stream, upload, true);
  };
  for (const connection of connections) {
    connection.batch(() => {
      for (let i = 0; i < STREAMS; i += 1) ask(connection);
    });
  }
  deliver();
  if (open > 0) throw new Error(`${open} requests without an answer`);
};

// ---- node:http2 ----

class Pipe extends Duplex {
  other!: Pipe;
  #take: (() => void) | undefined;
  override _read(): void {
    const take = this.#take;
    this.#take = undefined;
    take?.();
  }
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.other.#give(chunk, done);
  }
  #give(chunk: Buffer, done: () => void): void {
    if (this.push(chunk)) setImmediate(done);
    else this.#take = done;
  }
}

function pipes(): [Pipe, Pipe] {
  const [a, b] = [new Pipe(), new Pipe()];
  a.other = b;
  b.other = a;
  return [a, b];
}

const node: Runner = async (work, hops, requests) => {
  const settings = { initialWindowSize: WINDOWS.streamWindow, maxConcurrentStreams: 1_000 };
  const objectOf = (headers: readonly Header[]) => Object.fromEntries(headers);
  const body = Buffer.alloc(work.responseBody, 0x61);
  const upload = Buffer.alloc(work.requestBody, 0x62);
  const response = objectOf(work.response);
  const request = objectOf(work.request);
  const sessions: http2.ClientHttp2Session[] = [];
  const all: http2.ClientHttp2Session[] = [];
  const link = (server: http2.Http2Server): http2.ClientHttp2Session => {
    const [a, b] = pipes();
    server.emit("connection", b);
    const session = http2.connect("http://bench", { createConnection: () => a, settings });
    session.setLocalWindowSize(WINDOWS.connectionWindow);
    all.push(session);
    return session;
  };
  const backend = http2.createServer({ settings });
  backend.on("stream", (stream) => {
    const answer = () => {
      stream.respond(response, { waitForTrailers: work.trailers !== undefined });
      if (work.trailers) stream.on("wantTrailers", () => stream.sendTrailers(objectOf(work.trailers!)));
      stream.end(body);
    };
    if (work.requestBody === 0) answer();
    else stream.on("end", answer).resume();
  });
  for (let i = 0; i < CONNECTIONS; i += 1) {
    if (hops === 0) sessions.push(link(backend));
    else {
      const back = link(backend);
      const proxy = http2.createServer({ settings });
      proxy.on("stream", (stream, headers) => {
        const out = back.request(headers, { endStream: work.requestBody === 0 });
        if (work.requestBody > 0) stream.pipe(out);
        let trailers: http2.IncomingHttpHeaders | undefined;
        out.on("response", (head) => {
          stream.respond(head, { waitForTrailers: work.trailers !== undefined });
          out.pipe(stream);
        });
        out.on("trailers", (list) => {
          trailers = list;
        });
        if (work.trailers) stream.on("wantTrailers", () => stream.sendTrailers(trailers ?? {}));
      });
      sessions.push(link(proxy));
    }
  }
  let left = requests;
  await new Promise<void>((resolve, reject) => {
    let open = 0;
    const ask = (session: http2.ClientHttp2Session): void => {
      left -= 1;
      open += 1;
      const stream = session.request(request, { endStream: work.requestBody === 0 });
      if (work.requestBody > 0) stream.end(upload);
      stream.on("error", reject);
      stream.resume();
      stream.on("close", () => {
        open -= 1;
        if (left > 0) ask(session);
        else if (open === 0) resolve();
      });
    };
    for (const session of sessions) for (let i = 0; i < STREAMS; i += 1) ask(session);
  });
  for (const session of all) session.destroy();
};

async function cost(run: Runner, work: Work, hops: number, requests: number): Promise<number> {
  await run(work, hops, Math.ceil(requests / 4));
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < Number(flags.rounds); round += 1) {
    const before = process.cpuUsage();
    await run(work, hops, requests);
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, (user + system) / requests);
  }
  return best;
}

process.stdout.write("| case | codec | direct, µs | through, µs | pass, µs |\n|---|---|---|---|---|\n");
for (const work of CASES) {
  if (flags.case && flags.case !== work.name) continue;
  for (const [name, run, part] of [
    ["ours", ours, 1],
    ["node:http2", node, 0.1],
  ] as const) {
    if (flags.only && !name.startsWith(flags.only)) continue;
    const requests = Math.max(CONNECTIONS * STREAMS, Math.ceil(Number(flags.requests) * work.share * part));
    const direct = await cost(run, work, 0, requests);
    const through = await cost(run, work, 1, requests);
    const figures = [direct, through, through - direct].map((us) => us.toFixed(2));
    process.stdout.write(`| ${work.name} | ${name} | ${figures.join(" | ")} |\n`);
  }
}

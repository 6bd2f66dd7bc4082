// The load of the chaos run, from within a meshed pod: HTTP/1, gRPC and TCP at fixed rates. Every request is counted;
// each one that failed is told as it happens, as a line of JSON, and the sums every second.
//
//   node load.mjs '{"seconds":600,"web":50,"rpc":40,"tcp":20}'
import * as http from "node:http";
import * as http2 from "node:http2";
import { connect } from "node:net";

const settings = JSON.parse(process.argv[2]);
/** Who waits longer for an answer has none, ms. */
const PATIENCE = 20_000;
const MAX_TOLD = 1_000;
const KINDS = ["web", "rpc", "tcp"];
const sums = Object.fromEntries(KINDS.map((kind) => [kind, { sent: 0, ok: 0, failed: 0 }]));
const waits = Object.fromEntries(KINDS.map((kind) => [kind, new Uint32Array(PATIENCE + 1_001)]));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
let begun = 0;
let open = 0;
let told = 0;

class Request {
  constructor(kind) {
    begun += 1;
    open += 1;
    sums[kind].sent += 1;
    this.kind = kind;
    this.id = begun;
    this.at = Date.now();
    this.ended = false;
  }

  end(outcome) {
    if (this.ended) return;
    this.ended = true;
    open -= 1;
    const took = Date.now() - this.at;
    const wait = waits[this.kind];
    wait[Math.min(took, wait.length - 1)] += 1;
    if (outcome === undefined) {
      sums[this.kind].ok += 1;
      return;
    }
    sums[this.kind].failed += 1;
    told += 1;
    if (told <= MAX_TOLD) say({ failure: { kind: this.kind, id: this.id, at: this.at, took, outcome } });
  }
}

const passport = (headers) =>
  JSON.stringify(Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith("l5d-"))));

const agent = new http.Agent({ keepAlive: true, maxSockets: 100 });

function web() {
  const it = new Request("web");
  const call = http.request(`http://web/?id=${it.id}`, { agent, timeout: PATIENCE }, (answer) => {
    let body = "";
    answer.on("data", (chunk) => (body += chunk));
    answer.on("error", (error) => it.end(`body: ${error.code ?? error.message}`));
    answer.on("end", () => {
      if (answer.statusCode !== 200)
        it.end(`${answer.statusCode} ${passport(answer.headers)} ${body.slice(0, 400)}`);
      else it.end(body.startsWith(`${it.id} `) ? undefined : `wrong answer: ${body.slice(0, 100)}`);
    });
  });
  call.on("timeout", () => call.destroy(new Error("timeout")));
  call.on("error", (error) => it.end(error.code ?? error.message));
  call.end();
}

let session;

function rpcSession() {
  if (session && !session.closed && !session.destroyed) return session;
  const opened = http2.connect("http://rpc");
  opened.on("error", () => {});
  // The next request opens another.
  opened.on("goaway", () => {
    if (session === opened) session = undefined;
    opened.close();
  });
  session = opened;
  return opened;
}

function rpc() {
  const it = new Request("rpc");
  const stream = rpcSession().request(
    {
      ":method": "POST",
      ":path": "/chaos.Rpc/Say",
      "content-type": "application/grpc",
      te: "trailers",
      "x-id": it.id,
    },
    { endStream: false },
  );
  let head;
  let trailers;
  const parts = [];
  stream.setTimeout(PATIENCE, () => {
    it.end("timeout");
    stream.close(http2.constants.NGHTTP2_CANCEL);
  });
  stream.on("response", (headers) => (head = headers));
  stream.on("trailers", (headers) => (trailers = headers));
  stream.on("data", (chunk) => parts.push(chunk));
  stream.on("error", (error) => it.end(`stream: ${error.code ?? ""} ${error.message}`));
  stream.on("close", () => {
    const text = Buffer.concat(parts).subarray(5).toString();
    const status = trailers?.["grpc-status"] ?? head?.["grpc-status"];
    if (head?.[":status"] === 200 && status === "0" && text.startsWith(`${it.id} `)) it.end();
    else
      it.end(
        `${head?.[":status"]} grpc-status ${status} ${head?.["grpc-message"] ?? trailers?.["grpc-message"] ?? ""} ${passport(head ?? {})} ${text.slice(0, 100)}`,
      );
  });
  const message = Buffer.alloc(5);
  stream.end(message);
}

/** A connection on which lines are to come back in order, until the server says BYE. */
class Line {
  #waiting = [];
  #leaving = false;
  #socket;

  constructor() {
    this.#open();
  }

  #open() {
    this.#leaving = false;
    const socket = connect(80, "tcp");
    this.#socket = socket;
    let rest = "";
    let why = "end";
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "BYE") {
          this.#leaving = true;
          continue;
        }
        const it = this.#waiting.shift();
        it?.end(line.startsWith(`${it.id} `) ? undefined : `out of order: ${line}`);
      }
      if (this.#leaving && this.#waiting.length === 0) socket.end();
    });
    socket.on("error", (error) => (why = error.code ?? error.message));
    socket.on("close", () => {
      if (this.#socket !== socket) return;
      for (const it of this.#waiting.splice(0)) it.end(`connection: ${why}`);
      // Cut with nothing under way: the next line would not have been answered.
      if (!this.#leaving) new Request("tcp").end(`connection without BYE: ${why}`);
      setTimeout(() => this.#open(), 50);
    });
  }

  send() {
    // Between two connections: the next tick sends it.
    if (this.#leaving || this.#socket.destroyed) return false;
    const it = new Request("tcp");
    this.#waiting.push(it);
    setTimeout(() => it.end("timeout"), PATIENCE);
    this.#socket.write(`${it.id}\n`);
    return true;
  }
}

const lines = [new Line(), new Line()];
let turn = 0;
const senders = {
  web,
  rpc,
  tcp() {
    turn += 1;
    for (let i = 0; i < lines.length; i += 1) if (lines[(turn + i) % lines.length].send()) return;
  },
};
const started = Date.now();
const sent = { web: 0, rpc: 0, tcp: 0 };

function percentiles(counts) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  const at = (share) => {
    let left = all * share;
    return counts.findIndex((count) => {
      left -= count;
      return left <= 0 && count > 0;
    });
  };
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: counts.findLastIndex((count) => count > 0) };
}

const ticker = setInterval(() => {
  const elapsed = (Date.now() - started) / 1_000;
  if (elapsed >= settings.seconds) {
    clearInterval(ticker);
    finish();
    return;
  }
  // As many as are due by now: a busy machine must not lower the rate.
  for (const kind of KINDS) for (; sent[kind] < elapsed * settings[kind]; sent[kind] += 1) senders[kind]();
}, 10);
const teller = setInterval(() => say({ sums }), 5_000);

function finish() {
  if (open > 0) {
    setTimeout(finish, 100);
    return;
  }
  clearInterval(teller);
  say({ sums });
  say({ ended: Object.fromEntries(KINDS.map((kind) => [kind, percentiles(waits[kind])])) });
}

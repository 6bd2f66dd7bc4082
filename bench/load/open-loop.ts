// HTTP/1 requests at a fixed rate, whether or not the ones before were answered. Latency counts from when a request
// was due, not from when it could be sent: a server that stands still is charged for everyone who would have come
// (coordinated omission). Raw sockets, one write a request, microseconds.
//
//   OPEN_LOOP='{"port":8080,"rate":1000,"connections":50,"seconds":10,"warmUp":1}' node open-loop.mjs
//
// Writes one line of JSON: OpenLoopResult. Node's timers know only milliseconds, so a thread of its own keeps time.
import { connect, type Socket } from "node:net";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { type Counts, Histogram } from "../histogram.ts";
import { ResponseFramer } from "./response-framer.ts";

export interface OpenLoopSettings {
  readonly port: number;
  /** Requests per second. */
  readonly rate: number;
  readonly connections: number;
  readonly seconds: number;
  /** Before counting begins, s. */
  readonly warmUp: number;
}

export interface OpenLoopResult {
  /** Requests that were due while it was counted. */
  readonly due: number;
  /** Of those, the ones without a whole answer of status 200. */
  readonly failed: number;
  /** Latencies of the answered, in microseconds. */
  readonly latency: Counts;
}

/** Milliseconds by a clock that all threads share. */
const now = (): number => Number(process.hrtime.bigint()) / 1e6;

/** How long answers are waited for after the last request was due, ms. */
const LAST_ANSWERS = 2_000;
const CONNECT_TIMEOUT = 10_000;
const REQUEST = Buffer.from("GET / HTTP/1.1\r\nHost: bench.test\r\n\r\n", "latin1");

/** Wakes the main thread whenever a request is due. */
function keepTime({ start, period }: { start: number; period: number }): void {
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (let due = start; ; due += period) {
    const wait = due - now();
    // Waiting on what nobody changes is sleeping, and precise to some 50 µs.
    if (wait > 0) Atomics.wait(never, 0, 0, wait);
    parentPort!.postMessage(0);
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #generator: Generator;
  readonly #framer = new ResponseFramer();
  /** When its request was due, ms; NaN while there is none. */
  #due = Number.NaN;

  constructor(socket: Socket, generator: Generator) {
    this.#socket = socket;
    this.#generator = generator;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("error", () => {});
    socket.on("close", () => this.#onClose());
  }

  send(due: number): void {
    this.#due = due;
    this.#socket.write(REQUEST);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #onData(chunk: Buffer): void {
    const answers = this.#framer.push(chunk);
    if (answers === 0) return;
    const due = this.#due;
    this.#due = Number.NaN;
    this.#generator.answered(this, due, answers === 1 && this.#framer.status === 200);
  }

  #onClose(): void {
    const due = this.#due;
    this.#due = Number.NaN;
    this.#generator.lost(due);
  }
}

class Generator {
  readonly #settings: OpenLoopSettings;
  readonly #histogram = new Histogram();
  /** The one that has rested longest goes first, so that all are used. */
  readonly #idle: Connection[] = [];
  readonly #all: Connection[] = [];
  /** When the requests were due that no connection was free for. */
  readonly #overdue: number[] = [];
  #next = 0;
  #countFrom = 0;
  #end = 0;
  #due = 0;
  #failed = 0;
  #answered = 0;
  #whenDone: (() => void) | undefined;

  constructor(settings: OpenLoopSettings) {
    this.#settings = settings;
  }

  async run(): Promise<OpenLoopResult> {
    const { connections, rate, seconds, warmUp } = this.#settings;
    for (let i = 0; i < connections; i += 1) {
      const connection = new Connection(await this.#connect(), this);
      this.#all.push(connection);
      this.#idle.push(connection);
    }
    const start = now() + 20;
    this.#next = start;
    this.#countFrom = start + warmUp * 1_000;
    this.#end = this.#countFrom + seconds * 1_000;
    const metronome = new Worker(new URL(import.meta.url), { workerData: { start, period: 1_000 / rate } });
    metronome.on("message", () => this.#send());
    const patience = setTimeout(() => this.#whenDone?.(), this.#end + LAST_ANSWERS - now());
    await new Promise<void>((resolve) => {
      this.#whenDone = resolve;
    });
    clearTimeout(patience);
    await metronome.terminate();
    for (const connection of this.#all) connection.destroy();
    return {
      due: this.#due,
      // Who was not answered at all has failed too.
      failed: Math.max(this.#failed, this.#due - this.#answered),
      latency: this.#histogram.counts(),
    };
  }

  #connect(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#settings.port, "127.0.0.1");
      socket.setTimeout(CONNECT_TIMEOUT, () => socket.destroy(new Error("no connection in time")));
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.setTimeout(0);
        socket.off("error", reject);
        resolve(socket);
      });
    });
  }

  /** Sends all that is due by now. */
  #send(): void {
    const time = now();
    for (; this.#next <= time && this.#next < this.#end; this.#next += 1_000 / this.#settings.rate) {
      if (this.#next >= this.#countFrom) this.#due += 1;
      const connection = this.#idle.shift();
      if (connection) connection.send(this.#next);
      else this.#overdue.push(this.#next);
    }
    this.#finish();
  }

  answered(connection: Connection, due: number, ok: boolean): void {
    if (due >= this.#countFrom) {
      if (ok) {
        this.#answered += 1;
        this.#histogram.record((now() - due) * 1_000);
      } else this.#failed += 1;
    }
    const next = this.#overdue.shift();
    if (next === undefined) this.#idle.push(connection);
    else connection.send(next);
    this.#finish();
  }

  lost(due: number): void {
    if (due >= this.#countFrom) this.#failed += 1;
    this.#finish();
  }

  #finish(): void {
    if (this.#next >= this.#end && this.#answered + this.#failed >= this.#due) this.#whenDone?.();
  }
}

if (isMainThread) {
  const settings: OpenLoopSettings = JSON.parse(process.env["OPEN_LOOP"] ?? "{}");
  const result = await new Generator(settings).run();
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
} else keepTime(workerData);

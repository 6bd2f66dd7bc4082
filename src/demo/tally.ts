// The store behind voting: counts by name over a line protocol on raw TCP, so that the demo has traffic that is
// not HTTP. A client opens with `tally/1 NAME`, then sends `INCR KEY`, `GET KEY` or `ALL`, one a line; each
// gets one line back.

import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";
import type { Running } from "./http.ts";

const GREETING = "tally/1";
/** Longest line of the protocol, bytes. */
const MAX_LINE = 4_096;
/** Most keys kept. */
const MAX_KEYS = 1_000;
const KEY = /^[a-z0-9-]{1,64}$/;

export function startTally(port: number): Promise<Running> {
  const counts = new Map<string, number>();
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.setNoDelay(true);
    let greeted = false;
    onLines(socket, (line) => {
      if (greeted) {
        socket.write(`${answerLine(counts, line)}\n`);
      } else if (line.startsWith(`${GREETING} `)) {
        greeted = true;
        socket.write(`${GREETING} ready\n`);
      } else {
        socket.end(`error expected ${GREETING} NAME\n`);
      }
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => open.delete(socket));
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, () =>
      resolve({
        port: (server.address() as AddressInfo).port,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            for (const socket of open) socket.end();
          }),
      }),
    );
  });
}

function answerLine(counts: Map<string, number>, line: string): string {
  const [verb, key = ""] = line.split(" ");
  if (verb === "ALL") return JSON.stringify(Object.fromEntries(counts));
  if (!KEY.test(key)) return "error a key is 1 to 64 of a-z, 0-9 and -";
  if (verb === "GET") return String(counts.get(key) ?? 0);
  if (verb !== "INCR") return "error expected INCR, GET or ALL";
  if (!counts.has(key) && counts.size >= MAX_KEYS) return "error too many keys";
  const count = (counts.get(key) ?? 0) + 1;
  counts.set(key, count);
  return String(count);
}

/** Calls `line` for each line that arrives; a line that is too long ends the connection. */
function onLines(socket: Socket, line: (text: string) => void): void {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (chunk: string) => {
    rest += chunk;
    let end = rest.indexOf("\n");
    while (end >= 0) {
      line(rest.slice(0, end).replace(/\r$/, ""));
      rest = rest.slice(end + 1);
      end = rest.indexOf("\n");
    }
    if (rest.length > MAX_LINE) socket.destroy();
  });
}

interface Waiting {
  readonly resolve: (answer: string) => void;
  readonly reject: (error: Error) => void;
}

/** One lasting connection to the store; opened at the first call and again after it broke. */
export class TallyClient {
  readonly #host: string;
  readonly #port: number;
  readonly #name: string;
  #socket: Socket | undefined;
  #waiting: Waiting[] = [];

  /** @param address `host:port` */
  constructor(address: string, name: string) {
    const colon = address.lastIndexOf(":");
    this.#host = address.slice(0, colon);
    this.#port = Number(address.slice(colon + 1));
    this.#name = name;
  }

  async increment(key: string): Promise<number> {
    return Number(await this.#ask(`INCR ${key}`));
  }

  async all(): Promise<Record<string, number>> {
    return JSON.parse(await this.#ask("ALL")) as Record<string, number>;
  }

  close(): void {
    this.#socket?.destroy();
  }

  #ask(line: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = this.#open();
      this.#waiting.push({ resolve, reject });
      socket.write(`${line}\n`);
    });
  }

  #open(): Socket {
    if (this.#socket) return this.#socket;
    const socket = connect({ host: this.#host, port: this.#port, noDelay: true });
    const waiting: Waiting[] = [{ resolve: () => {}, reject: () => {} }];
    this.#socket = socket;
    this.#waiting = waiting;
    socket.write(`${GREETING} ${this.#name}\n`);
    onLines(socket, (line) => {
      const next = waiting.shift();
      if (line.startsWith("error ")) next?.reject(new Error(`tally: ${line.slice(6)}`));
      else next?.resolve(line);
    });
    const fail = (error: Error) => {
      if (this.#socket === socket) this.#socket = undefined;
      for (const { reject } of waiting.splice(0)) reject(error);
    };
    socket.on("error", (error) => fail(new Error(`tally: ${error.message}`)));
    socket.on("close", () => fail(new Error("tally: the connection was closed")));
    return socket;
  }
}

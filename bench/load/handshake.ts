// New mTLS connections, one after the other on a few lanes: handshake, a request, its answer, end.
//
//   HANDSHAKE='{"port":8443,"name":"server.name","key":"…","chain":"…","anchors":"…","resume":true,"seconds":4,"lanes":8}'
//
// Writes one line of JSON: HandshakeResult.
import { readFileSync } from "node:fs";
import { connect, createSecureContext } from "node:tls";
import { ResponseFramer } from "./response-framer.ts";

export interface HandshakeSettings {
  readonly port: number;
  /** SNI; whether the certificate fits it is not looked at. */
  readonly name: string;
  /** PEM files. */
  readonly key: string;
  readonly chain: string;
  readonly anchors: string;
  /** Each lane shows the last ticket that it was given. */
  readonly resume: boolean;
  readonly seconds: number;
  readonly lanes: number;
}

export interface HandshakeResult {
  readonly connections: number;
  /** Of those, how many were resumed. */
  readonly resumed: number;
  readonly failed: number;
  readonly seconds: number;
}

const settings: HandshakeSettings = JSON.parse(process.env["HANDSHAKE"] ?? "{}");
const secureContext = createSecureContext({
  key: readFileSync(settings.key),
  cert: readFileSync(settings.chain),
  ca: readFileSync(settings.anchors),
  minVersion: "TLSv1.3",
});
const REQUEST = "GET / HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n";
const started = performance.now();
const deadline = started + settings.seconds * 1_000;
let connections = 0;
let resumed = 0;
let failed = 0;

/** @returns the ticket for the next connection */
function once(session: Buffer | undefined): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const framer = new ResponseFramer();
    let ticket = session;
    let answered = false;
    const socket = connect({
      port: settings.port,
      host: "127.0.0.1",
      servername: settings.name,
      secureContext,
      checkServerIdentity: () => undefined,
      ...(session ? { session } : {}),
    });
    socket.on("session", (latest) => {
      ticket = latest;
    });
    socket.on("secureConnect", () => socket.write(REQUEST));
    socket.on("data", (chunk) => {
      if (framer.push(chunk) === 0) return;
      answered = framer.status === 200;
      if (answered && socket.isSessionReused()) resumed += 1;
      socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      if (answered) connections += 1;
      else failed += 1;
      resolve(ticket);
    });
  });
}

async function lane(): Promise<void> {
  let session: Buffer | undefined;
  while (performance.now() < deadline) {
    const ticket = await once(session);
    if (settings.resume) session = ticket;
  }
}

await Promise.all(Array.from({ length: settings.lanes }, lane));
const seconds = (performance.now() - started) / 1_000;
const result: HandshakeResult = { connections, resumed, failed, seconds };
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));

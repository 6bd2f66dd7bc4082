// What most would write: a proxy on node:http and node:https, streams piped. The pair that PERFORMANCE compares with.
//
//   NAIVE='{"side":"client","listen":1,"target":2,"name":"…","key":"…","chain":"…","anchors":"…"}' node naive.mjs
import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";

interface Settings {
  readonly side: "client" | "server";
  readonly listen: number;
  readonly target: number;
  /** The server's name in its certificate. */
  readonly name: string;
  /** PEM files. */
  readonly key: string;
  readonly chain: string;
  readonly anchors: string;
}

const settings: Settings = JSON.parse(process.env["NAIVE"] ?? "{}");
const tls = {
  key: readFileSync(settings.key),
  cert: readFileSync(settings.chain),
  ca: readFileSync(settings.anchors),
  minVersion: "TLSv1.3",
} as const;
const isClient = settings.side === "client";
const agent = isClient
  ? new https.Agent({ keepAlive: true, ...tls, servername: settings.name })
  : new http.Agent({ keepAlive: true });

function pass(request: http.IncomingMessage, response: http.ServerResponse): void {
  const { method, url, headers } = request;
  const options = { host: "127.0.0.1", port: settings.target, method, path: url, headers, agent };
  const upstream = (isClient ? https : http).request(options as https.RequestOptions, (answer) => {
    response.writeHead(answer.statusCode!, answer.headers);
    answer.pipe(response);
  });
  upstream.on("error", () => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502).end();
  });
  request.pipe(upstream);
}

const server = isClient
  ? http.createServer(pass)
  : https.createServer({ ...tls, requestCert: true, rejectUnauthorized: true }, pass);
server.keepAliveTimeout = 120_000;
server.listen(settings.listen, "127.0.0.1");
process.on("SIGINT", () => process.exit(0));

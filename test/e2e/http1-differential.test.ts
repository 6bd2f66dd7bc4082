// The same bytes to our HTTP/1 parser and to Node's, nginx's and HAProxy's: no request that we accept may be read
// otherwise by one of them, or requests could be smuggled past the proxy's policy. Each input comes from an address
// of its own, by which all of them tell the recorder behind whom they heard.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as http from "node:http";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Registry } from "../../src/metrics/registry.ts";
import type { Exchange, Service, Upstream } from "../../src/proxy/http/exchange.ts";
import { ServerConnection } from "../../src/proxy/http1/server-connection.ts";
import { Families, TcpSeries } from "../../src/proxy/telemetry/series.ts";
import { systemClock } from "../../src/util/clock.ts";
import { freePort } from "../support/free-port.ts";
import { http1Inputs, mutate, seeded } from "../support/http1-inputs.ts";
import { until } from "../support/until.ts";

const test = suite("HTTP/1 read as others read it");

/** Mutations of known inputs, beside the inputs themselves; another seed finds others. */
const MUTATIONS = Number(process.env["DIFFERENTIAL_MUTATIONS"] ?? 1_500);
const SEED = Number(process.env["DIFFERENTIAL_SEED"] ?? 1);
const CONCURRENCY = 64;
/** An input is done when nothing was answered for so long, ms. */
const QUIET = 150;

interface Reading {
  readonly method: string;
  readonly target: string;
  body: string;
  /** The body came to its end. */
  whole: boolean;
}

type Readings = Map<string, Reading[]>;

/** `127.a.b.c` for input n; the whole net is loopback. */
const addressOf = (n: number) =>
  `127.${1 + Math.floor(n / 62_500)}.${Math.floor(n / 250) % 250}.${1 + (n % 250)}`;

const add = (readings: Readings, client: string, reading: Reading): Reading => {
  const list = readings.get(client) ?? [];
  readings.set(client, [...list, reading]);
  return reading;
};

/** Targets as one form: parties differ in what they hand on of an absolute one. */
const pathOf = (target: string) => target.replace(/^https?:\/\/[^/?#]*/i, "").replace(/^(?=$|\?)/, "/");

/** Records requests as Node reads them. */
async function recorder(clientOf: (request: http.IncomingMessage) => string) {
  const readings: Readings = new Map();
  const server = http.createServer({ requestTimeout: 0, headersTimeout: 0 }, (request, response) => {
    const reading = add(readings, clientOf(request), {
      method: request.method!,
      target: pathOf(request.url!),
      body: "",
      whole: false,
    });
    request.on("data", (chunk: Buffer) => {
      reading.body += chunk.toString("latin1");
    });
    request.on("end", () => {
      reading.whole = true;
      response.end("ok");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { readings, server, port: (server.address() as net.AddressInfo).port };
}

/** Our accepting side, with a service that only writes down what it is asked. */
async function ours() {
  const readings: Readings = new Map();
  const refused = new Set<string>();
  const families = new Families(new Registry(), "inbound", systemClock);
  const route = { began: () => {}, measured: () => {}, release: () => {} };
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    const client = socket.remoteAddress!;
    socket.on("error", () => {});
    const service: Service = {
      added: [],
      watch: undefined,
      context: {
        direction: "inbound",
        client: { ip: client, port: 0, identity: undefined },
        target: { ip: "127.0.0.1", port: 0 },
        sourceLabels: {},
      },
      trusted: true,
      marksFailures: false,
      draining: false,
      dispatch: (exchange: Exchange) => {
        const { method, path, authority } = exchange.request;
        const target = method === "CONNECT" ? authority : pathOf(path);
        const reading = add(readings, client, { method, target, body: "", whole: false });
        exchange.send(new Recording(reading), route);
      },
      abandon: () => {},
      affordsRetry: () => false,
      failed: () => refused.add(client),
    };
    new ServerConnection(socket, service, {
      clock: systemClock,
      tcp: new TcpSeries(families, {}),
      onClose: () => {},
    }).start(Buffer.alloc(0));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { readings, refused, server, port: (server.address() as net.AddressInfo).port };
}

class Recording implements Upstream {
  readonly connected = true;
  readonly reused = false;
  readonly progress = 0;
  readonly #reading: Reading;
  #handler: Parameters<Upstream["attach"]>[0] | undefined;

  constructor(reading: Reading) {
    this.#reading = reading;
  }
  attach(handler: Parameters<Upstream["attach"]>[0]): void {
    this.#handler = handler;
  }
  request(_head: unknown, _edits: unknown, end: boolean): void {
    if (end) this.end();
  }
  write(bytes: Buffer): boolean {
    this.#reading.body += bytes.toString("latin1");
    return true;
  }
  end(): void {
    this.#reading.whole = true;
    // Later, as from any real server.
    setImmediate(() => {
      const head = { status: 200, contentLength: 0, get: () => undefined, fields: () => [] };
      this.#handler?.onResponse(this, { ...head, fields: () => [["content-length", "0"]] });
      this.#handler?.onEnd(this, undefined);
    });
  }
  pause(): void {}
  resume(): void {}
  cancel(): void {
    this.#handler = undefined;
  }
}

/** Sends one input from its address, until all is answered that will be. */
function feed(port: number, n: number, input: string): Promise<void> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: "127.0.0.1", localAddress: addressOf(n) });
    let timer: NodeJS.Timeout | undefined;
    const done = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve();
    };
    const quiet = () => {
      clearTimeout(timer);
      timer = setTimeout(done, QUIET);
    };
    socket.on("connect", () => socket.write(Buffer.from(input, "latin1")));
    socket.on("data", quiet);
    socket.on("error", () => {});
    socket.on("close", done);
    quiet();
  });
}

async function feedAll(port: number, inputs: readonly string[]): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < inputs.length) {
      const n = next;
      next += 1;
      await feed(port, n, inputs[n]!);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
}

async function listening(port: number): Promise<void> {
  await until(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = net.connect(port, "127.0.0.1", () => resolve(true));
        socket.on("error", () => resolve(false));
        socket.on("connect", () => socket.destroy());
      }),
    10_000,
    `a server on port ${port}`,
  );
}

/**
 * What they read beyond what we read. They may answer a request by themselves, with an error, and go on behind it;
 * what they make of bytes that we refused they never see through us.
 */
function difference(
  mine: readonly Reading[],
  theirs: readonly Reading[],
  refused: boolean,
): string | undefined {
  let next = 0;
  for (const b of theirs) {
    let at = next;
    while (at < mine.length && (mine[at]!.method !== b.method || mine[at]!.target !== b.target)) at += 1;
    const a = mine[at];
    if (!a) {
      const through = refused && mine.every(({ whole }) => whole);
      return through ? undefined : `they read ${b.method} ${b.target}, we did not`;
    }
    next = at + 1;
    if (b.whole && !a.whole) return `the body of ${b.target} goes on for us and has ended for them`;
    if (a.whole && b.whole && a.body !== b.body)
      return `the body of ${b.target}: we read ${JSON.stringify(a.body)}, they read ${JSON.stringify(b.body)}`;
  }
  return undefined;
}

test("no request that we accept is read otherwise by Node, nginx or HAProxy", async () => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-differential-"));
  const children: ChildProcess[] = [];
  const servers: { server: net.Server }[] = [];
  try {
    const random = seeded(SEED);
    const known = http1Inputs();
    const inputs = [...known];
    for (let i = 0; i < MUTATIONS; i += 1)
      inputs.push(mutate(known[Math.floor(random() * known.length)]!, random));

    const mine = await ours();
    const node = await recorder((request) => request.socket.remoteAddress!);
    const behindNginx = await recorder((request) => String(request.headers["x-client"]));
    const behindHaproxy = await recorder((request) => String(request.headers["x-client"]));
    servers.push(mine, node, behindNginx, behindHaproxy);

    const [nginxPort, haproxyPort] = [await freePort(), await freePort()];
    writeFileSync(
      join(directory, "nginx.conf"),
      `daemon off; master_process off; pid ${directory}/nginx.pid; error_log ${directory}/error.log;
       events { worker_connections 2048; }
       http { access_log off; client_body_temp_path ${directory}; proxy_temp_path ${directory};
         fastcgi_temp_path ${directory}; uwsgi_temp_path ${directory}; scgi_temp_path ${directory};
         server { listen 127.0.0.1:${nginxPort}; merge_slashes off;
           location / { proxy_pass http://127.0.0.1:${behindNginx.port}; proxy_http_version 1.1;
             proxy_request_buffering off; proxy_set_header x-client $remote_addr; } } }`,
    );
    writeFileSync(
      join(directory, "haproxy.cfg"),
      `defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\nlisten p\n  bind 127.0.0.1:${haproxyPort}\n  http-request set-header x-client %[src]\n  server s 127.0.0.1:${behindHaproxy.port}\n`,
    );
    children.push(
      spawn("nginx", ["-c", join(directory, "nginx.conf"), "-e", join(directory, "error.log")], {
        stdio: "inherit",
      }),
      spawn("haproxy", ["-db", "-q", "-f", join(directory, "haproxy.cfg")], { stdio: "inherit" }),
    );
    await Promise.all([listening(nginxPort), listening(haproxyPort)]);

    const others = [
      { name: "Node", port: node.port, readings: node.readings },
      { name: "nginx", port: nginxPort, readings: behindNginx.readings },
      { name: "HAProxy", port: haproxyPort, readings: behindHaproxy.readings },
    ];
    await Promise.all([mine, ...others].map(({ port }) => feedAll(port, inputs)));

    let accepted = 0;
    const differences: string[] = [];
    inputs.forEach((input, n) => {
      const read = mine.readings.get(addressOf(n)) ?? [];
      if (read.length > 0) accepted += 1;
      for (const { name, readings } of others) {
        const found = difference(read, readings.get(addressOf(n)) ?? [], mine.refused.has(addressOf(n)));
        if (found) differences.push(`${name}, ${JSON.stringify(input)}: ${found}`);
      }
    });
    process.stdout.write(
      `${inputs.length} inputs (seed ${SEED}), ${accepted} with a request that we accept, ${differences.length} differences\n`,
    );
    assert.ok(accepted > known.length / 20, "the inputs hold requests that are in order");
    for (const { name, readings } of others)
      assert.ok(readings.size > known.length / 20, `${name} was asked`);
    assert.is(differences.join("\n"), "", `seed ${SEED}`);
  } finally {
    for (const child of children) child.kill("SIGKILL");
    for (const { server } of servers) {
      (server as http.Server).closeAllConnections?.();
      server.close();
    }
    rmSync(directory, { recursive: true, force: true });
  }
});

test.run();

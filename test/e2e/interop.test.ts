// Other people's clients and servers at both ends of a meshed pair: curl, nghttp, h2load and a browser; nghttpd,
// nginx and Node. Mesh TLS between the two proxies.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as http from "node:http";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { WebSocketServer } from "ws";
import { freePort } from "../support/free-port.ts";
import { createAuthority, startInbound, startOutbound } from "../support/proxy-fakes.ts";
import { until } from "../support/until.ts";

const run = promisify(execFile);
const test = suite("interop");
const NAME = "web.ns.serviceaccount.identity.test";
const authority = createAuthority();
const directory = mkdtempSync(join(tmpdir(), "mesh-interop-"));
const undo: (() => unknown)[] = [];
const BODY = "hello from behind the mesh\n".repeat(4_000);

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

function start(command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
  undo.push(() => child.kill("SIGKILL"));
  return child;
}

/** The port of a meshed pair before the application on `port`. */
async function meshed(port: number): Promise<number> {
  const inbound = await startInbound({ ip: "127.0.0.1", port }, { identity: authority.identity(NAME) });
  const outbound = await startOutbound(
    { ip: "127.0.0.1", port: 80 },
    { identity: authority.identity("client.test") },
  );
  undo.push(
    () => inbound.path.close(),
    () => outbound.path.close(),
  );
  outbound.discovery.service("127.0.0.1:80", "web.ns.svc.cluster.local", [
    { port: inbound.port, identity: NAME, h2: true },
  ]);
  return outbound.port;
}

async function nginx(): Promise<number> {
  const port = await freePort();
  const conf = join(directory, "nginx.conf");
  writeFileSync(
    conf,
    `daemon off; master_process off; pid ${directory}/nginx.pid; error_log ${directory}/error.log;
     events {} http { access_log off; default_type text/plain; client_body_temp_path ${directory};
       proxy_temp_path ${directory}; fastcgi_temp_path ${directory}; uwsgi_temp_path ${directory};
       scgi_temp_path ${directory};
       server { listen 127.0.0.1:${port}; root ${directory}/www; } }`,
  );
  start("nginx", ["-c", conf, "-e", join(directory, "error.log")]);
  await listening(port);
  return port;
}

async function nghttpd(): Promise<number> {
  const port = await freePort();
  start("nghttpd", ["--no-tls", "-a", "127.0.0.1", "-d", join(directory, "www"), String(port)]);
  await listening(port);
  return port;
}

async function node(): Promise<number> {
  const server = http.createServer((request, response) => {
    if (request.method === "POST") request.pipe(response);
    else response.end(BODY);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  undo.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as net.AddressInfo).port;
}

test.before(async () => {
  await run("mkdir", ["-p", join(directory, "www")]);
  writeFileSync(join(directory, "www", "file.txt"), BODY);
  writeFileSync(join(directory, "upload"), BODY);
});

test.after(async () => {
  for (const fn of undo.reverse()) await fn();
  rmSync(directory, { recursive: true, force: true });
});

for (const [name, serve] of [
  ["nginx", nginx],
  ["Node", node],
] as const) {
  test(`curl over HTTP/1 to ${name}`, async () => {
    const port = await meshed(await serve());
    const url = `http://127.0.0.1:${port}/file.txt`;
    const { stdout } = await run("curl", ["-sS", "--fail", url, url, url], { maxBuffer: 1e7 });
    assert.is(stdout, BODY.repeat(3));
    const head = await run("curl", ["-sS", "-I", "--http1.0", url]);
    assert.match(head.stdout, /^HTTP\/1\.[01] 200/);
  });
}

test("curl uploads by length, in chunks, and waiting for 100 Continue", async () => {
  const port = await meshed(await node());
  const url = `http://127.0.0.1:${port}/`;
  const upload = `@${join(directory, "upload")}`;
  for (const header of ["Expect:", "Expect: 100-continue", "Transfer-Encoding: chunked"]) {
    const { stdout } = await run("curl", ["-sS", "--fail", "-H", header, "--data-binary", upload, url], {
      maxBuffer: 1e7,
    });
    assert.is(stdout, BODY, header);
  }
});

test("nghttp, h2load and curl over HTTP/2 to nghttpd", async () => {
  const port = await meshed(await nghttpd());
  const url = `http://127.0.0.1:${port}/file.txt`;
  assert.is((await run("nghttp", [url], { maxBuffer: 1e7 })).stdout, BODY);
  // One URL: Debian 12's curl fails on the second of a prior-knowledge connection whoever serves it.
  const curl = await run("curl", ["-sS", "--http2-prior-knowledge", url], { maxBuffer: 1e7 });
  assert.is(curl.stdout, BODY);
  const load = await run("h2load", ["-n", "500", "-c", "5", "-m", "20", url]);
  assert.match(load.stdout, /500 succeeded, 0 failed, 0 errored/);
});

test("a browser's WebSocket through two proxies", async () => {
  let told: string | undefined;
  const server = http.createServer((request, response) => {
    if (request.url!.startsWith("/done?")) told = decodeURIComponent(request.url!.slice(6));
    response.setHeader("content-type", "text/html");
    response.end(`<title>WebSocket</title><script>
      const socket = new WebSocket("ws://" + location.host + "/socket");
      const tell = (text) => fetch("/done?" + encodeURIComponent(text));
      const seen = [];
      socket.onopen = () => socket.send("one");
      socket.onmessage = ({ data }) => {
        seen.push(data);
        if (seen.length === 1) socket.send("x".repeat(100000));
        else tell(seen[0] + ", then " + seen[1].length);
      };
      socket.onerror = () => tell("failed");
    </script>`);
  });
  const sockets = new WebSocketServer({ server, path: "/socket" });
  sockets.on("connection", (socket) => {
    socket.on("message", (data) => socket.send(`echo ${data}`));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  undo.push(() => {
    sockets.close();
    server.close();
    server.closeAllConnections();
  });
  const port = await meshed((server.address() as net.AddressInfo).port);
  const browser = spawn(
    "chromium",
    [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--remote-debugging-port=0",
      `--user-data-dir=${join(directory, "profile")}`,
      `http://127.0.0.1:${port}/`,
    ],
    { stdio: "ignore", detached: true, env: { ...process.env, HOME: directory } },
  );
  // Its whole group: a browser is many processes.
  undo.push(() => process.kill(-browser.pid!, "SIGKILL"));
  await until(() => told !== undefined, 30_000, "the page's word");
  assert.is(told, "echo one, then 100005");
});

test.run();

// Waiting for a proxy that becomes ready, and telling it of a command's end.
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { main } from "../../src/proxy-await/main.ts";
import { freePort } from "../support/free-port.ts";

const test = suite("proxy-await");
const node = (script: string) => ["--", process.execPath, "-e", script];

async function withProxy<T>(answer: RequestListener, body: (port: number) => Promise<T>): Promise<T> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await body((server.address() as AddressInfo).port);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

async function run(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const said: string[] = [];
  return { code: await main(args, env, (line) => said.push(line)), said: said.join("\n") };
}

test("it ends when the proxy is ready, not before", async () => {
  let asked = 0;
  const { code } = await withProxy(
    (request, response) => {
      assert.is(`${request.method} ${request.url}`, "GET /ready");
      asked += 1;
      response.writeHead(asked < 4 ? 503 : 200).end();
    },
    (port) => run([`--port=${port}`, "--backoff=5ms"]),
  );
  assert.is(code, 0);
  assert.is(asked, 4);
});

test("a proxy that is not ready in time is told with what it answered", async () => {
  const unready = await withProxy(
    (_request, response) => void response.writeHead(503).end(),
    (port) => run([`-p`, `${port}`, "-t", "1s", "-b", "5ms", ...node("process.exit(3)")]),
  );
  assert.is(unready.code, 69);
  assert.match(unready.said, "not ready after 1000 ms: GET /ready answered 503");
  const absent = await run([`--port=${await freePort()}`, "--timeout=20ms", "--backoff=5ms"]);
  assert.is(absent.code, 69);
  assert.match(absent.said, "ECONNREFUSED");
  const silent = await withProxy(
    () => {},
    (port) => run([`--port=${port}`, "--timeout=50ms"]),
  );
  assert.is(silent.code, 69);
});

test("the command's exit code is its own, and its end is told to the proxy", async () => {
  const calls: string[] = [];
  const { code, said } = await withProxy(
    (request, response) => {
      calls.push(`${request.method} ${request.url}`);
      response.end();
    },
    (port) => run(["-S", `--port=${port}`, ...node("process.exit(7)")]),
  );
  assert.is(code, 7);
  assert.is(said, "");
  assert.equal(calls, ["GET /ready", "POST /shutdown"]);
});

test("a proxy that may not be told to end changes nothing about the command's result", async () => {
  const { code, said } = await withProxy(
    (request, response) => void response.writeHead(request.method === "POST" ? 404 : 200).end(),
    (port) => run(["--shutdown", `--port=${port}`, ...node("")]),
  );
  assert.is(code, 0);
  assert.match(said, "proxy-admin-shutdown: enabled");
});

test("a command that is killed ends as a shell tells it; one that is not there is an error", async () => {
  await withProxy(
    (_request, response) => void response.end(),
    async (port) => {
      const killed = await run([`--port=${port}`, ...node("process.kill(process.pid, 'SIGKILL')")]);
      assert.is(killed.code, 137);
      const missing = await run([`--port=${port}`, "--", "/no/such/program"]);
      assert.is(missing.code, 71);
      assert.match(missing.said, "cannot run /no/such/program");
    },
  );
});

test("without a mesh it can be told not to wait", async () => {
  for (const name of ["LINKERD_DISABLED", "LINKERD_AWAIT_DISABLED"]) {
    const { code, said } = await run(["-S", "--port=1", ...node("process.exit(4)")], { [name]: "local run" });
    assert.is(code, 4);
    assert.match(said, `${name} is set (local run)`);
  }
});

test("wrong flags are named", async () => {
  for (const [args, message] of [
    [["--port=none"], "--port: expected a port"],
    [["--timeout=soon"], "--timeout: expected a duration"],
    [["-S"], "--shutdown: expected a command"],
    [["stray"], "stray"],
  ] as const) {
    const { code, said } = await run(args);
    assert.is(code, 64);
    assert.match(said, message);
  }
});

test.run();

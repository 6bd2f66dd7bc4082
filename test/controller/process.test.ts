// A controller's process: its admin port, and what it says when it cannot run.
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { listenAdmin } from "../../src/controller/admin.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { packageRoot } from "../../src/util/package-root.ts";

const test = suite("controller process");

test("the admin port tells life, readiness and metrics", async () => {
  const registry = new Registry();
  registry.counter("things_total", "Things.").labels().inc(3);
  let ready = false;
  const server = await listenAdmin({ port: 0, host: "127.0.0.1", registry, ready: () => ready });
  const { port } = server.address() as AddressInfo;
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: "close" } });
    return `${response.status} ${(await response.text()).trim()}`;
  };
  try {
    assert.is(await get("/live"), "200 live");
    assert.is(await get("/ready"), "503 not ready");
    ready = true;
    assert.is(await get("/ready?verbose"), "200 ready");
    assert.match(await get("/metrics"), /^200 .*things_total 3/s);
    assert.match(await get("/other"), /^404/);
  } finally {
    server.close();
    await once(server, "close");
  }
});

for (const name of ["identity", "destination", "policy", "proxy-injector"]) {
  test(`${name} outside a cluster says so and ends`, () => {
    const { KUBERNETES_SERVICE_HOST: _host, ...env } = process.env;
    const entry = join(packageRoot(), `src/entry/${name}.ts`);
    const result = spawnSync(process.execPath, ["--import", "tsx", entry], { env, encoding: "utf8" });
    assert.is(result.status, 1);
    assert.is(result.stderr, `${name}: not running in a pod: KUBERNETES_SERVICE_HOST is not set\n`);
  });
}

test.run();

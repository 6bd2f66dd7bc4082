// When Service rules are written, without a kernel.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../../src/log/logger.ts";
import type { Cluster, EventType, KubeObject } from "../../../src/sandbox/cluster.ts";
import { ServiceProxy } from "../../../src/sandbox/network/service-proxy.ts";
import { ManualClock } from "../../support/clock.ts";

const test = suite("service proxy");

type Handler = (type: EventType, object: KubeObject) => void;

function scenario(run: (tool: string, rules: string) => string | undefined) {
  const clock = new ManualClock();
  const handlers = new Map<string, Handler>();
  const cluster = {
    watch(_group: string, resource: string, handler: Handler) {
      handlers.set(resource, handler);
      return () => handlers.delete(resource);
    },
  } as unknown as Cluster;
  const runs: { at: number; tool: string; rules: string }[] = [];
  const proxy = new ServiceProxy({
    cluster,
    clock,
    log: createLogger({ level: "off" }),
    async run(tool, _args, rules = "") {
      const failure = run(tool, rules);
      if (failure) throw new Error(failure);
      if (!rules.includes("KUBE-PROBE")) runs.push({ at: clock.now(), tool, rules });
      return "";
    },
  });
  return {
    proxy,
    runs,
    service(name: string, ip: string) {
      const spec = { clusterIP: ip, ports: [{ port: 80 }] };
      handlers.get("services")!("ADDED", { metadata: { name, namespace: "shop" }, spec });
    },
    advance: (ms: number) => clock.advance(ms),
  };
}

test("many changes share a transaction, at most one in 100 ms; what changes nothing runs nothing", async () => {
  const s = scenario(() => undefined);
  await s.proxy.start();
  assert.is(s.runs.length, 1);
  assert.match(s.runs[0]!.rules, "-A PREROUTING -j KUBE-SERVICES");
  for (let i = 0; i < 30; i++) {
    s.service(`s${i}`, `10.96.1.${i}`);
    await s.advance(10);
  }
  await s.advance(500);
  assert.ok(s.runs.length > 2 && s.runs.length <= 5, String(s.runs.length));
  s.runs.reduce((before, run) => {
    assert.ok(run.at - before.at >= 100, `${before.at} then ${run.at}`);
    return run;
  });
  assert.not.match(s.runs.at(-1)!.rules, "PREROUTING");
  assert.match(s.runs.at(-1)!.rules, "shop/s29");
  const count = s.runs.length;
  s.service("s29", "10.96.1.29");
  await s.advance(500);
  assert.is(s.runs.length, count);
  await s.proxy.stop();
});

test("the first back end that works is used; a failed transaction is tried again", async () => {
  let broken = true;
  const s = scenario((tool, rules) => {
    if (tool === "iptables-nft-restore") return "Could not fetch rule set generation id";
    return broken && rules.includes("shop/web") ? "Resource temporarily unavailable" : undefined;
  });
  await s.proxy.start();
  s.service("web", "10.96.1.1");
  await s.advance(300);
  assert.is(s.runs.length, 1);
  broken = false;
  await s.advance(2_000);
  assert.is(s.runs.at(-1)!.tool, "iptables-legacy-restore");
  assert.match(s.runs.at(-1)!.rules, "shop/web has no endpoints");
  await s.proxy.stop();
});

test("without any iptables the start fails and says why", async () => {
  const s = scenario(() => "iptables-nft-restore is not installed");
  try {
    await s.proxy.start();
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, "is not installed");
  }
});

test.run();

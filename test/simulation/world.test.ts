// The simulated world tells its rules the truth about who spoke.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { KubeObject } from "../../src/kube/types.ts";
import { COLLECTION, PORT } from "./cluster.ts";
import { THEMES } from "./themes.ts";
import { World } from "./world.ts";

const test = suite("simulated world");

test("a proxy that hears the last words of a lost replica takes them for nobody else's", async () => {
  const world = new World({ seed: THEMES.indexOf("authorization"), verbose: false, mutation: undefined });
  await world.scheduler.run(8_000);
  const proxy = [...world.proxies.values()].find(({ heard }) => heard.policy)!;
  const last = world.replicas.get(proxy.heard.policy!.replica)!;
  const { now } = world.scheduler;
  const { namespace } = proxy.pod.metadata;
  world.network.cut(proxy.name, last.name);
  world.api.put(COLLECTION.servers, {
    metadata: { namespace, name: "oldest", creationTimestamp: "2020-01-01T00:00:00Z" },
    spec: { podSelector: {}, port: PORT, proxyProtocol: "opaque" },
  } as KubeObject);
  await world.scheduler.run(1_000);
  world.loseReplica(last, true);
  world.network.mend(proxy.name, last.name);
  await world.scheduler.run(1_000);
  assert.is(proxy.heard.policy?.replica, last.name);
  assert.ok(proxy.heard.policy!.madeAt > now);
});

test.run();

// Policy against an API server: kinds that come and go, and statuses among other writers.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { policyKinds } from "../../../src/controller/policy/kinds.ts";
import { StatusWriter } from "../../../src/controller/policy/status-writer.ts";
import { ServedKinds } from "../../../src/controller/served-kinds.ts";
import { definitionOf, kindOf } from "../../../src/crds/index.ts";
import { KubeClient, Reflector } from "../../../src/kube/index.ts";
import type { KubeObject } from "../../../src/kube/types.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { type Harness, startHarness } from "../../sandbox/apiserver/harness.ts";
import { hurried } from "../../support/clock.ts";
import { POLICY_FACTS, PolicyCluster, policyObject } from "../../support/policy-cluster.ts";
import { until } from "../../support/until.ts";

const test = suite("policy at an API server");

const GATEWAY = "gateway.networking.k8s.io";
const POLICY = "policy.linkerd.io";
const clock = hurried(20);

class Rig {
  readonly api: Harness;
  readonly client: KubeClient;
  readonly cluster = new PolicyCluster();
  readonly writer: StatusWriter;
  readonly kinds: ServedKinds;
  /** Bodies of patches, before they are sent. */
  onPatch: (() => Promise<void>) | undefined;

  static async start(): Promise<Rig> {
    const api = await startHarness();
    await api.call("POST", "/api/v1/namespaces", { body: { metadata: { name: "emoji" } } });
    return new Rig(api);
  }

  private constructor(api: Harness) {
    this.api = api;
    this.client = new KubeClient(api.config());
    const log = createLogger({ level: "off" });
    this.writer = new StatusWriter({
      store: this.cluster.index.store,
      clusterNetworks: ["10.0.0.0/8"],
      defaultOpaquePorts: POLICY_FACTS.defaultOpaquePorts,
      leadership: { isLeader: true, onChange: () => () => {} },
      patch: async (path, body) => {
        const before = this.onPatch;
        this.onPatch = undefined;
        await before?.();
        return this.client.request(path, {
          method: "PATCH",
          body,
          query: { fieldManager: "mesh-policy-controller" },
          contentType: "application/merge-patch+json",
        });
      },
      tell: async () => true,
      clock,
      log,
      registry: new Registry(),
    });
    this.kinds = new ServedKinds({
      client: this.client,
      kinds: policyKinds(this.cluster.index, this.writer),
      reflector: (options) => new Reflector(this.client, { clock, ...options }),
      clock,
      log,
      interval: 1_000,
    }).start();
  }

  async define(group: string, kind: string): Promise<void> {
    const definition = definitionOf(kindOf(group, kind)!, {});
    const { status } = await this.api.call(
      "POST",
      "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
      {
        body: definition as never,
      },
    );
    assert.is(status, 201);
  }

  path({ apiVersion, kind }: KubeObject): string {
    return `/apis/${apiVersion}/namespaces/emoji/${kind!.toLowerCase()}s`;
  }

  async create(object: KubeObject): Promise<void> {
    const { apiVersion, kind, spec } = object as KubeObject & { spec: object };
    const body = { apiVersion, kind, metadata: { name: object.metadata.name, namespace: "emoji" }, spec };
    // A definition that was made just now may not be served yet.
    await until(
      async () => (await this.api.call("POST", this.path(object), { body })).status === 201,
      5_000,
      "the object",
    );
  }

  async stop(): Promise<void> {
    this.writer.stop();
    this.kinds.stop();
    this.client.close();
    await this.api.close();
  }
}

const rigged = (name: string, run: (rig: Rig) => Promise<void>) =>
  test(name, async () => {
    const rig = await Rig.start();
    try {
      await run(rig);
    } finally {
      await rig.stop();
    }
  });

const server = policyObject(`${POLICY}/v1beta3`, "Server", "web", { spec: { podSelector: {}, port: 8080 } });
const route = policyObject(`${GATEWAY}/v1`, "HTTPRoute", "one", {
  spec: { parentRefs: [{ group: POLICY, kind: "Server", name: "web" }] },
});

rigged(
  "kinds that nobody serves do not keep us waiting; they are followed when they come, and forgotten when they go",
  async (rig) => {
    await rig.kinds.synced;
    assert.is(rig.kinds.isSynced, true);
    assert.is(rig.kinds.versionOf(POLICY, "servers"), undefined);
    await rig.define(POLICY, "Server");
    await until(() => rig.kinds.versionOf(POLICY, "servers") === "v1beta3", 5_000, "the kind");
    await rig.create(server);
    await until(() => rig.cluster.index.store.servers.size === 1, 5_000, "the Server");
    await rig.define(GATEWAY, "HTTPRoute");
    await rig.create(route);
    await until(() => rig.cluster.index.store.routes.size === 1, 5_000, "the route");
    assert.is(rig.kinds.versionOf(GATEWAY, "httproutes"), "v1");
    await rig.api.call("DELETE", `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/servers.${POLICY}`);
    await until(() => rig.kinds.versionOf(POLICY, "servers") === undefined, 5_000, "the end of the kind");
    assert.is(rig.cluster.index.store.servers.size, 0);
    assert.is(rig.cluster.index.store.routes.size, 1);
  },
);

rigged("a status is written beside that of another controller who writes at the same time", async (rig) => {
  await rig.define(GATEWAY, "HTTPRoute");
  await rig.define(POLICY, "Server");
  await rig.create(server);
  const path = `${rig.path(route)}/one`;
  const theirs = {
    parentRef: { group: GATEWAY, kind: "Gateway", name: "edge" },
    controllerName: "example.com/gateway",
    conditions: [
      {
        type: "Accepted",
        status: "True",
        reason: "Accepted",
        message: "",
        lastTransitionTime: "2026-01-01T00:00:00Z",
      },
    ],
  };
  let interfered = false;
  rig.onPatch = async () => {
    const { status } = await rig.api.call("PATCH", `${path}/status`, {
      body: { status: { parents: [theirs] } },
      headers: { "content-type": "application/merge-patch+json" },
    });
    interfered = status === 200;
  };
  await rig.create(route);
  interface Written {
    status?: { parents: { controllerName: string; conditions: { type: string; status: string }[] }[] };
  }
  const object = await until(
    async () => {
      const { body } = await rig.api.call("GET", path);
      const parents = (body as Written).status?.parents ?? [];
      return parents.length === 2 ? (body as Written & KubeObject) : undefined;
    },
    10_000,
    "both parents",
  );
  assert.ok(interfered);
  assert.equal(
    object.status!.parents.map(
      ({ controllerName, conditions }) => `${controllerName} ${conditions[0]!.status}`,
    ),
    ["example.com/gateway True", "linkerd.io/policy-controller True"],
  );
  const managers = (
    object.metadata as unknown as { managedFields: { manager: string; subresource?: string }[] }
  ).managedFields;
  assert.ok(
    managers.some(
      ({ manager, subresource }) => manager === "mesh-policy-controller" && subresource === "status",
    ),
  );
});

test.run();

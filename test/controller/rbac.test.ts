// Every call that the controllers' code makes, made under exactly the roles that an installation renders, against an API
// server that enforces them. A call without a grant fails the test, a grant without a call does, and so does a call that is
// in the code and that nothing here drives.
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Certify } from "../../src/api/identity.ts";
import { main as destination } from "../../src/controller/destination/main.ts";
import { main as identity } from "../../src/controller/identity/main.ts";
import { main as metricsApi } from "../../src/controller/metrics-api/main.ts";
import { main as policy } from "../../src/controller/policy/main.ts";
import { type Controller, createController } from "../../src/controller/process.ts";
import { main as proxyInjector } from "../../src/controller/proxy-injector/main.ts";
import { definitionOf, KINDS } from "../../src/crds/index.ts";
import { applyAll } from "../../src/kube/apply.ts";
import { KubeClient } from "../../src/kube/client.ts";
import type { EndpointSlice, KubeObject } from "../../src/kube/types.ts";
import { createLogger } from "../../src/log/logger.ts";
import {
  COMPONENTS,
  controlPlane,
  createIdentityCredentials,
  createWebhookCredentials,
  INJECTOR_WEBHOOK_NAMES,
  type Manifest,
  readValues,
  VALIDATOR_WEBHOOK_NAMES,
} from "../../src/manifests/index.ts";
import { Registry } from "../../src/metrics/registry.ts";
import { createCsr, generateKey } from "../../src/pki/index.ts";
import { Authorizer, type ResourceAttributes } from "../../src/sandbox/apiserver/auth/rbac.ts";
import { bootstrap } from "../../src/sandbox/apiserver/bootstrap.ts";
import { packageRoot } from "../../src/util/package-root.ts";
import { type Harness, startHarness } from "../sandbox/apiserver/harness.ts";
import { freePort } from "../support/free-port.ts";
import { TestGrpcClient } from "../support/grpc-client.ts";
import { until } from "../support/until.ts";

type Key = keyof typeof COMPONENTS;
const MAINS: Readonly<Record<Key, typeof identity>> = {
  identity,
  destination,
  policy,
  proxyInjector,
  metricsApi,
};
const NAMESPACE = "mesh-system";
const now = Date.now();
const DAY = 86_400_000;

interface Call {
  readonly account: string;
  readonly attributes: ResourceAttributes;
  readonly allowed: boolean;
}

/** What each ServiceAccount asked of the API server, as the server itself understood it. */
function recordCalls(): { calls: Call[]; stop(): void } {
  const calls: Call[] = [];
  const { require: original } = Authorizer.prototype;
  Authorizer.prototype.require = function (user, attributes) {
    const account = /^system:serviceaccount:mesh-system:(.+)$/.exec(user.name)?.[1];
    let allowed = false;
    try {
      original.call(this, user, attributes);
      allowed = true;
    } finally {
      if (account && !("path" in attributes)) calls.push({ account, attributes, allowed });
    }
  };
  return {
    calls,
    stop() {
      Authorizer.prototype.require = original;
    },
  };
}

interface Grant {
  readonly account: string;
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly name: string | undefined;
  /** undefined: in every namespace, and what has none. */
  readonly namespace: string | undefined;
}

/** Each single thing that the rendered roles allow. */
function grantsOf(objects: readonly Manifest[]): Grant[] {
  const grants: Grant[] = [];
  for (const binding of objects.filter(({ kind }) => kind?.endsWith("RoleBinding"))) {
    const { roleRef, subjects } = binding as unknown as {
      roleRef: { kind: string; name: string };
      subjects: { name: string }[];
    };
    const { namespace } = binding.metadata;
    const role = objects.find(
      ({ kind, metadata }) =>
        kind === roleRef.kind && metadata.name === roleRef.name && metadata.namespace === namespace,
    ) as unknown as {
      rules: { apiGroups: string[]; resources: string[]; verbs: string[]; resourceNames?: string[] }[];
    };
    for (const { name: account } of subjects)
      for (const { apiGroups, resources, verbs, resourceNames = [undefined] } of role.rules)
        for (const group of apiGroups)
          for (const resource of resources)
            for (const verb of verbs)
              for (const name of resourceNames)
                grants.push({ account, verb, group, resource, name, namespace });
  }
  return grants;
}

const isUse =
  ({ account, verb, group, resource, name, namespace }: Grant) =>
  (call: Call): boolean => {
    const { attributes: asked } = call;
    const whole = asked.subresource ? `${asked.resource}/${asked.subresource}` : asked.resource;
    return (
      call.account === account &&
      asked.verb === verb &&
      asked.group === group &&
      whole === resource &&
      (name === undefined || asked.name === name) &&
      (namespace === undefined || asked.namespace === namespace)
    );
  };

/** Where controllers call the API server, as `file:line`, from the source. */
function callSites(): string[] {
  const root = packageRoot();
  const files = [
    ...readdirSync(join(root, "src/controller"), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => join("src/controller", file)),
    "src/kube/lease.ts",
  ];
  const call =
    /\b(client|fenced)\b\)?\??\.(request|get|list|create|replace|patch|apply|delete|watch)\b\s*[<(]/;
  return files.flatMap((file) =>
    readFileSync(join(root, file), "utf8")
      .split("\n")
      .flatMap((line, index) =>
        call.test(line) && !/^\s*(\/\/|\*)/.test(line) ? [`${file}:${index + 1}`] : [],
      ),
  );
}

/** Which of them are reached: each request's stack names its caller. */
function recordSites(): { sites: Set<string>; stop(): void } {
  const sites = new Set<string>();
  const root = packageRoot();
  const { request: original } = KubeClient.prototype;
  KubeClient.prototype.request = function (...args) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 30;
    for (const match of (new Error().stack ?? "").matchAll(/\(?((?:file:\/\/)?\/[^():]+\.ts):(\d+):\d+\)?/g))
      sites.add(`${relative(root, match[1]!.replace("file://", ""))}:${match[2]}`);
    Error.stackTraceLimit = limit;
    return original.apply(this, args);
  };
  return {
    sites,
    stop() {
      KubeClient.prototype.request = original;
    },
  };
}

interface World {
  readonly api: Harness;
  readonly client: KubeClient;
  readonly controllers: Map<Key, Controller>;
  readonly directory: string;
  token(account: string, namespace?: string, audience?: string): Promise<string>;
  create(object: object, path: string): Promise<KubeObject>;
}

const values = readValues({ identityTrustAnchorsPEM: "", controllerLogLevel: "error" });
const credentials = createIdentityCredentials({ namespace: NAMESPACE, trustDomain: "cluster.local" }, now);
/** Due at once, so that they are renewed here. */
const due = ({ service }: { service: string }) =>
  createWebhookCredentials(service, NAMESPACE, now - 90 * DAY, 100 * DAY);
const old = {
  proxyInjector: due(INJECTOR_WEBHOOK_NAMES),
  policyValidator: due(VALIDATOR_WEBHOOK_NAMES),
};
const rendered = controlPlane({
  values: { ...values, identityTrustAnchorsPEM: credentials.trustAnchors },
  identity: credentials,
  webhooks: old,
});

async function withWorld(run: (world: World) => Promise<void>): Promise<void> {
  const api = await startHarness();
  await bootstrap(api.cluster);
  const client = new KubeClient(api.config());
  const directory = await mkdtemp(join(tmpdir(), "mesh-rbac-"));
  const controllers = new Map<Key, Controller>();
  const clients: KubeClient[] = [client];
  const token: World["token"] = async (account, namespace = NAMESPACE, audience) => {
    const { body } = await api.call(
      "POST",
      `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`,
      {
        body: {
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenRequest",
          spec: { audiences: audience ? [audience] : [], expirationSeconds: 3600 },
        },
      },
    );
    return body.status.token;
  };
  const file = async (name: string, text: string) => {
    const path = join(directory, name);
    await writeFile(path, text);
    return path;
  };
  try {
    await applyAll(
      client,
      KINDS.map((kind) => definitionOf(kind, {})),
    );
    // Not the Deployments' pods, which nobody runs here; the webhook's Service has no endpoints, and is not asked.
    await applyAll(client, rendered);
    const env = {
      MESH_NAMESPACE: NAMESPACE,
      MESH_ISSUER_DIR: directory,
      MESH_TRUST_ROOTS_FILE: await file("roots.pem", credentials.trustAnchors),
      MESH_CONFIG_FILE: await file("values", JSON.stringify(values)),
      MESH_WEBHOOK_CERTIFICATE_LIFETIME: "30s",
    };
    await file("crt.pem", credentials.issuerCertificate);
    await file("key.pem", credentials.issuerKey);
    // Any certificate will do for the port: nobody asks who it is.
    await file("tls.crt", old.proxyInjector.certificate);
    await file("tls.key", old.proxyInjector.key);
    for (const key of Object.keys(MAINS) as Key[]) {
      const account = await token(COMPONENTS[key].workload);
      const own = new KubeClient(api.config(account));
      clients.push(own);
      const controller = createController({
        env: { ...env, MESH_TLS_DIR: directory, MESH_WEBHOOK_PORT: String(await freePort()) },
        log: createLogger({ level: "off" }),
        client: own,
        registry: new Registry(),
        port: await freePort(),
      });
      controllers.set(key, controller);
      await MAINS[key](async (_name, _ports, setUp) => setUp(controller));
      controller.started();
    }
    await run({
      api,
      client,
      controllers,
      directory,
      token,
      create: (object, path) => client.create(object as KubeObject, path),
    });
  } finally {
    await Promise.all([...controllers.values()].map((controller) => controller.stop()));
    for (const each of clients) each.close();
    await api.close();
    await rm(directory, { recursive: true });
  }
}

/** A proxy asks for its certificate, and the issuer is replaced by another. */
async function driveIdentity({ client, controllers, directory, token, create }: World): Promise<void> {
  await create({ metadata: { name: "web" } }, "/api/v1/namespaces/shop/serviceaccounts");
  const grpc = new TestGrpcClient(controllers.get("identity")!.port);
  const name = `web.shop.serviceaccount.identity.${NAMESPACE}.cluster.local`;
  const call = grpc.call(Certify, {
    identity: name,
    token: Buffer.from(await token("web", "shop", "identity.l5d.io")),
    certificateSigningRequest: createCsr({ key: generateKey(), dnsName: name }),
  });
  await call.message(0);
  grpc.close();
  // Refused, since its key is another's: an event tells it.
  await writeFile(join(directory, "key.pem"), old.proxyInjector.key);
  await until(
    async () =>
      (await client.list(`/api/v1/namespaces/${NAMESPACE}/events`)).items.some(
        (event) => (event as unknown as { reason: string }).reason === "IssuerValidationFailed",
      ),
    15_000,
    "an event about the refused issuer",
  );
}

/** A pod of each kind of owner is admitted, in a namespace that the watch does not know. */
async function driveInjector({ controllers }: World): Promise<void> {
  const { port } = controllers.get("proxyInjector")!;
  const owners: [string, string][] = [
    ["apps/v1", "DaemonSet"],
    ["apps/v1", "StatefulSet"],
    ["apps/v1", "Deployment"],
    ["apps/v1", "ReplicaSet"],
    ["batch/v1", "Job"],
    ["batch/v1", "CronJob"],
    ["v1", "ReplicationController"],
  ];
  for (const [apiVersion, kind] of owners) {
    const review = {
      apiVersion: "admission.k8s.io/v1",
      kind: "AdmissionReview",
      request: {
        uid: "u",
        kind: { group: "", version: "v1", kind: "Pod" },
        resource: { group: "", version: "v1", resource: "pods" },
        operation: "CREATE",
        namespace: "just-made",
        object: {
          metadata: {
            generateName: "web-",
            annotations: { "linkerd.io/inject": "enabled" },
            ownerReferences: [{ apiVersion, kind, name: "web", uid: "x", controller: true }],
          },
          spec: { containers: [{ name: "c", image: "x" }] },
        },
      },
    };
    const status = await new Promise((resolve, reject) => {
      const body = JSON.stringify(review);
      httpsRequest(
        { host: "127.0.0.1", port, method: "POST", rejectUnauthorized: false, agent: false },
        (response) => {
          response.resume();
          resolve(response.statusCode);
        },
      )
        .on("error", reject)
        .end(body);
    });
    assert.is(status, 200);
  }
}

/** One of each kind that gets a status, and a Service with an annotation that an event is told of. */
async function drivePolicy({ create }: World): Promise<void> {
  const at = (group: string, version: string, resource: string) =>
    `/apis/${group}/${version}/namespaces/shop/${resource}`;
  await create(
    {
      metadata: { name: "web", annotations: { "retry.linkerd.io/http": "sometimes" } },
      spec: { ports: [{ name: "http", port: 80 }] },
    },
    "/api/v1/namespaces/shop/services",
  );
  const parentRefs = [{ group: "", kind: "Service", name: "web", port: 80 }];
  const backendRefs = [{ name: "web", port: 80 }];
  const gateway = "gateway.networking.k8s.io";
  const linkerd = "policy.linkerd.io";
  const served = (resource: string, group: string) =>
    KINDS.find((kind) => kind.plural === resource && kind.group === group)!.versions.at(-1)!.name;
  for (const [group, resource, spec] of [
    [linkerd, "httproutes", { parentRefs, rules: [{ backendRefs }] }],
    [gateway, "httproutes", { parentRefs, rules: [{ backendRefs }] }],
    [gateway, "grpcroutes", { parentRefs, rules: [{ backendRefs }] }],
    [gateway, "tlsroutes", { parentRefs, hostnames: ["a.test"], rules: [{ backendRefs }] }],
    [gateway, "tcproutes", { parentRefs, rules: [{ backendRefs }] }],
    // Two Servers on one port, which the younger one's status tells.
    [
      "workload.linkerd.io",
      "externalworkloads",
      { meshTLS: { identity: "x.test", serverName: "x.test" }, ports: [{ port: 80 }] },
    ],
    [linkerd, "servers", { externalWorkloadSelector: {}, port: 80 }],
    [
      linkerd,
      "httplocalratelimitpolicies",
      { targetRef: { group: linkerd, kind: "Server", name: "x" }, total: { requestsPerSecond: 1 } },
    ],
    [linkerd, "egressnetworks", { trafficPolicy: "Allow" }],
  ] as const)
    await create({ metadata: { name: "x" }, spec }, at(group, served(resource, group), resource));
  const second = { metadata: { name: "y" }, spec: { externalWorkloadSelector: {}, port: 80 } };
  await create(second, at(linkerd, served("servers", linkerd), "servers"));
}

/** A machine outside joins a Service, moves, and leaves: its slice is made, changed and taken away. */
async function driveDestination({ client, create }: World): Promise<void> {
  const slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
  const workloads = "/apis/workload.linkerd.io/v1beta1/namespaces/shop/externalworkloads";
  const addresses = async () =>
    (await client.list<EndpointSlice>(slices)).items
      .filter(({ metadata }) => metadata.name.startsWith("linkerd-external-outside-"))
      .flatMap(({ endpoints = [] }) => endpoints.map((endpoint) => endpoint.addresses[0]));
  const told = (expected: readonly string[]) =>
    until(async () => (await addresses()).join() === expected.join(), 15_000, `slices of ${expected}`);
  const labels = { app: "outside" };
  await create(
    { metadata: { name: "outside" }, spec: { selector: labels, ports: [{ port: 80 }] } },
    "/api/v1/namespaces/shop/services",
  );
  const meshTLS = { identity: "vm.cluster.local", serverName: "vm.cluster.local" };
  const spec = { meshTLS, workloadIPs: [{ ip: "192.0.2.1" }], ports: [{ port: 80 }] };
  await create({ metadata: { name: "vm", labels }, spec }, workloads);
  await told(["192.0.2.1"]);
  await client.patch(`${workloads}/vm`, { spec: { workloadIPs: [{ ip: "192.0.2.2" }] } });
  await told(["192.0.2.2"]);
  await client.delete(`${workloads}/vm`);
  await told([]);
}

const test = suite("rbac");

test("every call has its grant, every grant its call, and every call in the code is made here", async () => {
  const { calls, stop: stopCalls } = recordCalls();
  const { sites, stop: stopSites } = recordSites();
  try {
    await withWorld(async (world) => {
      await world.create({ metadata: { name: "shop" } }, "/api/v1/namespaces");
      await driveIdentity(world);
      await driveInjector(world);
      await drivePolicy(world);
      await driveDestination(world);
      const grants = grantsOf(rendered);
      assert.ok(grants.length > 40);
      const unused = () =>
        grants
          .filter((grant) => !calls.some(isUse(grant)))
          .map(({ account, verb, group, resource, name }) =>
            [account, "may", verb, group ? `${resource}.${group}` : resource, name ?? ""].join(" ").trim(),
          );
      await until(
        () => unused().length === 0,
        30_000,
        () => `grants that no call needs:\n${unused().join("\n")}\nnone`,
      );
      const refused = calls
        .filter(({ allowed }) => !allowed)
        .map(({ account, attributes }) => `${account}: ${JSON.stringify(attributes)}`);
      assert.equal([...new Set(refused)], [], "calls without a grant");
      const undriven = callSites().filter((site) => !sites.has(site));
      assert.equal(undriven, [], "calls in the code that this test does not make");
    });
  } finally {
    stopCalls();
    stopSites();
  }
});

test.run();

// The policy controller: default inbound policies and plain Services outbound, over real gRPC.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressOf, addressText, networkText } from "../../../src/api/address.ts";
import type { MessageOf } from "../../../src/api/codec.ts";
import { STATUS } from "../../../src/api/grpc-status.ts";
import { GetPort, type Server, WatchPort } from "../../../src/api/inbound.ts";
import { Get, type OutboundPolicy, Watch } from "../../../src/api/outbound.ts";
import { durationMs } from "../../../src/api/time.ts";
import { namespaceRecord, podRecord, serviceRecord } from "../../../src/controller/cluster-objects.ts";
import { GrpcServer } from "../../../src/controller/grpc-server.ts";
import { PolicyIndex } from "../../../src/controller/policy/index.ts";
import { servePolicy } from "../../../src/controller/policy/service.ts";
import type { Container, Service } from "../../../src/kube/types.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import type { DefaultPolicy } from "../../../src/rules/default-policy.ts";
import { NO_TRAFFIC_SETTINGS } from "../../../src/rules/traffic-annotations.ts";
import { parsePortSet } from "../../../src/util/port-set.ts";
import { TestGrpcClient } from "../../support/grpc-client.ts";
import { until } from "../../support/until.ts";

const test = suite("policy");

const pod = (annotations: Record<string, string> = {}, container: Partial<Container> = {}) =>
  podRecord({
    metadata: { name: "web-1", namespace: "emoji", annotations },
    spec: { containers: [{ name: "c", ports: [{ name: "http", containerPort: 8080 }], ...container }] },
    status: { podIP: "10.0.0.1" },
  });

const service = (change: Partial<Service["spec"]> = {}, annotations: Record<string, string> = {}) =>
  serviceRecord({
    metadata: { name: "web", namespace: "emoji", annotations },
    spec: { clusterIP: "10.96.1.1", ports: [{ name: "http", port: 80 }], ...change },
  });

const namespace = (annotations: Record<string, string>) =>
  namespaceRecord({ metadata: { name: "emoji", annotations } });

async function withServer(
  run: (rig: { index: PolicyIndex; client: TestGrpcClient }) => Promise<void>,
  defaultPolicy: DefaultPolicy = "all-unauthenticated",
): Promise<void> {
  const index = new PolicyIndex({
    defaultPolicy,
    clusterNetworks: ["10.0.0.0/8"],
    defaultOpaquePorts: parsePortSet("3306"),
    clusterDomain: "cluster.local",
    domain: { controlPlane: "mesh-system", trustDomain: "cluster.local" },
    globalEgressNamespace: "linkerd-egress",
    allowHeaders: false,
  });
  const server = new GrpcServer({ log: createLogger({ level: "off" }), registry: new Registry() });
  servePolicy(server, index, "cluster.local");
  const client = new TestGrpcClient(await server.listen(0, "127.0.0.1"));
  try {
    await run({ index, client });
  } finally {
    client.close();
    await server.close();
  }
}

const WORKLOAD = '{"ns":"emoji", "pod":"web-1"}';

/** The authorizations in one line: who, from where, under which name. */
const authorizations = (server: Pick<MessageOf<typeof Server>, "authorizations">) =>
  server.authorizations
    .map(({ authentication, networks, labels }) => {
      const who = authentication?.unauthenticated
        ? "anyone"
        : JSON.stringify(authentication?.meshTLS?.identities?.suffixes.map((s) => s.parts));
      return `${who} from ${networks.map((n) => networkText(n.net!)).join(",")} by ${labels["name"]}`;
    })
    .join("; ");

const ANYWHERE = "0.0.0.0/0,0:0:0:0:0:0:0:0/0";
const CASES: [DefaultPolicy, string][] = [
  ["all-unauthenticated", `anyone from ${ANYWHERE} by all-unauthenticated`],
  ["all-authenticated", `[[]] from ${ANYWHERE} by all-authenticated`],
  ["cluster-unauthenticated", "anyone from 10.0.0.0/8 by cluster-unauthenticated"],
  ["cluster-authenticated", "[[]] from 10.0.0.0/8 by cluster-authenticated"],
  ["deny", ""],
  ["audit", `anyone from ${ANYWHERE} by audit`],
];
for (const [policy, expected] of CASES) {
  test(`the cluster's default ${policy}`, () =>
    withServer(async ({ index, client }) => {
      index.putPod(pod());
      const answer = await client.call(GetPort, { workload: WORKLOAD, port: 8080 }).message(0);
      assert.is(authorizations(answer), expected);
      assert.equal({ ...answer.labels }, { group: "", kind: "default", name: policy });
      assert.is(durationMs(answer.protocol!.detect!.timeout!), 10_000);
      assert.equal(
        answer.protocol!.detect!.httpRoutes.map((route) => route.metadata?.default),
        ["default"],
      );
    }, policy));
}

test("the pod's word goes before its namespace's, that before the cluster's; nonsense counts for nothing", () =>
  withServer(async ({ index, client }) => {
    const key = "config.linkerd.io/default-inbound-policy";
    index.putPod(pod());
    const call = client.call(WatchPort, { workload: WORKLOAD, port: 8080 });
    const names: string[] = [];
    const next = async () => names.push((await call.message(names.length)).labels["name"]!);
    await next();
    index.putNamespace(namespace({ [key]: "deny" }));
    await next();
    index.putPod(pod({ [key]: "all-authenticated" }));
    await next();
    index.putPod(pod({ [key]: "allow-everything" }));
    await next();
    index.removeNamespace("emoji");
    await next();
    assert.equal(names, ["all-unauthenticated", "deny", "all-authenticated", "deny", "all-unauthenticated"]);
  }));

test("a change that makes no difference is not told", () =>
  withServer(async ({ index, client }) => {
    index.putPod(pod());
    const call = client.call(WatchPort, { workload: "emoji:web-1", port: 8080 });
    await call.message(0);
    index.putPod(pod({ other: "annotation" }));
    index.putPod(pod({ "config.linkerd.io/opaque-ports": "8080" }));
    assert.ok((await call.message(1)).protocol?.opaque);
  }));

test("probes of this port are let through by path, whatever the policy", () =>
  withServer(async ({ index, client }) => {
    index.putPod(
      pod(
        {},
        {
          livenessProbe: { httpGet: { path: "/live?full=1", port: "http" } },
          readinessProbe: { httpGet: { path: "ready#now", port: 8080 } },
          startupProbe: { httpGet: { path: "/other", port: 9090 } },
        },
      ),
    );
    const answer = await client.call(GetPort, { workload: WORKLOAD, port: 8080 }).message(0);
    assert.is(authorizations(answer), "");
    const probe = answer.protocol!.detect!.httpRoutes.find((route) => route.metadata?.default === "probe")!;
    assert.is(authorizations(probe), `anyone from ${ANYWHERE} by probe`);
    const [rule] = probe.rules;
    assert.equal(
      rule!.matches.map((match) => [match.method?.registered, match.path?.exact]),
      [
        [0, "/live"],
        [0, "/ready"],
      ],
    );
  }, "deny"));

test("opaque ports: the default list, or the pod's own instead", () =>
  withServer(async ({ index, client }) => {
    index.putPod(pod());
    const at = async (port: number) =>
      (await client.call(GetPort, { workload: WORKLOAD, port }).message(0)).protocol?.opaque !== undefined;
    assert.is(await at(3306), true);
    index.putPod(pod({ "config.linkerd.io/opaque-ports": "http,5000-5010" }));
    assert.equal([await at(3306), await at(8080), await at(5005)], [false, true, true]);
  }));

test("pods that are not there, and what is no pod, are refused; a pod that goes ends its watch", () =>
  withServer(async ({ index, client }) => {
    const status = (workload: string, port = 80) => client.call(GetPort, { workload, port }).end();
    assert.is(await status(WORKLOAD), STATUS.NOT_FOUND);
    for (const bad of ["", "{", '{"ns":1}', "null", "emoji"])
      assert.is(await status(bad), STATUS.INVALID_ARGUMENT, bad);
    assert.is(await status(WORKLOAD, 0), STATUS.INVALID_ARGUMENT);
    index.putPod(pod());
    const call = client.call(WatchPort, { workload: WORKLOAD, port: 8080 });
    await call.message(0);
    index.removePod("emoji", "web-1");
    assert.is(await call.end(), STATUS.NOT_FOUND);
  }));

type Outbound = MessageOf<typeof OutboundPolicy>;
const kindOf = (policy: Outbound) =>
  Object.entries(policy.protocol ?? {}).find(([, value]) => value !== undefined)?.[0];
const spec = (ip: string, port: number) => ({ sourceWorkload: WORKLOAD, addr: addressOf(ip, port) });

test("a Service's plain default: detection, and one route of each kind to its endpoints", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const policy = await client.call(Get, spec("10.96.1.1", 80)).message(0);
    const resource = {
      group: "core",
      kind: "Service",
      name: "web",
      namespace: "emoji",
      section: "",
      port: 80,
    };
    assert.equal(policy.metadata?.resource, resource);
    const detect = policy.protocol!.detect!;
    assert.is(durationMs(detect.timeout!), 10_000);
    const backends = [
      detect.http1!.routes[0]!.rules[0]!.backends!.firstAvailable!.backends[0]!.backend!,
      detect.http2!.routes[0]!.rules[0]!.backends!.firstAvailable!.backends[0]!.backend!,
      detect.opaque!.routes[0]!.rules[0]!.backends!.firstAvailable!.backends[0]!.backend!,
    ];
    for (const backend of backends) {
      assert.is(backend.balancer?.discovery?.dst?.path, "web.emoji.svc.cluster.local:80");
      assert.is(durationMs(backend.balancer!.peakEwma!.defaultRtt!), 30);
      assert.equal(backend.metadata?.resource, resource);
    }
    const byName = client.call(Get, {
      sourceWorkload: WORKLOAD,
      authority: "web.emoji.svc.cluster.local:80",
    });
    assert.equal((await byName.message(0)).metadata, policy.metadata);
  }));

test("appProtocol and opaque ports say how bytes are read", () =>
  withServer(async ({ index, client }) => {
    const cases: [string | undefined, Record<string, string>, number, string][] = [
      [undefined, {}, 80, "detect"],
      ["http", {}, 80, "http1"],
      ["kubernetes.io/h2c", {}, 80, "http2"],
      ["linkerd.io/opaque", {}, 80, "opaque"],
      ["linkerd.io/tcp", {}, 80, "opaque"],
      ["mysql", {}, 80, "opaque"],
      [undefined, {}, 3306, "opaque"],
      ["http", { "config.linkerd.io/opaque-ports": "80" }, 80, "opaque"],
      [undefined, { "config.linkerd.io/opaque-ports": "81" }, 3306, "detect"],
    ];
    for (const [appProtocol, annotations, port, expected] of cases) {
      index.putService(service({ ports: [{ port, ...(appProtocol ? { appProtocol } : {}) }] }, annotations));
      const policy = await client.call(Get, spec("10.96.1.1", port)).message(0);
      assert.is(kindOf(policy), expected, `${appProtocol} ${JSON.stringify(annotations)} ${port}`);
    }
  }));

test("a watch follows the Service and its namespace, and ends with it", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    const call = client.call(Watch, spec("10.96.1.1", 80));
    assert.is(kindOf(await call.message(0)), "detect");
    index.putNamespace(namespace({ "config.linkerd.io/opaque-ports": "80" }));
    assert.is(kindOf(await call.message(1)), "opaque");
    index.putService(service({ clusterIP: "10.96.1.2" }));
    assert.is(await call.end(), STATUS.NOT_FOUND);
  }));

test("addresses of the cluster that are no Service's are not found; what is no address is refused", () =>
  withServer(async ({ index, client }) => {
    index.putPod(pod());
    index.putPod({ ...pod(), name: "outside", ips: ["192.0.2.7"] });
    index.putService(service());
    const cases: [string, number][] = [
      ["10.0.0.1", 8080],
      ["192.0.2.7", 8080],
      ["10.96.1.9", 80],
      ["10.96.1.1", 81],
    ];
    for (const [ip, port] of cases)
      assert.is(await client.call(Get, spec(ip, port)).end(), STATUS.NOT_FOUND, ip);
    const asks: [string | undefined, number][] = [
      ["web.emoji.svc.cluster.local:81", STATUS.NOT_FOUND],
      ["api.emoji.svc.cluster.local:80", STATUS.NOT_FOUND],
      ["example.com:80", STATUS.INVALID_ARGUMENT],
      [undefined, STATUS.INVALID_ARGUMENT],
    ];
    for (const [authority, status] of asks)
      assert.is(await client.call(Get, { sourceWorkload: WORKLOAD, authority }).end(), status, authority);
    const asker = { sourceWorkload: "{", addr: addressOf("10.96.1.1", 80) };
    assert.is(await client.call(Get, asker).end(), STATUS.INVALID_ARGUMENT);
  }));

test("a headless Service is found by its name, an ExternalName never", () =>
  withServer(async ({ index, client }) => {
    const ask = () =>
      client.call(Get, { sourceWorkload: WORKLOAD, authority: "web.emoji.svc.cluster.local:80" });
    index.putService(service({ clusterIP: "None" }));
    assert.is((await ask().message(0)).metadata?.resource?.name, "web");
    index.putService(service({ type: "ExternalName", clusterIP: "" }));
    assert.is(await ask().end(), STATUS.NOT_FOUND);
  }));

test("an address outside the cluster is dialled as it is, until an EgressNetwork speaks for it", () =>
  withServer(async ({ index, client }) => {
    const call = client.call(Watch, spec("1.1.1.1", 443));
    const before = await call.message(0);
    assert.is(before.metadata?.default, "egress-fallback");
    const backend =
      before.protocol!.detect!.http1!.routes[0]!.rules[0]!.backends!.firstAvailable!.backends[0]!;
    assert.equal(addressText(backend.backend?.forward?.addr), { ip: "1.1.1.1", port: 443 });
    index.change(({ egressNetworks }) =>
      egressNetworks.put("linkerd-egress/all", {
        namespace: "linkerd-egress",
        name: "all",
        created: 0,
        allow: false,
        networks: undefined,
        traffic: NO_TRAFFIC_SETTINGS,
      }),
    );
    assert.is((await call.message(1)).metadata?.resource?.name, "all");
  }));

test("an ExternalWorkload asks for its ports by its own token, and hears of its end", () =>
  withServer(async ({ index, client }) => {
    const workload = '{"ns":"emoji","external_workload":"vm-1"}';
    assert.is(await client.call(GetPort, { workload, port: 80 }).end(), STATUS.NOT_FOUND);
    const key = "emoji/vm-1";
    index.change(({ externalWorkloads }) =>
      externalWorkloads.put(key, {
        kind: "ExternalWorkload",
        namespace: "emoji",
        name: "vm-1",
        labels: {},
        ports: [],
        ips: ["192.0.2.7"],
        defaultPolicy: "deny",
        opaquePorts: undefined,
      }),
    );
    const call = client.call(WatchPort, { workload, port: 80 });
    assert.is((await call.message(0)).labels["name"], "deny");
    // A Pod of the same name is somebody else.
    assert.is(
      await client.call(GetPort, { workload: '{"ns":"emoji","pod":"vm-1"}', port: 80 }).end(),
      STATUS.NOT_FOUND,
    );
    index.change(({ externalWorkloads }) => externalWorkloads.remove(key));
    assert.is(await call.end(), STATUS.NOT_FOUND);
  }));

test("who asks decides which routes hold: the namespace of the token counts", () =>
  withServer(async ({ index, client }) => {
    index.putService(service());
    index.change(({ routes }) =>
      routes.put("consumer", {
        group: "gateway.networking.k8s.io",
        kind: "HTTPRoute",
        namespace: "voting",
        name: "consumer",
        created: 0,
        parents: [
          {
            group: "",
            kind: "Service",
            namespace: "emoji",
            name: "web",
            port: undefined,
            sectionName: undefined,
          },
        ],
        hosts: [],
        rules: [],
        traffic: NO_TRAFFIC_SETTINGS,
        problem: undefined,
        serverProblem: undefined,
      }),
    );
    const routes = async (sourceWorkload: string) => {
      const policy = await client.call(Get, { ...spec("10.96.1.1", 80), sourceWorkload }).message(0);
      const [first] = policy.protocol!.detect!.http1!.routes;
      return first!.metadata?.resource?.name ?? first!.metadata?.default;
    };
    assert.is(await routes('{"ns":"voting","pod":"v-1"}'), "consumer");
    assert.is(await routes('{"ns":"voting","external_workload":"v-1"}'), "consumer");
    assert.is(await routes('{"ns":"emoji","pod":"e-1"}'), "http");
    assert.is(await routes(""), "http");
  }));

test("clients of many namespaces are told one message", () =>
  withServer(async ({ index }) => {
    index.putService(service());
    const told: unknown[] = [];
    for (const client of ["a", "b"])
      index.watchOutbound({ kind: "address", ip: "10.96.1.1", port: 80 }, client, {
        update: (frame) => told.push(frame),
      });
    index.putService(service({}, { "timeout.linkerd.io/request": "1s" }));
    assert.equal(told[0], told[1]);
    assert.ok(told[2] !== undefined && told[2] === told[3], "encoded once");
    assert.is(index.watched.policies, 1);
  }));

test("who asks for what is not there leaves nothing behind", () =>
  withServer(async ({ index, client }) => {
    const unknown = '{"ns":"emoji", "pod":"nobody"}';
    const calls = [
      client.call(WatchPort, { workload: unknown, port: 8080 }),
      client.call(Watch, { sourceWorkload: WORKLOAD, authority: "nobody.emoji.svc.cluster.local:80" }),
    ];
    for (const call of calls) assert.is(await call.end(), STATUS.NOT_FOUND);
    await until(() => index.watched.ports + index.watched.policies === 0, 5_000, "views to be let go");
  }));

test.run();

// What proxies are told of names and addresses: fields of ServiceProfiles and ExternalWorkloads, and annotations of pods,
// namespaces and machines that the control plane itself follows.
import { decode, encode, type MessageOf } from "../../../src/api/codec.ts";
import { DestinationProfile } from "../../../src/api/destination.ts";
import {
  namespaceRecord,
  podRecord,
  serviceRecord,
  sliceRecord,
} from "../../../src/controller/cluster-objects.ts";
import { addressFor, type Endpoint } from "../../../src/controller/destination/address.ts";
import { sliceChanges } from "../../../src/controller/destination/external-slices.ts";
import { workloadRecord } from "../../../src/controller/destination/external-workload.ts";
import { DestinationIndex, type Profile } from "../../../src/controller/destination/index.ts";
import { profileRecord } from "../../../src/controller/destination/service-profile.ts";
import type { WorkloadRef } from "../../../src/controller/policy/inbound.ts";
import type { ExternalWorkload, ServiceProfile } from "../../../src/crds/index.ts";
import type { EndpointSlice, KubeObject, Namespace, Pod, Service } from "../../../src/kube/types.ts";
import { profileRoutes } from "../../../src/rules/outbound-routes.ts";
import { parsePortSet } from "../../../src/util/port-set.ts";
import { PolicyCluster, policyObject } from "../../support/policy-cluster.ts";
import { changed } from "../objects.ts";
import { annotations, fields, type KindEffects, type Look, type Row } from "./effect.ts";

const MESH = {
  namespace: "mesh-system",
  trustDomain: "cluster.local",
  clusterDomain: "cluster.local",
  defaultOpaquePorts: parsePortSet("3306"),
};

const web = policyObject("v1", "Service", "web", {
  spec: {
    clusterIP: "10.96.1.1",
    selector: { app: "web" },
    ports: [{ name: "http", port: 80, targetPort: "http" }],
  },
});

// ---- ServiceProfiles ----

function profiled(object: KubeObject): Profile {
  const index = new DestinationIndex(MESH);
  index.putService(serviceRecord(web as Service));
  index.putProfile(profileRecord(object as ServiceProfile));
  let found: Profile | undefined;
  index
    .watchProfile({ kind: "ip", ip: "10.96.1.1", port: 80 }, {}, { update: (profile) => (found = profile) })
    .close();
  return found!;
}

/** The routes of a profile, as the proxy compiles them. */
function routesOf(object: KubeObject) {
  const { profile, overrides } = profiled(object);
  const { routes, retryBudget } = profile!;
  const message = { routes, retryBudget, dstOverrides: overrides } as Partial<
    MessageOf<typeof DestinationProfile>
  >;
  const wire = decode(DestinationProfile, encode(DestinationProfile, message as never));
  return profileRoutes(wire, { kind: "original" });
}
const rule = (object: KubeObject) =>
  routesOf(object).find({ method: "POST", path: "/a?q=1", authority: "web", get: () => undefined })!.rule;
const takes: Look = (object) => rule(object).profile!.labels["route"];
const fails =
  (status: number): Look =>
  (object) =>
    rule(object).profile!.isFailure(status);

const profile = policyObject("linkerd.io/v1alpha2", "ServiceProfile", "web.emoji.svc.cluster.local", {
  spec: { routes: [{ name: "one", condition: { method: "POST" } }] },
});
const condition = (field: string, a: unknown, b: unknown, set: object = {}): Row => [
  `routes.0.condition.${field}`,
  a,
  "one",
  b,
  undefined,
  { "routes.0.condition": set },
  takes,
];
const responses = (condition: object, isFailure = true) => ({
  "routes.0.responseClasses": [{ condition, isFailure }],
});
const status = (min: number, max = min) => ({ status: { min, max } });
const response = (field: string, a: unknown, b: unknown, set: object): Row => [
  `routes.0.responseClasses.0.condition.${field}`,
  a,
  true,
  b,
  undefined,
  responses(set),
  fails(450),
];
const BUDGET = { retryBudget: { retryRatio: 0.5, minRetriesPerSecond: 5, ttl: "20s" } };
const budget: Look = (object) => routesOf(object).budget;
const OVERRIDE = { dstOverrides: [{ authority: "api.emoji.svc.cluster.local:80", weight: 1 }] };
const shares: Look = (object) =>
  rule(object).backends.backends.map(({ text, weight }) => `${weight} ${text}`);

// ---- ExternalWorkloads ----

const machine = policyObject("workload.linkerd.io/v1beta1", "ExternalWorkload", "vm", {
  labels: { app: "web" },
  spec: {
    meshTLS: { identity: "vm.example", serverName: "vm.internal" },
    workloadIPs: [{ ip: "192.0.2.9" }],
    ports: [{ name: "http", port: 8080 }],
  },
  status: { conditions: [{ type: "Ready", status: "True" }] },
});

/** As v1alpha1 writes it. */
const older = changed(machine, {
  apiVersion: "workload.linkerd.io/v1alpha1",
  "spec.meshTLS": undefined,
  "spec.meshTls": { identity: "vm.example", serverName: "vm.internal" },
});

/** The slices that are made for it. */
const slices: Look = (object) =>
  sliceChanges(serviceRecord(web as Service), [workloadRecord(object as ExternalWorkload)], []).create.map(
    ({ endpoints, ports }) =>
      `${endpoints![0]!.addresses[0]} ${ports!.map(({ name, port }) => `${name} ${port}`)}`,
  );

/** What a client is told of an address. */
function endpointAt(ip: string, put: (index: DestinationIndex) => void): Endpoint | undefined {
  const index = new DestinationIndex(MESH);
  put(index);
  let found: Endpoint | undefined;
  index
    .watchProfile({ kind: "ip", ip, port: 8080 }, {}, { update: ({ endpoint }) => (found = endpoint) })
    .close();
  return found;
}
const identity: Look = (object) => {
  const record = workloadRecord(object as ExternalWorkload);
  const { tlsIdentity } = addressFor(endpointAt("192.0.2.9", (index) => index.putWorkload(record))!, MESH);
  return [
    tlsIdentity!.dnsLikeIdentity?.name ?? tlsIdentity!.uriLikeIdentity?.uri,
    tlsIdentity!.serverName?.name,
  ];
};

// ---- annotations that are followed while pods run ----

const VM: WorkloadRef = { kind: "ExternalWorkload", namespace: "emoji", name: "vm" };
const POD: WorkloadRef = { kind: "Pod", namespace: "emoji", name: "web-1" };
const serverOf = (workload: WorkloadRef, ...objects: readonly KubeObject[]) => {
  let found: string[] = [];
  new PolicyCluster().apply(...objects).watchServer(workload, 8080, (server) => {
    const [protocol] = Object.entries(server!.protocol!).find(([, value]) => value !== undefined)!;
    found = [server!.labels["name"]!, protocol];
  })();
  return found;
};
const inbound =
  (workload: WorkloadRef): Look =>
  (object) =>
    serverOf(workload, object);

const pod = policyObject("v1", "Pod", "web-1", {
  labels: { "linkerd.io/control-plane-ns": "mesh-system" },
  spec: {
    serviceAccountName: "web",
    containers: [{ name: "c", ports: [{ name: "http", containerPort: 8080 }] }],
  },
  status: { phase: "Running", podIPs: [{ ip: "10.1.0.1" }] },
});
const hints = (ip: string, put: (index: DestinationIndex) => void) => {
  const { tlsIdentity, protocolHint } = addressFor(endpointAt(ip, put)!, MESH);
  if (!protocolHint) return "no proxy";
  const { opaque, opaqueTransport } = protocolHint as {
    opaque?: object;
    opaqueTransport: { inboundPort: number };
  };
  return `${tlsIdentity ? "its identity" : "nobody"}, ${opaque ? "opaque" : "HTTP"}, ${opaqueTransport.inboundPort}`;
};
const podHints: Look = (object) => hints("10.1.0.1", (index) => index.putPod(podRecord(object as Pod)));
const machineHints: Look = (object) =>
  hints("192.0.2.9", (index) => index.putWorkload(workloadRecord(object as ExternalWorkload)));

const namespace = policyObject("v1", "Namespace", "emoji");
/** Whether the ports of its Services are told of as opaque. */
const opaqueService: Look = (object) => {
  const index = new DestinationIndex(MESH);
  index.putService(serviceRecord(web as Service));
  index.putNamespace(namespaceRecord(object as Namespace));
  let opaque: boolean | undefined;
  index
    .watchProfile({ kind: "ip", ip: "10.96.1.1", port: 80 }, {}, { update: (told) => (opaque = told.opaque) })
    .close();
  return opaque;
};

/** What endpoints of a mirrored Service are told as. */
const gateway: Look = (object) => {
  const index = new DestinationIndex(MESH);
  index.putService(serviceRecord(web as Service));
  index.putSlice(sliceRecord(object as EndpointSlice));
  const query = { namespace: "emoji", service: "web", port: 80 };
  let found: Endpoint | undefined;
  index.watchEndpoints(query, {}, { update: ({ added }) => (found = added[0]) }).close();
  const { tlsIdentity, authorityOverride } = addressFor(found!, MESH);
  return [tlsIdentity?.dnsLikeIdentity?.name, authorityOverride?.authorityOverride];
};
const mirrored = policyObject("discovery.k8s.io/v1", "EndpointSlice", "web-east", {
  labels: { "kubernetes.io/service-name": "web" },
});
const SLICE = {
  ...mirrored,
  addressType: "IPv4",
  ports: [{ name: "http", port: 4143 }],
  endpoints: [{ addresses: ["203.0.113.1"] }],
} as KubeObject;
const REMOTE = {
  "mirror.linkerd.io/remote-gateway-identity": "gateway.identity",
  "mirror.linkerd.io/remote-svc-fq-name": "web.emoji.svc.east",
};
const GATEWAY = ["gateway.identity", "web.emoji.svc.east"];
const BARE = [undefined, undefined];

export const DISCOVERY: readonly KindEffects[] = [
  {
    kind: "linkerd.io/ServiceProfile",
    effects: fields(profile, takes, [
      ["routes.0.name", "one", "one", "two", "two"],
      condition("pathRegex", "/a", "/b"),
      condition("method", "POST", "GET"),
      condition("all.0", { method: "POST" }, { method: "GET" }, { all: [] }),
      condition("any.0", { method: "POST" }, { method: "GET" }, { any: [] }),
      condition("not", { method: "GET" }, { method: "POST" }),
      response("status.min", 450, 451, status(0, 599)),
      response("status.max", 450, 449, status(400, 0)),
      response("all.0", status(450), status(451), { all: [] }),
      response("any.0", status(450), status(451), { any: [] }),
      response("not", status(451), status(450), {}),
      [
        "routes.0.responseClasses.0.isFailure",
        undefined,
        false,
        true,
        true,
        responses(status(450)),
        fails(450),
      ],
      [
        "routes.0.isRetryable",
        undefined,
        false,
        true,
        true,
        {},
        (object) => rule(object).retry !== undefined,
      ],
      ["routes.0.timeout", undefined, undefined, "250ms", 250, {}, (object) => rule(object).timeouts.request],
      [
        "retryBudget.retryRatio",
        0.5,
        { ratio: 0.5, perSecond: 5, ttl: 20_000 },
        0.25,
        { ratio: 0.25, perSecond: 5, ttl: 20_000 },
        BUDGET,
        budget,
      ],
      [
        "retryBudget.minRetriesPerSecond",
        5,
        { ratio: 0.5, perSecond: 5, ttl: 20_000 },
        6,
        { ratio: 0.5, perSecond: 6, ttl: 20_000 },
        BUDGET,
        budget,
      ],
      [
        "retryBudget.ttl",
        "20s",
        { ratio: 0.5, perSecond: 5, ttl: 20_000 },
        "30s",
        { ratio: 0.5, perSecond: 5, ttl: 30_000 },
        BUDGET,
        budget,
      ],
      [
        "dstOverrides.0.authority",
        "api.emoji.svc.cluster.local:80",
        ["10000 api.emoji.svc.cluster.local:80"],
        "v2.emoji.svc.cluster.local:80",
        ["10000 v2.emoji.svc.cluster.local:80"],
        OVERRIDE,
        shares,
      ],
      [
        "dstOverrides.0.weight",
        1,
        ["10000 api.emoji.svc.cluster.local:80"],
        "500m",
        ["5000 api.emoji.svc.cluster.local:80"],
        OVERRIDE,
        shares,
      ],
      ["opaquePorts.0", "81", false, "80", true, { opaquePorts: [] }, (object) => profiled(object).opaque],
    ]),
  },
  {
    kind: "workload.linkerd.io/ExternalWorkload",
    effects: [
      ...fields(machine, slices, [
        [
          "meshTLS.identity",
          "vm.example",
          ["vm.example", "vm.internal"],
          "spiffe://root/vm",
          ["spiffe://root/vm", "vm.internal"],
          {},
          identity,
        ],
        [
          "meshTLS.serverName",
          "vm.internal",
          ["vm.example", "vm.internal"],
          "vm.other",
          ["vm.example", "vm.other"],
          {},
          identity,
        ],
        ["ports.0.name", "http", ["192.0.2.9 http 8080"], "admin", ["192.0.2.9 "]],
        ["ports.0.port", 8080, ["192.0.2.9 http 8080"], 9090, ["192.0.2.9 http 9090"]],
        ["ports.0.protocol", undefined, ["192.0.2.9 http 8080"], "UDP", ["192.0.2.9 "]],
        ["workloadIPs.0.ip", "192.0.2.9", ["192.0.2.9 http 8080"], "192.0.2.10", ["192.0.2.10 http 8080"]],
      ]),
      ...fields(older, identity, [
        [
          "meshTls.identity",
          "vm.example",
          ["vm.example", "vm.internal"],
          "vm.other",
          ["vm.other", "vm.internal"],
        ],
        [
          "meshTls.serverName",
          "vm.internal",
          ["vm.example", "vm.internal"],
          "vm.other",
          ["vm.example", "vm.other"],
        ],
      ]),
      ...annotations(machine, inbound(VM), [
        [
          "config.linkerd.io/default-inbound-policy",
          "deny",
          ["all-unauthenticated", "detect"],
          ["deny", "detect"],
        ],
        [
          "config.linkerd.io/opaque-ports",
          "http",
          "its identity, HTTP, 4143",
          "its identity, opaque, 4143",
          {},
          machineHints,
        ],
      ]),
    ],
  },
  {
    kind: "v1/Pod",
    effects: annotations(pod, podHints, [
      [
        "config.linkerd.io/default-inbound-policy",
        "deny",
        ["all-unauthenticated", "detect"],
        ["deny", "detect"],
        {},
        inbound(POD),
      ],
      ["config.linkerd.io/opaque-ports", "http", "its identity, HTTP, 4143", "its identity, opaque, 4143"],
      ["config.linkerd.io/skip-inbound-ports", "8080", "its identity, HTTP, 4143", "no proxy"],
      ["config.linkerd.io/inbound-port", "5143", "its identity, HTTP, 4143", "its identity, HTTP, 5143"],
    ]),
  },
  {
    kind: "v1/Namespace",
    effects: annotations(namespace, opaqueService, [
      [
        "config.linkerd.io/default-inbound-policy",
        "deny",
        ["all-unauthenticated", "detect"],
        ["deny", "detect"],
        {},
        (object) => serverOf(POD, object, pod),
      ],
      ["config.linkerd.io/opaque-ports", "80", false, true],
    ]),
  },
  {
    kind: "discovery.k8s.io/EndpointSlice",
    effects: annotations(SLICE, gateway, [
      [
        "mirror.linkerd.io/remote-gateway-identity",
        "gateway.identity",
        BARE,
        GATEWAY,
        { "mirror.linkerd.io/remote-svc-fq-name": REMOTE["mirror.linkerd.io/remote-svc-fq-name"] },
      ],
      [
        "mirror.linkerd.io/remote-svc-fq-name",
        "web.emoji.svc.east",
        BARE,
        GATEWAY,
        { "mirror.linkerd.io/remote-gateway-identity": REMOTE["mirror.linkerd.io/remote-gateway-identity"] },
      ],
    ]),
  },
];

// Policy: proxies watch the outbound policies of their Services and the inbound policies of their own ports. Each Service
// has a route, each namespace a Server for each of its Services and whom all of them admit; the proxies are pods of the
// first Services. What changes is one kind of these, or the other Services' pods, of which no proxy is to hear.
import { addressOf } from "../../src/api/address.ts";
import { WatchPort } from "../../src/api/inbound.ts";
import { Watch } from "../../src/api/outbound.ts";
import { DISCOVERY_NODE_FLAGS } from "../../src/manifests/control-plane.ts";
import { addressOfService, type BenchCluster, type BenchObject } from "./cluster.ts";
import { askOf, type Change, type Load, type SubjectOf, spread } from "./subject.ts";

export type PolicyChange = "pods" | "routes" | "servers" | "authentications";

const POLICY = "/apis/policy.linkerd.io";
const ROUTES = "/apis/gateway.networking.k8s.io/v1/httproutes";
/** The port that its Server speaks for, and one that has none: nearly all pods have a port or two. */
const PORTS = [8_080, 9_090];
/** Where a message says which change it tells. */
const MARK = "change-";
const DIGITS = 9;
const DAY_MS = Date.parse("2026-01-01T00:00:00Z");

const markOf = (id: number): string => `${MARK}${String(id).padStart(DIGITS, "0")}`;

/** The change that a message tells, by the first mark in it. */
export function markedIn(bytes: Buffer, from: number, to: number, visit: (id: number) => void): void {
  const found = bytes.subarray(from, to).indexOf(MARK, 0, "latin1");
  if (found < 0) return;
  let id = 0;
  const at = from + found + MARK.length;
  for (let digit = at; digit < at + DIGITS; digit += 1) id = id * 10 + (bytes[digit]! - 48);
  visit(id);
}

/**
 * @param path of the second of two matches
 * @param change since when it is as it is
 */
const route = (cluster: BenchCluster, service: number, path: string, change: number): BenchObject => ({
  path: ROUTES,
  namespace: cluster.namespaceOf(service),
  name: `service-${service}`,
  generation: change + 1,
  // Of the generation at the start: the leader has nothing to write then.
  status: {
    parents: [
      {
        parentRef: {
          group: "core",
          kind: "Service",
          namespace: cluster.namespaceOf(service),
          name: `service-${service}`,
          port: 80,
        },
        controllerName: "linkerd.io/policy-controller",
        conditions: ["Accepted", "ResolvedRefs"].map((type) => ({
          type,
          status: "True",
          reason: type,
          message: "",
          observedGeneration: 1,
          lastTransitionTime: new Date(DAY_MS).toISOString(),
        })),
      },
    ],
  },
  spec: {
    parentRefs: [{ group: "", kind: "Service", name: `service-${service}`, port: 80 }],
    rules: [
      {
        matches: [
          { path: { type: "PathPrefix", value: "/" } },
          { path: { type: "Exact", value: `/${path}` } },
        ],
        backendRefs: [{ name: `service-${service}`, port: 80 }],
        timeouts: { request: "10s" },
      },
    ],
  },
});

/** @param change a later one makes an older Server, which wins over those before it */
const server = (cluster: BenchCluster, service: number, name: string, change: number): BenchObject => ({
  path: `${POLICY}/v1beta3/servers`,
  namespace: cluster.namespaceOf(service),
  name,
  created: new Date(DAY_MS - change * 1_000).toISOString(),
  spec: {
    podSelector: { matchLabels: { app: `service-${service}` } },
    port: "http",
    proxyProtocol: "HTTP/1",
  },
});

const authentication = (namespace: string, client: string): BenchObject => ({
  path: `${POLICY}/v1alpha1/meshtlsauthentications`,
  namespace,
  name: "clients",
  spec: {
    identities: [`${client}.${namespace}.serviceaccount.identity.mesh-system.cluster.local`],
    identityRefs: [{ kind: "Namespace", name: namespace }],
  },
});

const admission = (namespace: string): BenchObject => ({
  path: `${POLICY}/v1alpha1/authorizationpolicies`,
  namespace,
  name: "clients",
  spec: {
    targetRef: { kind: "Namespace", name: namespace },
    requiredAuthenticationRefs: [
      { group: "policy.linkerd.io", kind: "MeshTLSAuthentication", name: "clients" },
    ],
  },
});

/**
 * @param kind what changes
 * @param leads whether the controller is the replica that writes statuses, as one of them is
 */
export const policySubject =
  (kind: PolicyChange, leads = true): SubjectOf =>
  (cluster, load) => {
    cluster.leads = leads;
    for (let service = 0; service < load.services; service += 1) {
      cluster.put(route(cluster, service, "other", 0));
      cluster.put(server(cluster, service, `service-${service}`, 0));
    }
    for (let at = 0; at < load.namespaces; at += 1) {
      const namespace = cluster.namespaceOf(at);
      cluster.put(authentication(namespace, "web"));
      cluster.put(admission(namespace));
    }
    const changes = CHANGES[kind](cluster, load);
    /** The pod that a proxy is in, by name, and its Service. */
    const pods = Array.from({ length: servicesWithProxies(load) }, (_, service) => cluster.podsOf(service));
    return {
      controller: "policy",
      flags: DISCOVERY_NODE_FLAGS,
      asks(proxy, services) {
        const own = Math.floor(proxy / load.endpoints);
        const pod = pods[own]![proxy % load.endpoints]!;
        const workload = JSON.stringify({ ns: cluster.namespaceOf(own), pod });
        return [
          ...PORTS.map((port) => askOf(WatchPort, { workload, port }, true)),
          ...services.map((service) =>
            askOf(Watch, { sourceWorkload: workload, addr: addressOf(addressOfService(service), 80) }, true),
          ),
        ];
      },
      read: markedIn,
      change: changes,
    };
  };

const servicesWithProxies = ({ proxies, endpoints }: Load): number => Math.ceil(proxies / endpoints);

type Changing = (cluster: BenchCluster, load: Load) => (number: number, watchers: Uint32Array) => Change;

const CHANGES: Readonly<Record<PolicyChange, Changing>> = {
  pods: (cluster, load) => {
    const first = servicesWithProxies(load);
    return (number) => {
      cluster.replacePod(first + spread(number, load.services - first));
      return { id: 0, replaces: 0, watchers: 0 };
    };
  },
  routes: (cluster, { services }) => {
    const last = new Uint32Array(services);
    return (number, watchers) => {
      const service = spread(number, services);
      const id = number + 1;
      const replaces = last[service]!;
      last[service] = id;
      cluster.put(route(cluster, service, markOf(id), id));
      return { id, replaces, watchers: watchers[service]! };
    };
  },
  servers: (cluster, load) => {
    const services = servicesWithProxies(load);
    const last = new Uint32Array(services);
    return (number) => {
      const service = spread(number, services);
      const id = number + 1;
      const replaces = last[service]!;
      last[service] = id;
      const old = server(
        cluster,
        service,
        replaces === 0 ? `service-${service}` : markOf(replaces),
        replaces,
      );
      cluster.put(server(cluster, service, markOf(id), id));
      cluster.remove(old);
      const watchers = Math.min(load.endpoints, load.proxies - service * load.endpoints);
      return { id, replaces, watchers };
    };
  },
  authentications: (cluster, load) => {
    const last = new Uint32Array(load.namespaces);
    const proxies = new Uint32Array(load.namespaces);
    for (let proxy = 0; proxy < load.proxies; proxy += 1)
      proxies[Math.floor(proxy / load.endpoints) % load.namespaces]! += 1;
    return (number) => {
      const at = spread(number, load.namespaces);
      const id = number + 1;
      const replaces = last[at]!;
      last[at] = id;
      cluster.put(authentication(cluster.namespaceOf(at), markOf(id)));
      return { id, replaces, watchers: proxies[at]! };
    };
  },
};

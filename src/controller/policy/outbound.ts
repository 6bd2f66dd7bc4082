// The outbound policy of an address or of a Service's name: looks up in the store what the rules of rules/ decide from.
import type { MessageOf, Partially } from "../../api/codec.ts";
import type { OutboundPolicy } from "../../api/outbound.ts";
import { type BackendProblem, backendProblem } from "../../rules/backend-problem.ts";
import { chooseEgressNetwork, clusterOverlap } from "../../rules/egress-choice.ts";
import {
  type EgressAddress,
  fallbackPolicy,
  outboundPolicy,
  type ServicePort,
  type SplitBackend,
} from "../../rules/outbound-policy.ts";
import { type BackendRef, byAge } from "../../rules/policy-records.ts";
import { attachedRoutes, type Parent } from "../../rules/route-parents.ts";
import type { Trace } from "../../rules/trace.ts";
import { canonicalIp, cidrHas, parseCidr, parseIp } from "../../util/ip.ts";
import { type PortRange, portSetHas } from "../../util/port-set.ts";
import type { ServiceRecord } from "../cluster-objects.ts";
import { keyOf, type PolicyStore, parentKey } from "./store.ts";
import type { Reading } from "./tables.ts";

export interface ClusterOutboundFacts {
  readonly clusterNetworks: readonly string[];
  readonly defaultOpaquePorts: readonly PortRange[];
  readonly clusterDomain: string;
  /** Namespace whose EgressNetworks hold for clients without their own. */
  readonly globalEgressNamespace: string;
  readonly allowHeaders: boolean;
}

export type OutboundMessage = Partially<MessageOf<typeof OutboundPolicy>>;

/** What a client asks about: an address, or a Service by its name. */
export type OutboundTarget =
  | { readonly kind: "address"; readonly ip: string; readonly port: number }
  | { readonly kind: "service"; readonly namespace: string; readonly name: string; readonly port: number };

/**
 * The policy for clients of a namespace; undefined when there is none to be had: of an address within the cluster that is
 * no Service's, of a workload's own address, of a port that the Service does not have.
 */
export function policyOf(
  store: PolicyStore,
  facts: ClusterOutboundFacts,
  target: OutboundTarget,
  client: string,
  reading: Reading,
  trace?: Trace,
): OutboundMessage | undefined {
  const service = serviceOf(store, target, reading);
  if (service) return servicePolicy(store, facts, service, target.port, client, reading, trace);
  if (target.kind === "service") return undefined;
  const { ip, port } = target;
  // What has an address of its own is described by its profile, identity included.
  const known = canonicalIp(ip);
  if (store.pods.group("ip", known, reading).length > 0) return undefined;
  if (store.externalWorkloads.group("ip", known, reading).length > 0) return undefined;
  const address = parseIp(ip);
  if (facts.clusterNetworks.some((cidr) => cidrHas(parseCidr(cidr), address))) return undefined;
  return egressPolicy(store, facts, ip, port, client, reading, trace);
}

/**
 * Which clients, by their namespace, may be told something else than all others are: of a Service those whose namespace has
 * routes of its own for it, of an address outside all of them.
 */
export function consumersOf(
  store: PolicyStore,
  target: OutboundTarget,
  reading: Reading,
): (client: string) => boolean {
  const service = serviceOf(store, target, reading);
  if (!service) return () => target.kind === "address";
  const { namespace, name } = service;
  const routes = store.routes.group("parent", parentKey({ kind: "Service", namespace, name }), reading);
  const consumers = new Set(routes.map((route) => route.namespace));
  consumers.delete(namespace);
  return (client) => consumers.has(client);
}

function serviceOf(store: PolicyStore, target: OutboundTarget, reading: Reading): ServiceRecord | undefined {
  if (target.kind === "service") return store.services.get(keyOf(target), reading);
  // Two Services may bear one address for a moment, when it moves.
  const [service] = store.services
    .group("ip", canonicalIp(target.ip), reading)
    .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  return service;
}

function servicePolicy(
  store: PolicyStore,
  facts: ClusterOutboundFacts,
  service: ServiceRecord,
  port: number,
  client: string,
  reading: Reading,
  trace?: Trace,
): OutboundMessage | undefined {
  const servicePort = service.ports.find((candidate) => candidate.port === port);
  // An ExternalName has no endpoints in the cluster: its clients resolve the name it stands for.
  if (!servicePort || service.externalName) return undefined;
  const parent = portOf(store, facts, service, servicePort, reading);
  // As its status says: routes need a Service with an address of its own.
  const routes = service.headless ? [] : store.routes.group("parent", parentKey(parent), reading);
  return outboundPolicy({
    parent,
    traffic: service.traffic,
    routes: attachedRoutes(routes, { ...parent, portName: servicePort.name }, client, trace),
    split: splitOf(store, parent, reading),
    backendProblem: (ref) => problemOf(store, ref, parent, reading)?.message,
    clusterDomain: facts.clusterDomain,
    allowHeaders: facts.allowHeaders,
  });
}

/** A port of a Service, with what says how its bytes are read. */
export function portOf(
  store: PolicyStore,
  { defaultOpaquePorts }: Pick<ClusterOutboundFacts, "defaultOpaquePorts">,
  { namespace, name, opaquePorts }: ServiceRecord,
  { port, appProtocol }: ServiceRecord["ports"][number],
  reading: Reading,
): ServicePort {
  const opaque = opaquePorts ?? store.namespaces.get(namespace, reading)?.opaquePorts ?? defaultOpaquePorts;
  return { kind: "Service", namespace, name, port, appProtocol, opaque: portSetHas(opaque, port) };
}

function egressPolicy(
  store: PolicyStore,
  facts: ClusterOutboundFacts,
  ip: string,
  port: number,
  client: string,
  reading: Reading,
  trace?: Trace,
): OutboundMessage {
  const namespaces = new Set([client, facts.globalEgressNamespace]);
  const candidates = [...namespaces].flatMap((namespace) =>
    store.egressNetworks.group("namespace", namespace, reading),
  );
  const network = chooseEgressNetwork(candidates, ip, client, facts.clusterNetworks, trace);
  if (!network) return fallbackPolicy(ip, port);
  const { namespace, name, allow, traffic } = network;
  const parent: EgressAddress = { kind: "EgressNetwork", namespace, name, allow, ip, port };
  // As its status says: one that reaches into the cluster takes no routes, but what it forbids stays forbidden.
  const overlaps = clusterOverlap(network, facts.clusterNetworks) !== undefined;
  const routes = overlaps ? [] : store.routes.group("parent", parentKey(parent), reading);
  return outboundPolicy({
    parent,
    traffic,
    routes: attachedRoutes(routes, { ...parent, portName: undefined }, client, trace),
    split: [],
    backendProblem: (ref) => problemOf(store, ref, parent, reading)?.message,
    clusterDomain: facts.clusterDomain,
    allowHeaders: facts.allowHeaders,
  });
}

/** Of several splits of one Service the oldest holds. */
function splitOf(store: PolicyStore, { namespace, name }: Parent, reading: Reading): SplitBackend[] {
  const [split] = store.trafficSplits.group("service", keyOf({ namespace, name }), reading).sort(byAge);
  return (split?.backends ?? []).map(({ service, weight }) => ({
    namespace,
    name: service,
    weight,
    exists: store.services.get(keyOf({ namespace, name: service }), reading) !== undefined,
  }));
}

/** What keeps a route's backend on a parent from being used; undefined: nothing. */
export function problemOf(
  store: PolicyStore,
  ref: BackendRef,
  parent: Parent,
  reading: Reading,
): BackendProblem | undefined {
  return backendProblem(ref, parent, (kind, namespace, name) => {
    const key = keyOf({ namespace, name });
    return kind === "Service"
      ? store.services.get(key, reading)
      : store.egressNetworks.get(key, reading) && {};
  });
}

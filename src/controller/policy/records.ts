// The policy resources as records. What cannot be read admits nobody and leads nowhere; the schemas and admission tell
// its author so before it comes here.
import { isIP } from "node:net";
import {
  type AuthorizationPolicy,
  type EgressNetwork,
  type ExternalWorkload,
  type HTTPLocalRateLimitPolicy,
  type MeshTLSAuthentication,
  type NetworkAuthentication,
  PROXY_PROTOCOLS,
  type ProxyProtocol,
  type Reference,
  refersTo,
  type Server,
  type ServerAuthorization,
  type TrafficSplit,
} from "../../crds/index.ts";
import type { KubeObject } from "../../kube/types.ts";
import { KEYS } from "../../manifests/names.ts";
import { isDefaultPolicy } from "../../rules/default-policy.ts";
import {
  type AuthorizationPolicyRecord,
  type EgressNetworkRecord,
  GATEWAY_GROUP,
  type IdentityRules,
  type MeshTlsAuthenticationRecord,
  type NetworkAuthenticationRecord,
  type NetworkRule,
  POLICY_GROUP,
  type RateLimitRecord,
  type ServerAuthorizationRecord,
  type ServerRecord,
  type TargetRef,
  type TrafficSplitRecord,
  type Workload,
} from "../../rules/policy-records.ts";
import { createdAt } from "../../rules/route-record.ts";
import {
  type AnnotationProblem,
  type TrafficPlace,
  trafficSettings,
} from "../../rules/traffic-annotations.ts";
import { parseCidr } from "../../util/ip.ts";
import type { PortRange } from "../../util/port-set.ts";
import { portsOf } from "../cluster-objects.ts";

/** An object of whatever version, of whose spec nothing is taken for granted. */
type Spec<R extends { readonly spec: unknown }> = KubeObject & { readonly spec?: Partial<R["spec"]> };

const identity = (object: KubeObject) => ({
  namespace: object.metadata.namespace ?? "",
  name: object.metadata.name,
  created: createdAt(object),
});

type RefSpec = Partial<Reference>;

/** Kinds that policy refers to. */
const REFERENTS = [
  [POLICY_GROUP, "Server"],
  [POLICY_GROUP, "HTTPRoute"],
  [GATEWAY_GROUP, "HTTPRoute"],
  [GATEWAY_GROUP, "GRPCRoute"],
  [POLICY_GROUP, "MeshTLSAuthentication"],
  [POLICY_GROUP, "NetworkAuthentication"],
  ["", "ServiceAccount"],
  ["", "Namespace"],
] as const;

/** Admission takes names of kinds in any case: here they get the right one. */
function refOf(ref: RefSpec | undefined, namespace: string): TargetRef {
  const named = ref ?? {};
  const [group, kind] = REFERENTS.find(([ofGroup, ofKind]) => refersTo(named, ofGroup, ofKind)) ?? [
    named.group ?? "",
    named.kind ?? "",
  ];
  return { group, kind, name: named.name ?? "", namespace: named.namespace ?? namespace };
}

/** The names of the core's kind among references. */
const coreRefs = (refs: readonly RefSpec[] | undefined, kind: string, namespace: string): TargetRef[] =>
  (refs ?? []).map((ref) => refOf(ref, namespace)).filter((ref) => ref.group === "" && ref.kind === kind);

export function serverRecord(object: Spec<Server>): ServerRecord {
  const { podSelector, externalWorkloadSelector, port = 0, proxyProtocol, accessPolicy } = object.spec ?? {};
  const isKnown = PROXY_PROTOCOLS.includes(proxyProtocol as ProxyProtocol);
  return {
    ...identity(object),
    labels: object.metadata.labels ?? {},
    podSelector,
    externalWorkloadSelector,
    port,
    protocol: isKnown ? proxyProtocol! : "unknown",
    accessPolicy: isDefaultPolicy(accessPolicy) ? accessPolicy : "deny",
  };
}

/** Networks; undefined when one of them, or an exception, cannot be read: what is left would say something else. */
function networksOf(networks: NonNullable<EgressNetwork["spec"]["networks"]>): NetworkRule[] | undefined {
  try {
    return networks.map(({ cidr = "", except = [] }) => {
      parseCidr(cidr);
      except.forEach(parseCidr);
      return { cidr, except: [...except] };
    });
  } catch {
    return undefined;
  }
}

export function serverAuthorizationRecord(object: Spec<ServerAuthorization>): ServerAuthorizationRecord {
  const { server, client } = object.spec ?? {};
  const networks = networksOf(client?.networks ?? []);
  return {
    ...identity(object),
    server: server?.name === undefined ? { selector: server?.selector ?? {} } : { name: server.name },
    networks: networks ?? [],
    clients: networks ? clientsOf(client, object.metadata.namespace ?? "") : "none",
  };
}

function clientsOf(
  client: ServerAuthorization["spec"]["client"] | undefined,
  namespace: string,
): ServerAuthorizationRecord["clients"] {
  if (client?.unauthenticated) return "any";
  const { unauthenticatedTLS, identities, serviceAccounts } = client?.meshTLS ?? {};
  if (unauthenticatedTLS) return "mesh";
  const rules: IdentityRules = {
    identities: [...(identities ?? [])],
    serviceAccounts: (serviceAccounts ?? []).map((account) => ({
      namespace: account.namespace ?? namespace,
      name: account.name ?? "",
    })),
    namespaces: [],
  };
  return rules.identities.length + rules.serviceAccounts.length > 0 ? rules : "none";
}

export function authorizationPolicyRecord(object: Spec<AuthorizationPolicy>): AuthorizationPolicyRecord {
  const base = identity(object);
  const { targetRef, requiredAuthenticationRefs } = object.spec ?? {};
  return {
    ...base,
    // A policy protects what is in its own namespace.
    target: { ...refOf(targetRef, base.namespace), namespace: base.namespace },
    authentications: (requiredAuthenticationRefs ?? []).map((ref) => refOf(ref, base.namespace)),
  };
}

export function meshTlsAuthenticationRecord(
  object: Spec<MeshTLSAuthentication>,
): MeshTlsAuthenticationRecord {
  const base = identity(object);
  const refs = object.spec?.identityRefs;
  return {
    ...base,
    identities: [...(object.spec?.identities ?? [])],
    serviceAccounts: coreRefs(refs, "ServiceAccount", base.namespace),
    namespaces: coreRefs(refs, "Namespace", base.namespace).map(({ name }) => name),
  };
}

export function networkAuthenticationRecord(
  object: Spec<NetworkAuthentication>,
): NetworkAuthenticationRecord {
  return { ...identity(object), networks: networksOf(object.spec?.networks ?? []) ?? [] };
}

export function rateLimitRecord(object: Spec<HTTPLocalRateLimitPolicy>): RateLimitRecord {
  const base = identity(object);
  const { targetRef, total, identity: each, overrides } = object.spec ?? {};
  return {
    ...base,
    target: { ...refOf(targetRef, base.namespace), namespace: base.namespace },
    total: total?.requestsPerSecond,
    identity: each?.requestsPerSecond,
    overrides: (overrides ?? []).map(({ requestsPerSecond = 0, clientRefs }) => ({
      requestsPerSecond,
      clients: coreRefs(clientRefs, "ServiceAccount", base.namespace),
    })),
  };
}

export function egressNetworkRecord(object: Spec<EgressNetwork>): EgressNetworkRecord {
  const { trafficPolicy, networks } = object.spec ?? {};
  return {
    ...identity(object),
    // Whatever is no Allow is no permission.
    allow: trafficPolicy === "Allow",
    networks: networks && (networksOf(networks) ?? []),
    traffic: trafficSettings(object.metadata.annotations, "parent"),
  };
}

/** A share: an integer, or a quantity such as 500m (v1alpha1), which counts in thousandths. */
function weightOf(weight: number | string | undefined): number {
  const match = /^(\d{1,9})(m?)$/.exec(String(weight ?? 0));
  return match ? Number(match[1]) * (match[2] === "m" ? 1 : 1_000) : 0;
}

/** The last label of a host counts for nothing: `web`, or `web.emoji.svc.cluster.local`. */
const serviceName = (host: string | undefined): string => (host ?? "").split(".")[0]!;

export function trafficSplitRecord(object: Spec<TrafficSplit>): TrafficSplitRecord {
  const { service, backends } = object.spec ?? {};
  const weights = (backends ?? []).map(({ weight }) => weightOf(weight));
  // Thousandths only where some are written: shares as people wrote them read better.
  const unit = weights.every((weight) => weight % 1_000 === 0) ? 1_000 : 1;
  return {
    ...identity(object),
    service: serviceName(service),
    backends: (backends ?? []).map((backend, index) => ({
      service: serviceName(backend.service),
      weight: weights[index]! / unit,
    })),
  };
}

export interface ExternalWorkloadRecord extends Workload {
  readonly kind: "ExternalWorkload";
  readonly ips: readonly string[];
  readonly defaultPolicy: string | undefined;
  readonly opaquePorts: readonly PortRange[] | undefined;
}

export function externalWorkloadRecord(object: Spec<ExternalWorkload>): ExternalWorkloadRecord {
  const { annotations = {}, labels = {}, namespace = "", name } = object.metadata;
  const ports = (object.spec?.ports ?? []).map((port) => ({ name: port.name ?? "", port: port.port ?? 0 }));
  return {
    kind: "ExternalWorkload",
    namespace,
    name,
    labels,
    ports,
    ips: (object.spec?.workloadIPs ?? []).flatMap(({ ip = "" }) => (isIP(ip) ? [ip] : [])),
    defaultPolicy: annotations[KEYS.defaultInboundPolicy],
    opaquePorts: portsOf(annotations[KEYS.opaquePorts], new Map(ports.map((port) => [port.name, port.port]))),
  };
}

/** What the annotations of an object about traffic say that is not understood. */
export function annotationProblems(object: KubeObject, on: TrafficPlace): AnnotationProblem[] {
  const problems: AnnotationProblem[] = [];
  trafficSettings(object.metadata.annotations, on, problems);
  return problems;
}

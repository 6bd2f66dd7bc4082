// What the policy resources say, as small records: the vocabulary of the decisions about who may call whom and where
// requests go. They are made from the objects by controller/policy/records.ts.
import type { MessageOf } from "../api/codec.ts";
import type { GrpcRouteMatch } from "../api/grpc-route.ts";
import type { HostMatch, HttpRouteMatch, Ratio } from "../api/http-route.ts";
import type { HttpRouteFilter, UrlRewrite } from "../api/outbound.ts";
import type { ProxyProtocol } from "../crds/index.ts";
import type { LabelSelector } from "./label-selector.ts";
import type { TrafficSettings } from "./traffic-annotations.ts";

export const POLICY_GROUP = "policy.linkerd.io";
export const GATEWAY_GROUP = "gateway.networking.k8s.io";

/** What every policy object has. */
export interface PolicyObject {
  readonly namespace: string;
  readonly name: string;
  /** Creation, ms since the epoch; of two that contend the older one wins. */
  readonly created: number;
}

/** Older first, then by name: the order in which contending policies win. */
export function byAge(a: PolicyObject, b: PolicyObject): number {
  return a.created - b.created || compareText(a.namespace, b.namespace) || compareText(a.name, b.name);
}

export const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Something that serves on ports: a Pod, or an ExternalWorkload. */
export interface Workload {
  readonly kind: "Pod" | "ExternalWorkload";
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Ports by name. */
  readonly ports: readonly { readonly name: string; readonly port: number }[];
}

export interface ServerRecord extends PolicyObject {
  readonly labels: Readonly<Record<string, string>>;
  readonly podSelector: LabelSelector | undefined;
  readonly externalWorkloadSelector: LabelSelector | undefined;
  /** A number, or the name of a port of the workload. */
  readonly port: number | string;
  readonly protocol: ProxyProtocol;
  readonly accessPolicy: string;
}

export interface NetworkRule {
  readonly cidr: string;
  readonly except: readonly string[];
}

/** Mesh identities: exact ones, and `*` or `*.suffix`. */
export interface IdentityRules {
  readonly identities: readonly string[];
  readonly serviceAccounts: readonly { readonly namespace: string; readonly name: string }[];
  /** All ServiceAccounts of these namespaces. */
  readonly namespaces: readonly string[];
}

export interface ServerAuthorizationRecord extends PolicyObject {
  /** Of Servers by name, or by their labels. */
  readonly server: { readonly name: string } | { readonly selector: LabelSelector };
  /** Empty: the cluster's networks. */
  readonly networks: readonly NetworkRule[];
  /** Anyone; anyone over mesh TLS; the named; nobody, when nothing was written. */
  readonly clients: "any" | "mesh" | IdentityRules | "none";
}

export interface TargetRef {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

export interface AuthorizationPolicyRecord extends PolicyObject {
  readonly target: TargetRef;
  readonly authentications: readonly TargetRef[];
}

export interface MeshTlsAuthenticationRecord extends PolicyObject, IdentityRules {}

export interface NetworkAuthenticationRecord extends PolicyObject {
  readonly networks: readonly NetworkRule[];
}

export interface RateLimitRecord extends PolicyObject {
  readonly target: TargetRef;
  readonly total: number | undefined;
  readonly identity: number | undefined;
  readonly overrides: readonly {
    readonly requestsPerSecond: number;
    readonly clients: readonly { readonly namespace: string; readonly name: string }[];
  }[];
}

export interface EgressNetworkRecord extends PolicyObject {
  readonly allow: boolean;
  /** Undefined: everything outside the cluster's networks. */
  readonly networks: readonly NetworkRule[] | undefined;
  readonly traffic: TrafficSettings;
}

/** Kinds of routes, the one that wins on a parent first (GEP-1426, "Route types"). */
export const ROUTE_KINDS = ["GRPCRoute", "HTTPRoute", "TLSRoute", "TCPRoute"] as const;
export type RouteKind = (typeof ROUTE_KINDS)[number];

export interface ParentRef {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Undefined: all ports of the parent. */
  readonly port: number | undefined;
  readonly sectionName: string | undefined;
}

export interface BackendRef {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly port: number | undefined;
  readonly weight: number;
  readonly filters: readonly RouteFilter[];
  readonly extras: readonly ExtraFilter[];
}

/** A filter as the proxy API has it; kinds of routes and sides take some of them each. */
export type RouteFilter = MessageOf<typeof HttpRouteFilter>;

/** What the mesh's own filters do beyond the proxy API's. */
export interface RewriteFilter {
  readonly rewrite: MessageOf<typeof UrlRewrite>;
}
export interface MirrorFilter {
  readonly mirror: BackendRef;
  /** Of the requests; undefined: all. */
  readonly ratio: MessageOf<typeof Ratio> | undefined;
}
export type ExtraFilter = RewriteFilter | MirrorFilter;

export interface RouteRuleRecord {
  readonly http: readonly MessageOf<typeof HttpRouteMatch>[];
  readonly grpc: readonly MessageOf<typeof GrpcRouteMatch>[];
  readonly filters: readonly RouteFilter[];
  readonly extras: readonly ExtraFilter[];
  readonly backends: readonly BackendRef[];
  /** Of a whole request, ms. */
  readonly requestTimeout: number | undefined;
  /** Of what is sent to one backend, ms. */
  readonly backendTimeout: number | undefined;
  readonly retry: RuleRetry | undefined;
}

/** A rule's own retries (Gateway API, HTTPRouteRetry). */
export interface RuleRetry {
  readonly attempts: number;
  readonly codes: readonly number[];
  /** The shortest wait, ms. */
  readonly backoff: number | undefined;
}

export interface RouteRecord extends PolicyObject {
  readonly group: string;
  readonly kind: RouteKind;
  readonly parents: readonly ParentRef[];
  readonly hosts: readonly MessageOf<typeof HostMatch>[];
  readonly rules: readonly RouteRuleRecord[];
  readonly traffic: TrafficSettings;
  /** Why it cannot be applied, for its author; then it is applied nowhere. */
  readonly problem: string | undefined;
  /** Why it cannot be applied to Servers. */
  readonly serverProblem: string | undefined;
}

/** Names one object of the routes' kinds, of which two groups share names. */
export const routeKey = ({ group, kind, namespace, name }: TargetRef): string =>
  `${group}/${kind}/${namespace}/${name}`;

/** Weighted backends of a Service (SMI). */
export interface TrafficSplitRecord extends PolicyObject {
  readonly service: string;
  readonly backends: readonly { readonly service: string; readonly weight: number }[];
}

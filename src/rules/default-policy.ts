// The default inbound policies: who may call a port for which no rule was written.
import { networkOf } from "../api/address.ts";
import type { MessageOf } from "../api/codec.ts";
import { methodMessage } from "../api/http-types.ts";
import type { Authz, HttpRoute, Server } from "../api/inbound.ts";
import { durationOf } from "../api/time.ts";
import { ACCESS_POLICIES, type AccessPolicy } from "../crds/access-policy.ts";
import type { Trace } from "./trace.ts";

export { ACCESS_POLICIES as DEFAULT_POLICIES };
export type DefaultPolicy = AccessPolicy;

export const isDefaultPolicy = (name: string | undefined): name is DefaultPolicy =>
  ACCESS_POLICIES.includes(name as DefaultPolicy);

type AuthzMessage = MessageOf<typeof Authz>;
type ServerMessage = MessageOf<typeof Server>;

export const ANYWHERE: readonly string[] = ["0.0.0.0/0", "::/0"];

/** How long a client's protocol is waited for, ms (Linkerd's default). */
export const DETECT_TIMEOUT = 10_000;

/**
 * The authorizations of a default policy.
 * @param clusterNetworks CIDRs that count as the cluster
 */
export function defaultAuthorizations(
  policy: DefaultPolicy,
  clusterNetworks: readonly string[],
): AuthzMessage[] {
  if (policy === "deny") return [];
  const networks = policy.startsWith("cluster-") ? clusterNetworks : ANYWHERE;
  const authenticated = policy.endsWith("-authenticated");
  const name = policy === "audit" ? "audit" : policy;
  return [
    {
      networks: networks.map((cidr) => ({ net: networkOf(cidr), except: [] })),
      authentication: authenticated
        ? { meshTLS: { identities: { identities: [], suffixes: [{ parts: [] }] } } }
        : { unauthenticated: {} },
      labels: { group: "", kind: "default", name },
      metadata: { default: name },
    },
  ];
}

/** The one call of gRPC's health protocol that kubelets make (grpc.health.v1). */
export const HEALTH_CHECK = { service: "grpc.health.v1.Health", method: "Check" } as const;

/** A probe as the request that the kubelet makes: over HTTP, or by gRPC's health protocol. */
export type Probe = { readonly kind: "http"; readonly path: string } | { readonly kind: "grpc" };

/** Every connection between kubelet and pod starts outside the mesh: probes are let through by their path. */
export function probeAuthorization(): AuthzMessage {
  return {
    networks: ANYWHERE.map((cidr) => ({ net: networkOf(cidr), except: [] })),
    authentication: { unauthenticated: {} },
    labels: { group: "", kind: "default", name: "probe" },
    metadata: { default: "probe" },
  };
}

/** The routes of a port that no route is attached to: everything, and the pod's probes without a rule. */
export function defaultHttpRoutes(probes: readonly Probe[]): MessageOf<typeof HttpRoute>[] {
  /** Path → method. */
  const requests = new Map<string, string>(
    probes.map((probe) =>
      probe.kind === "http"
        ? [probe.path, "GET"]
        : [`/${HEALTH_CHECK.service}/${HEALTH_CHECK.method}`, "POST"],
    ),
  );
  return [
    {
      metadata: { default: "default" },
      hosts: [],
      // A server's authorizations hold on its default route; naming them again would only repeat them.
      authorizations: [],
      rules: [{ matches: [{ path: { prefix: "/" }, headers: [], queryParams: [] }], filters: [] }],
    },
    ...(requests.size === 0
      ? []
      : [
          {
            metadata: { default: "probe" },
            hosts: [],
            authorizations: [probeAuthorization()],
            rules: [
              {
                matches: [...requests].map(([path, method]) => ({
                  path: { exact: path },
                  headers: [],
                  queryParams: [],
                  method: methodMessage(method),
                })),
                filters: [],
              },
            ],
          },
        ]),
  ];
}

export interface ServerFacts {
  readonly policy: DefaultPolicy;
  readonly clusterNetworks: readonly string[];
  /** Bytes of this port are not to be interpreted. */
  readonly opaque: boolean;
  /** The pod's probes on this port. */
  readonly probes: readonly Probe[];
}

/** The Server message of a port that no Server resource selects. */
export function defaultServer(facts: ServerFacts, trace?: Trace): ServerMessage {
  const { policy, clusterNetworks, opaque, probes } = facts;
  const authorizations = defaultAuthorizations(policy, clusterNetworks);
  trace?.add(`default policy ${policy}`, true, "no Server resource selects the port");
  if (opaque) trace?.add("opaque port", true, "the port is marked opaque: no protocol is detected");
  const httpRoutes = defaultHttpRoutes(probes);
  return {
    protocol: opaque
      ? { opaque: {} }
      : {
          detect: { timeout: durationOf(DETECT_TIMEOUT), httpRoutes, httpLocalRateLimit: undefined },
        },
    serverIps: [],
    authorizations,
    labels: { group: "", kind: "default", name: policy },
  };
}

// What the status of routes, rate limits and EgressNetworks says: conditions with Linkerd's and the Gateway API's types
// and reasons, and a message where the reason alone does not tell what to do.
import type { ProxyProtocol } from "../crds/index.ts";
import type { BackendProblem } from "./backend-problem.ts";
import { clusterOverlap } from "./egress-choice.ts";
import type { AppProtocol } from "./outbound-policy.ts";
import {
  byAge,
  type EgressNetworkRecord,
  type ParentRef,
  type RateLimitRecord,
  ROUTE_KINDS,
  type RouteKind,
  type RouteRecord,
  type ServerRecord,
} from "./policy-records.ts";
import { conflictingRoute, parentKind, problemOn } from "./route-parents.ts";

export const CONTROLLER_NAME = "linkerd.io/policy-controller";

export interface PolicyCondition {
  readonly type: "Accepted" | "ResolvedRefs" | "Overlapped";
  readonly status: "True" | "False";
  readonly reason: string;
  readonly message: string;
}

const accepted = (reason?: string, message = ""): PolicyCondition => ({
  type: "Accepted",
  status: reason === undefined ? "True" : "False",
  reason: reason ?? "Accepted",
  message,
});

const resolved = (reason?: string, message = ""): PolicyCondition => ({
  type: "ResolvedRefs",
  status: reason === undefined ? "True" : "False",
  reason: reason ?? "ResolvedRefs",
  message,
});

/** What a route's parent is, as far as acceptance goes. */
export type ParentFacts =
  | { readonly kind: "missing" }
  | { readonly kind: "server"; readonly server: ServerRecord }
  | {
      readonly kind: "service";
      readonly headless: boolean;
      readonly externalName: boolean;
      readonly ports: readonly {
        readonly name: string;
        readonly port: number;
        readonly protocol: AppProtocol;
      }[];
    }
  | { readonly kind: "egress"; readonly network: EgressNetworkRecord };

export interface RouteFacts {
  readonly route: RouteRecord;
  readonly ref: ParentRef;
  readonly parent: ParentFacts;
  /** Routes on the same parent. */
  readonly others: readonly RouteRecord[];
  readonly clusterNetworks: readonly string[];
  /** Of its backends, as they are there. */
  readonly backendProblems: readonly BackendProblem[];
}

/** The conditions of a route on one of its parents; undefined: the parent is none of the mesh's. */
export function routeConditions(facts: RouteFacts): PolicyCondition[] | undefined {
  const kind = parentKind(facts.ref);
  if (!kind) return undefined;
  const acceptance = acceptanceOf(facts);
  // Backends are the client's matter: a Server passes what it takes to its own application.
  return kind === "Server" ? [acceptance] : [acceptance, resolutionOf(facts)];
}

function acceptanceOf({ route, ref, parent, others, clusterNetworks }: RouteFacts): PolicyCondition {
  const none = (message = "") => accepted("NoMatchingParent", message);
  switch (parent.kind) {
    case "missing":
      return none(`there is no ${ref.kind} ${ref.namespace}/${ref.name}`);
    case "server": {
      const { protocol, namespace } = parent.server;
      if (route.namespace !== namespace) return none("a Server takes routes of its own namespace only");
      if (ref.sectionName !== undefined) return none("a Server has no sections");
      if (route.kind !== "HTTPRoute" && route.kind !== "GRPCRoute")
        return none("a Server takes HTTPRoutes and GRPCRoutes only");
      if (protocol === "opaque" || protocol === "TLS")
        return none(`the Server's proxyProtocol is ${protocol}: it has no requests to route`);
      if (protocol === "gRPC" && route.kind !== "GRPCRoute")
        return none("the Server's proxyProtocol is gRPC: it takes GRPCRoutes only");
      break;
    }
    case "service":
      if (parent.externalName) return none("the parent Service is an ExternalName: it has no endpoints here");
      if (parent.headless) return none("parent service must have a ClusterIP");
      if (ref.sectionName !== undefined && !parent.ports.some(({ name }) => name === ref.sectionName))
        return none(`the Service has no port named ${ref.sectionName}`);
      if (ref.port !== undefined && !parent.ports.some(({ port }) => port === ref.port))
        return none(`the Service has no port ${ref.port}`);
      break;
    case "egress": {
      if (ref.sectionName !== undefined) return none("an EgressNetwork has no sections");
      if (clusterOverlap(parent.network, clusterNetworks) !== undefined)
        return none("EgressNetwork parent has not been accepted");
      break;
    }
  }
  const problem = problemOn(route, parentKind(ref)!);
  if (problem !== undefined) return accepted("UnsupportedValue", problem);
  const winner = conflictingRoute(route, ref, others);
  if (winner)
    return accepted(
      "RouteReasonConflicted",
      `${winner.kind} ${winner.namespace}/${winner.name} is attached to the same port, and its kind goes before ${route.kind}`,
    );
  return accepted(undefined, parent.kind === "service" ? idleOn(parent.ports, route.kind, ref) : "");
}

/** Kinds of routes that hold on a port, by how its bytes are read. */
const HELD: Readonly<Record<AppProtocol, readonly RouteKind[]>> = {
  detect: ROUTE_KINDS,
  http1: ["HTTPRoute"],
  http2: ["HTTPRoute", "GRPCRoute"],
  opaque: ["TCPRoute"],
};

/** Why an accepted route has no effect all the same: each port it is attached to is read as something else. */
function idleOn(
  ports: Extract<ParentFacts, { kind: "service" }>["ports"],
  kind: RouteKind,
  ref: ParentRef,
): string {
  const attached = ports.filter(
    ({ name, port }) =>
      (ref.port ?? port) === port && (ref.sectionName === undefined || ref.sectionName === name),
  );
  if (attached.some(({ protocol }) => HELD[protocol].includes(kind))) return "";
  const read = attached.map(({ port, protocol }) => `${port} is read as ${protocol}`);
  return read.length === 0 ? "" : `it has no effect: port ${read.join(", port ")}`;
}

function resolutionOf({ backendProblems }: RouteFacts): PolicyCondition {
  // A kind that nobody knows is said before an object that may yet come.
  const first = backendProblems.find(({ reason }) => reason === "InvalidKind") ?? backendProblems[0];
  return first ? resolved(first.reason, first.message) : resolved();
}

/** What the proxy API has no rate limits for. */
const UNLIMITED: readonly ProxyProtocol[] = ["opaque", "TLS", "gRPC"];

/**
 * @param server the Server that it names, if there is one
 * @param others rate limits on the same Server
 */
export function rateLimitCondition(
  record: RateLimitRecord,
  server: ServerRecord | undefined,
  others: readonly RateLimitRecord[],
): PolicyCondition {
  if (record.target.kind !== "Server")
    return accepted("NoMatchingTarget", `expected a Server as target, got ${record.target.kind}`);
  if (!server)
    return accepted("NoMatchingTarget", `there is no Server ${record.target.name} in the namespace`);
  if (UNLIMITED.includes(server.protocol))
    return accepted(
      "NoMatchingTarget",
      `the Server's proxyProtocol is ${server.protocol}, where requests are not limited: HTTP/1, HTTP/2 and unknown are`,
    );
  const [first] = [...others].sort(byAge);
  if (first && byAge(first, record) < 0)
    return accepted("RateLimitReasonAlreadyExists", `${first.name} limits the same Server, and is older`);
  return accepted();
}

export function egressCondition(
  record: EgressNetworkRecord,
  clusterNetworks: readonly string[],
): PolicyCondition {
  const overlap = clusterOverlap(record, clusterNetworks);
  return overlap === undefined
    ? accepted()
    : accepted(
        "EgressReasonNetworkOverlap",
        `networks overlap with clusterNetworks: ${overlap} is within the cluster`,
      );
}

/** @param where on what an older Server speaks in this one's place; undefined: nowhere */
export const overlapCondition = (where: string | undefined): PolicyCondition =>
  where === undefined
    ? { type: "Overlapped", status: "False", reason: "NoOverlap", message: "" }
    : { type: "Overlapped", status: "True", reason: "OlderServer", message: where };

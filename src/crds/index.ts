// The room's door: every kind of object that users write for the mesh, one file each.
import { AUTHORIZATION_POLICY } from "./authorization-policy.ts";
import { EGRESS_NETWORK } from "./egress-network.ts";
import { EXTERNAL_WORKLOAD } from "./external-workload.ts";
import { GRPC_ROUTE } from "./grpc-route.ts";
import { HTTP_LOCAL_RATE_LIMIT_POLICY } from "./http-local-rate-limit-policy.ts";
import { GATEWAY_HTTP_ROUTE, POLICY_HTTP_ROUTE } from "./http-route.ts";
import type { Kind } from "./kind.ts";
import { LINK } from "./link.ts";
import { MESH_TLS_AUTHENTICATION } from "./mesh-tls-authentication.ts";
import { NETWORK_AUTHENTICATION } from "./network-authentication.ts";
import { SERVER } from "./server.ts";
import { SERVER_AUTHORIZATION } from "./server-authorization.ts";
import { SERVICE_PROFILE } from "./service-profile.ts";
import { TCP_ROUTE } from "./tcp-route.ts";
import { TLS_ROUTE } from "./tls-route.ts";
import { TRAFFIC_SPLIT } from "./traffic-split.ts";

/** In the order of installation. */
export const KINDS: readonly Kind[] = [
  SERVER,
  SERVER_AUTHORIZATION,
  AUTHORIZATION_POLICY,
  MESH_TLS_AUTHENTICATION,
  NETWORK_AUTHENTICATION,
  POLICY_HTTP_ROUTE,
  HTTP_LOCAL_RATE_LIMIT_POLICY,
  EGRESS_NETWORK,
  SERVICE_PROFILE,
  EXTERNAL_WORKLOAD,
  GATEWAY_HTTP_ROUTE,
  GRPC_ROUTE,
  TLS_ROUTE,
  TCP_ROUTE,
  LINK,
  TRAFFIC_SPLIT,
];

/** The description of a kind, whatever the version. */
export const kindOf = (group: string, kind: string): Kind | undefined =>
  KINDS.find((each) => each.group === group && each.kind === kind);

export { ACCESS_POLICIES, type AccessPolicy } from "./access-policy.ts";
export type { AuthorizationPolicy } from "./authorization-policy.ts";
export type { Condition, RouteStatus } from "./conditions.ts";
export { parseGoDuration } from "./duration.ts";
export type { EgressNetwork } from "./egress-network.ts";
export type { ExternalWorkload } from "./external-workload.ts";
export type { GRPCRoute } from "./grpc-route.ts";
export type { HTTPLocalRateLimitPolicy } from "./http-local-rate-limit-policy.ts";
export type { HTTPRoute } from "./http-route.ts";
export {
  apiVersionOf,
  type CustomResourceDefinition,
  checkSpec,
  definitionOf,
  type Kind,
  versionOf,
} from "./kind.ts";
export type { Link } from "./link.ts";
export type { MeshTLSAuthentication } from "./mesh-tls-authentication.ts";
export type { NetworkAuthentication } from "./network-authentication.ts";
export type { KubeObject, ObjectMeta, OwnerReference, Resource } from "./object.ts";
export {
  type ParentReference,
  type Reference,
  refersTo,
} from "./reference.ts";
export type { ValueMatch } from "./route-parts.ts";
export type { LabelSelector } from "./selector.ts";
export { PROXY_PROTOCOLS, type ProxyProtocol, type Server } from "./server.ts";
export type { ServerAuthorization } from "./server-authorization.ts";
export type { RequestMatch, ResponseMatch, ServiceProfile } from "./service-profile.ts";
export type { TCPRoute } from "./tcp-route.ts";
export type { TLSRoute } from "./tls-route.ts";
export type { TrafficSplit } from "./traffic-split.ts";

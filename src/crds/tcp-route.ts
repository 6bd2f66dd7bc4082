// TCPRoute of the Gateway API: all connections of a port.
import { type Infer, object } from "../schema/index.ts";
import { type RouteStatus, routeStatus } from "./conditions.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { connectionRules, GATEWAY_API, gatewayParents } from "./route-parts.ts";

const tcpRouteSpec = object({ parentRefs: gatewayParents, rules: connectionRules });
export type TCPRoute = Resource<Infer<typeof tcpRouteSpec>, RouteStatus>;

export const TCP_ROUTE: Kind = {
  group: GATEWAY_API,
  kind: "TCPRoute",
  plural: "tcproutes",
  owner: "gateway-api",
  versions: [{ name: "v1alpha2", spec: tcpRouteSpec }],
  status: routeStatus,
};

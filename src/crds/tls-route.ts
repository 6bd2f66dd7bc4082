// TLSRoute of the Gateway API: connections, by the name of the server that they ask for.
import { type Infer, object, optional } from "../schema/index.ts";
import { type RouteStatus, routeStatus } from "./conditions.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { connectionRules, GATEWAY_API, gatewayParents, hostnames } from "./route-parts.ts";

const tlsRouteSpec = object({
  parentRefs: gatewayParents,
  hostnames: optional(hostnames),
  rules: connectionRules,
});
export type TLSRoute = Resource<Infer<typeof tlsRouteSpec>, RouteStatus>;

export const TLS_ROUTE: Kind = {
  group: GATEWAY_API,
  kind: "TLSRoute",
  plural: "tlsroutes",
  owner: "gateway-api",
  versions: [{ name: "v1alpha2", spec: tlsRouteSpec }],
  status: routeStatus,
};

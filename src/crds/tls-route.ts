// TLSRoute and TCPRoute of the Gateway API: connections, by server name or all of a port.
import { type Infer, list, object, optional, type Report, ruled, text } from "../schema/index.ts";
import { type RouteStatus, routeStatus } from "./conditions.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { backendReference, parentReference } from "./reference.ts";
import { GATEWAY_API, hostnames } from "./route-parts.ts";

const rules = ruled(
  list(
    object({
      name: optional(text({ minLength: 1, maxLength: 253 })),
      backendRefs: optional(list(backendReference, { maxItems: 16 })),
    }),
    { minItems: 1, maxItems: 16 },
  ),
  (value: readonly unknown[], report: Report) => {
    if (value.length > 1) report.problem("", `expected one rule, got ${value.length}`);
  },
);
const parentRefs = optional(list(parentReference(GATEWAY_API), { maxItems: 32 }));

export const tlsRouteSpec = object({ parentRefs, hostnames: optional(hostnames), rules });
export type TLSRoute = Resource<Infer<typeof tlsRouteSpec>, RouteStatus>;

export const tcpRouteSpec = object({ parentRefs, rules });
export type TCPRoute = Resource<Infer<typeof tcpRouteSpec>, RouteStatus>;

export const TLS_ROUTE: Kind = {
  group: GATEWAY_API,
  kind: "TLSRoute",
  plural: "tlsroutes",
  owner: "gateway-api",
  versions: [{ name: "v1alpha2", spec: tlsRouteSpec }],
  status: routeStatus,
};
export const TCP_ROUTE: Kind = {
  group: GATEWAY_API,
  kind: "TCPRoute",
  plural: "tcproutes",
  owner: "gateway-api",
  versions: [{ name: "v1alpha2", spec: tcpRouteSpec }],
  status: routeStatus,
};

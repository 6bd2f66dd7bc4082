// GRPCRoute of the Gateway API: which calls it takes and what becomes of them.
import { anyMap, choice, type Infer, list, object, optional, ruled, text } from "../schema/index.ts";
import { type RouteStatus, routeStatus } from "./conditions.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { backendFields } from "./reference.ts";
import { GATEWAY_API, gatewayParents, headerModifier, hostnames, valueMatches } from "./route-parts.ts";

const method = ruled(
  object({
    type: choice(["Exact", "RegularExpression"], { default: "Exact" }),
    service: optional(text({ maxLength: 1_024 })),
    method: optional(text({ maxLength: 1_024 })),
  }),
  ({ type, service = "", method: name = "" }, report) => {
    if (type === "RegularExpression")
      report.problem(
        "type",
        "expected Exact: services and methods are not matched by expressions, got RegularExpression",
      );
    if (service === "" && name === "")
      report.problem("", "expected a service, a method or both, got neither");
  },
);

const filter = ruled(
  object({
    type: text({ minLength: 1 }),
    requestHeaderModifier: optional(headerModifier),
    responseHeaderModifier: optional(headerModifier),
    requestMirror: optional(anyMap()),
    extensionRef: optional(anyMap()),
  }),
  ({ type, requestHeaderModifier, responseHeaderModifier }, report) => {
    if (type === "RequestHeaderModifier" && !requestHeaderModifier)
      report.problem("requestHeaderModifier", `expected a map for type ${type}, but it is missing`);
    if (type === "ResponseHeaderModifier" && !responseHeaderModifier)
      report.problem("responseHeaderModifier", `expected a map for type ${type}, but it is missing`);
  },
);
const filters = optional(list(filter, { maxItems: 16 }));

const grpcRouteSpec = object({
  parentRefs: gatewayParents,
  hostnames: optional(hostnames),
  rules: optional(
    list(
      object({
        name: optional(text({ minLength: 1, maxLength: 253 })),
        matches: optional(
          list(object({ method: optional(method), headers: optional(valueMatches(4_096)) }), {
            maxItems: 64,
          }),
        ),
        filters,
        backendRefs: optional(list(object({ ...backendFields, filters }), { maxItems: 16 })),
      }),
      { maxItems: 16 },
    ),
  ),
});
export type GRPCRoute = Resource<Infer<typeof grpcRouteSpec>, RouteStatus>;

export const GRPC_ROUTE: Kind = {
  group: GATEWAY_API,
  kind: "GRPCRoute",
  plural: "grpcroutes",
  owner: "gateway-api",
  versions: ["v1alpha2", "v1"].map((name) => ({ name, spec: grpcRouteSpec })),
  status: routeStatus,
  columns: [{ name: "Hostnames", path: ".spec.hostnames" }],
};

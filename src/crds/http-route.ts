// HTTPRoute, of the policy group and of the Gateway API: which requests it takes and what becomes of them.
import {
  anyMap,
  choice,
  type Infer,
  integer,
  list,
  numberChoice,
  object,
  optional,
  type Report,
  ruled,
  type Schema,
  text,
} from "../schema/index.ts";
import { type RouteStatus, routeStatus } from "./conditions.ts";
import { goDuration, parseGoDuration } from "./duration.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { backendFields, parentReference, portNumber } from "./reference.ts";
import { GATEWAY_API, headerModifier, hostname, hostnames, valueMatches } from "./route-parts.ts";

const HTTP_METHODS = [
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
  "CONNECT",
  "OPTIONS",
  "TRACE",
  "PATCH",
] as const;

const absolute = (report: Report, at: string, path: string | undefined) => {
  if (path !== undefined && !path.startsWith("/"))
    report.problem(at, `expected a path that begins with /, got ${JSON.stringify(path)}`);
};

const path = ruled(
  object({
    type: choice(["Exact", "PathPrefix", "RegularExpression"], { default: "PathPrefix" }),
    value: text({ maxLength: 1_024, default: "/" }),
  }),
  ({ type, value }, report) => {
    if (type !== "RegularExpression") absolute(report, "value", value);
  },
);

const match = object({
  path: optional(path),
  headers: optional(valueMatches(4_096)),
  queryParams: optional(valueMatches(1_024)),
  method: optional(choice(HTTP_METHODS)),
});

const redirectPath = ruled(
  object({
    type: choice(["ReplaceFullPath", "ReplacePrefixMatch"]),
    replaceFullPath: optional(text({ maxLength: 1_024 })),
    replacePrefixMatch: optional(text({ maxLength: 1_024 })),
  }),
  ({ type, replaceFullPath, replacePrefixMatch }, report) => {
    absolute(report, "replaceFullPath", replaceFullPath);
    absolute(report, "replacePrefixMatch", replacePrefixMatch);
    const wanted = type === "ReplaceFullPath" ? "replaceFullPath" : "replacePrefixMatch";
    const given = type === "ReplaceFullPath" ? replaceFullPath : replacePrefixMatch;
    if (given === undefined) report.problem(wanted, `expected a path for type ${type}, but it is missing`);
  },
);

const filterFields = {
  requestHeaderModifier: optional(headerModifier),
  responseHeaderModifier: optional(headerModifier),
  requestRedirect: optional(
    object({
      scheme: optional(choice(["http", "https"])),
      hostname: optional(hostname),
      path: optional(redirectPath),
      port: optional(portNumber),
      statusCode: optional(numberChoice([301, 302, 303, 307, 308])),
    }),
  ),
};

/** Each type of filter, and the field that says more of it. */
const FIELD_OF: Readonly<Record<string, string>> = {
  RequestHeaderModifier: "requestHeaderModifier",
  ResponseHeaderModifier: "responseHeaderModifier",
  RequestRedirect: "requestRedirect",
};

function filterRule(filter: Readonly<Record<string, unknown>>, report: Report): void {
  const type = filter["type"] as string;
  const field = FIELD_OF[type];
  if (field !== undefined && filter[field] === undefined)
    report.problem(field, `expected a map for type ${type}, but it is missing`);
  for (const [other, name] of Object.entries(FIELD_OF)) {
    if (other !== type && filter[name] !== undefined)
      report.problem(name, `expected nothing for type ${type}, which it is not about`);
  }
}

const policyFilter = ruled(
  object({
    type: choice(["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect"]),
    ...filterFields,
  }),
  filterRule,
);

/** The Gateway API has more filters than a mesh applies: they are for other controllers, and admitted. */
const gatewayFilter = ruled(
  object({
    type: text({ minLength: 1 }),
    ...filterFields,
    urlRewrite: optional(anyMap()),
    requestMirror: optional(anyMap()),
    extensionRef: optional(anyMap()),
    cors: optional(anyMap()),
    externalAuth: optional(anyMap()),
  }),
  filterRule,
);

const timeouts = ruled(
  object({ request: optional(goDuration), backendRequest: optional(goDuration) }),
  ({ request, backendRequest }, report) => {
    if (request === undefined || backendRequest === undefined) return;
    const [whole, part] = [parseGoDuration(request), parseGoDuration(backendRequest)];
    // 0s means no limit (GEP-2257).
    if (part > whole && whole !== 0)
      report.problem(
        "backendRequest",
        `expected at most the request timeout (${request}), got ${backendRequest}`,
      );
  },
);

const EVERYTHING: readonly HTTPRouteMatch[] = [{ path: { type: "PathPrefix", value: "/" } }];

/** Retries of a rule (Gateway API, HTTPRouteRetry). */
const retry = object({
  codes: optional(list(integer({ min: 400, max: 599 }))),
  attempts: optional(integer()),
  backoff: optional(goDuration),
});

const ruleFields = <T>(filter: Schema<T>) => {
  const filters = optional(list(filter, { maxItems: 16 }));
  return {
    name: optional(text({ minLength: 1, maxLength: 253 })),
    matches: list(match, { maxItems: 64, default: EVERYTHING }),
    filters,
    backendRefs: optional(list(object({ ...backendFields, filters }), { maxItems: 16 })),
    timeouts: optional(timeouts),
  };
};

const specOf = <T extends { readonly matches: readonly HTTPRouteMatch[] }>(group: string, rule: Schema<T>) =>
  object({
    parentRefs: optional(list(parentReference(group), { maxItems: 32 })),
    hostnames: optional(hostnames),
    // All else of a rule may be left out.
    rules: list(rule, { maxItems: 16, default: [{ matches: EVERYTHING } as T] }),
  });

const policyHttpRouteSpec = specOf("policy.linkerd.io", object(ruleFields(policyFilter)));
const gatewayHttpRouteSpec = specOf(
  GATEWAY_API,
  object({ ...ruleFields(gatewayFilter), retry: optional(retry) }),
);

/** Of either group: what the mesh reads is the same. */
export type HTTPRoute = Resource<Infer<typeof gatewayHttpRouteSpec>, RouteStatus>;
type HTTPRouteMatch = Infer<typeof match>;

const names = { kind: "HTTPRoute", plural: "httproutes", status: routeStatus };
const columns = [{ name: "Hostnames", path: ".spec.hostnames" }];

export const POLICY_HTTP_ROUTE: Kind = {
  ...names,
  group: "policy.linkerd.io",
  owner: "mesh",
  versions: ["v1alpha1", "v1beta1", "v1beta2", "v1beta3"].map((name) => ({
    name,
    spec: policyHttpRouteSpec,
  })),
  columns,
};
export const GATEWAY_HTTP_ROUTE: Kind = {
  ...names,
  group: GATEWAY_API,
  owner: "gateway-api",
  versions: ["v1beta1", "v1"].map((name) => ({ name, spec: gatewayHttpRouteSpec })),
  columns,
};

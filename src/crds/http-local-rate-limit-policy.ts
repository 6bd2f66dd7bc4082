// HTTPLocalRateLimitPolicy: how many requests a second a Server takes, of all, of each client, and of some.
import { described, type Infer, integer, list, object, optional, ruled } from "../schema/index.ts";
import { conditionFields } from "./conditions.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import {
  groupName,
  kindName,
  localReference,
  namespaceName,
  objectName,
  referenceText,
  refersTo,
} from "./reference.ts";

const POLICY = "policy.linkerd.io";
/** Rates travel as 32-bit numbers to the proxy. */
const requestsPerSecond = integer({ min: 1, max: 2 ** 32 - 1, format: "int64" });
const rate = object({ requestsPerSecond });

const targetRef = ruled(localReference, (target, report) => {
  if (!refersTo(target, POLICY, "Server"))
    report.problem("", `expected ${POLICY}/Server, got ${referenceText(target)}`);
});

const clientRef = ruled(
  object({
    group: optional(groupName()),
    kind: kindName(),
    namespace: optional(namespaceName),
    name: objectName,
  }),
  (client, report) => {
    if (!refersTo(client, "", "ServiceAccount"))
      report.problem("", `expected ServiceAccount, got ${referenceText(client)}`);
  },
);

const rateLimitSpec = ruled(
  object({
    targetRef,
    total: described("Of all requests together.", optional(rate)),
    identity: described("Of each client that has no rate of its own.", optional(rate)),
    overrides: optional(list(object({ requestsPerSecond, clientRefs: list(clientRef) }))),
  }),
  ({ total, identity, overrides = [] }, report) => {
    const seen = new Map<string, string>();
    overrides.forEach(({ clientRefs }, index) => {
      if (clientRefs.length === 0)
        report.warning(`overrides[${index}].clientRefs`, "it names no client and has no effect");
      clientRefs.forEach(({ namespace = "", name }, at) => {
        const path = `overrides[${index}].clientRefs[${at}]`;
        const known = seen.get(`${namespace}/${name}`);
        if (known === undefined) seen.set(`${namespace}/${name}`, path);
        else report.warning(path, `the same client has another rate at ${known}`);
      });
    });
    if (!total && !identity && overrides.length === 0)
      report.warning("", "it limits nothing: there is neither total, identity nor overrides");
    if (!total) return;
    const most = total.requestsPerSecond;
    const atMost = (path: string, value: number) => {
      if (value > most)
        report.problem(path, `expected at most total.requestsPerSecond (${most}), got ${value}`);
    };
    if (identity) atMost("identity.requestsPerSecond", identity.requestsPerSecond);
    overrides.forEach((override, index) => {
      atMost(`overrides[${index}].requestsPerSecond`, override.requestsPerSecond);
    });
  },
);
const status = object({
  conditions: optional(list(object(conditionFields), { keys: ["type"] })),
  targetRef: object({ group: groupName(POLICY), kind: kindName("Server"), name: objectName }),
});
export type HTTPLocalRateLimitPolicy = Resource<Infer<typeof rateLimitSpec>, Infer<typeof status>>;

export const HTTP_LOCAL_RATE_LIMIT_POLICY: Kind = {
  group: POLICY,
  kind: "HTTPLocalRateLimitPolicy",
  plural: "httplocalratelimitpolicies",
  owner: "mesh",
  versions: [{ name: "v1alpha1", spec: rateLimitSpec }],
  status,
  columns: [
    { name: "Target_kind", path: ".spec.targetRef.kind" },
    { name: "Target_name", path: ".spec.targetRef.name" },
    { name: "Total_RPS", path: ".spec.total.requestsPerSecond", type: "integer" },
    { name: "Identity_RPS", path: ".spec.identity.requestsPerSecond", type: "integer" },
  ],
};

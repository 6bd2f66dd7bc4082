// Server: a port of pods (or of external workloads) that policy is about.
import {
  choice,
  described,
  type Infer,
  intOrString,
  object,
  optional,
  ruled,
  type Schema,
} from "../schema/index.ts";
import { ACCESS_POLICIES } from "./access-policy.ts";
import { conditions } from "./conditions.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { labelSelector } from "./selector.ts";

export const PROXY_PROTOCOLS = ["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"] as const;
export type ProxyProtocol = (typeof PROXY_PROTOCOLS)[number];

const port = described("A container port, by number or name.", portOrName());

function portOrName(): Schema<number | string> {
  const either = intOrString({ expects: "a port by number (1-65535) or by name" });
  return ruled(either, (value, report) => {
    if (typeof value === "number" ? value < 1 || value > 65_535 : value === "")
      report.problem("", `expected a port by number (1-65535) or by name, got ${JSON.stringify(value)}`);
  });
}

const proxyProtocol = described(
  "What the port speaks; unknown: the proxy finds out.",
  choice(PROXY_PROTOCOLS, { default: "unknown" }),
);
const podSelector = described("Pods of the same namespace; all of them when it is empty.", labelSelector);
const externalWorkloadSelector = described(
  "ExternalWorkloads of the same namespace; all of them when it is empty.",
  labelSelector,
);

const podsOnly = object({ podSelector, port, proxyProtocol });
const either = {
  podSelector: optional(podSelector),
  externalWorkloadSelector: optional(externalWorkloadSelector),
  port,
  proxyProtocol,
};
const selectors = { exactlyOneOf: ["podSelector", "externalWorkloadSelector"] };

const serverSpec = object(
  {
    ...either,
    accessPolicy: described(
      "Who may come whom no authorization admits.",
      choice(ACCESS_POLICIES, { default: "deny" }),
    ),
  },
  selectors,
);
/** Ours: where an older Server selects the same port, it says so. */
const status = object({ conditions: optional(conditions) });
export type Server = Resource<Infer<typeof serverSpec>, Infer<typeof status>>;

const NEWEST = "policy.linkerd.io/v1beta3 Server";
export const SERVER: Kind = {
  group: "policy.linkerd.io",
  kind: "Server",
  plural: "servers",
  owner: "mesh",
  shortNames: ["srv"],
  versions: [
    { name: "v1alpha1", spec: podsOnly, deprecated: NEWEST },
    { name: "v1beta1", spec: podsOnly, deprecated: NEWEST },
    { name: "v1beta2", spec: object(either, selectors) },
    { name: "v1beta3", spec: serverSpec },
  ],
  status,
  columns: [
    { name: "Port", path: ".spec.port" },
    { name: "Protocol", path: ".spec.proxyProtocol" },
    { name: "Access Policy", path: ".spec.accessPolicy" },
  ],
};

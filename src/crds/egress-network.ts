// EgressNetwork: destinations outside the cluster, and whether they may be reached.
import { choice, described, type Infer, object, optional } from "../schema/index.ts";
import { conditions } from "./conditions.ts";
import type { Kind } from "./kind.ts";
import { networks } from "./networks.ts";
import type { Resource } from "./object.ts";

const egressNetworkSpec = object({
  trafficPolicy: described("What becomes of traffic that no route takes.", choice(["Allow", "Deny"])),
  networks: described("Everything outside the cluster when it is left out.", optional(networks)),
});
const status = object({ conditions: optional(conditions) });
export type EgressNetwork = Resource<Infer<typeof egressNetworkSpec>, Infer<typeof status>>;

export const EGRESS_NETWORK: Kind = {
  group: "policy.linkerd.io",
  kind: "EgressNetwork",
  plural: "egressnetworks",
  owner: "mesh",
  categories: ["policy"],
  versions: [{ name: "v1alpha1", spec: egressNetworkSpec }],
  status,
  columns: [{ name: "Traffic Policy", path: ".spec.trafficPolicy" }],
};

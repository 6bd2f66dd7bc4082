// NetworkAuthentication: clients by where they come from.
import { type Infer, object } from "../schema/index.ts";
import type { Kind } from "./kind.ts";
import { networks } from "./networks.ts";
import type { Resource } from "./object.ts";

const networkAuthenticationSpec = object({ networks });
export type NetworkAuthentication = Resource<Infer<typeof networkAuthenticationSpec>>;

export const NETWORK_AUTHENTICATION: Kind = {
  group: "policy.linkerd.io",
  kind: "NetworkAuthentication",
  plural: "networkauthentications",
  owner: "mesh",
  shortNames: ["netauthn", "networkauthn"],
  versions: [{ name: "v1alpha1", spec: networkAuthenticationSpec }],
};

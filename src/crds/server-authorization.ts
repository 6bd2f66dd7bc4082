// ServerAuthorization: who may come to a Server. Superseded by AuthorizationPolicy, and still read.
import { flag, type Infer, list, object, optional, ruled, text } from "../schema/index.ts";
import type { Kind } from "./kind.ts";
import { networks } from "./networks.ts";
import type { Resource } from "./object.ts";
import { dnsLabel } from "./reference.ts";
import { labelSelector } from "./selector.ts";

const identity = text({
  expects:
    "an identity such as web.ns.serviceaccount.identity.mesh-system.cluster.local, *, or *. and a suffix",
  pattern: /^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
});

const meshTLS = object({
  unauthenticatedTLS: optional(flag()),
  identities: optional(list(identity)),
  serviceAccounts: optional(list(object({ name: dnsLabel, namespace: optional(dnsLabel) }))),
});

const client = ruled(
  object({
    networks: optional(networks),
    unauthenticated: optional(flag()),
    meshTLS: optional(meshTLS),
  }),
  ({ unauthenticated = false, meshTLS: mesh }, report) => {
    const { identities = [], serviceAccounts = [], unauthenticatedTLS = false } = mesh ?? {};
    const named = identities.length + serviceAccounts.length > 0;
    if (mesh && unauthenticated) report.problem("unauthenticated", "expected false beside meshTLS, got true");
    if (unauthenticatedTLS && named)
      report.problem(
        "meshTLS.unauthenticatedTLS",
        "expected false beside identities or serviceAccounts, got true",
      );
    if (!unauthenticated && !unauthenticatedTLS && !named)
      report.warning("", "it authorizes nobody: it names neither clients nor unauthenticated ones");
  },
);

const serverAuthorizationSpec = object({
  server: object(
    { name: optional(dnsLabel), selector: optional(labelSelector) },
    { exactlyOneOf: ["name", "selector"] },
  ),
  client,
});
export type ServerAuthorization = Resource<Infer<typeof serverAuthorizationSpec>>;

export const SERVER_AUTHORIZATION: Kind = {
  group: "policy.linkerd.io",
  kind: "ServerAuthorization",
  plural: "serverauthorizations",
  owner: "mesh",
  shortNames: ["saz", "serverauthz", "srvauthz"],
  versions: [
    {
      name: "v1alpha1",
      spec: serverAuthorizationSpec,
      deprecated: "policy.linkerd.io/v1beta1 ServerAuthorization",
    },
    { name: "v1beta1", spec: serverAuthorizationSpec },
  ],
  columns: [{ name: "Server", path: ".spec.server.name" }],
};

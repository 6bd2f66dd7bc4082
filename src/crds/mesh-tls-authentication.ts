// MeshTLSAuthentication: clients by the identity of their certificate.
import { described, type Infer, list, object, optional, parsed, ruled, text } from "../schema/index.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { groupName, kindName, objectName, referenceText, refersTo } from "./reference.ts";

const DNS = /^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** Trust domain and path of the SPIFFE specification ("SPIFFE ID", sections 2.1 and 2.2). */
const SPIFFE = /^spiffe:\/\/[a-z0-9._-]{1,255}(\/(?!\.{1,2}(\/|$))[A-Za-z0-9._-]+)*$/;

/** Whether a text can be the identity of a client: a DNS-like name, `*`, `*.suffix`, or a SPIFFE ID. */
export const isIdentity = (source: string): boolean =>
  source.length <= 2_048 && (DNS.test(source) || SPIFFE.test(source));

const EXPECTS = "an identity: a DNS-like name, *, *. and a suffix, or spiffe://…";

const identity = parsed({ expects: EXPECTS }, (source) => {
  if (!isIdentity(source)) throw new RangeError(`expected ${EXPECTS}, got ${JSON.stringify(source)}`);
});

const identityRef = ruled(
  object({
    group: optional(groupName()),
    kind: kindName(),
    name: optional(objectName),
    namespace: optional(text({ maxLength: 253 })),
  }),
  (ref, report) => {
    if (refersTo(ref, "", "Namespace")) {
      if (ref.namespace !== undefined)
        report.problem(
          "namespace",
          `expected none for a Namespace, which is in none, got ${JSON.stringify(ref.namespace)}`,
        );
    } else if (!refersTo(ref, "", "ServiceAccount"))
      report.problem("", `expected ServiceAccount or Namespace, got ${referenceText(ref)}`);
  },
);

const meshTlsAuthenticationSpec = object(
  {
    identities: described(
      "Identities; a `*` in front takes all that end so.",
      optional(list(identity, { minItems: 1 })),
    ),
    identityRefs: described(
      "ServiceAccounts, or all of a namespace.",
      optional(list(identityRef, { minItems: 1 })),
    ),
  },
  { exactlyOneOf: ["identities", "identityRefs"] },
);
export type MeshTLSAuthentication = Resource<Infer<typeof meshTlsAuthenticationSpec>>;

export const MESH_TLS_AUTHENTICATION: Kind = {
  group: "policy.linkerd.io",
  kind: "MeshTLSAuthentication",
  plural: "meshtlsauthentications",
  owner: "mesh",
  shortNames: ["meshtlsauthn"],
  versions: [{ name: "v1alpha1", spec: meshTlsAuthenticationSpec }],
};

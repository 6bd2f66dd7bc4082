// AuthorizationPolicy: which authentications a target asks of its clients.
import { described, type Infer, list, object, ruled } from "../schema/index.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { localReference, reference, referenceText, refersTo } from "./reference.ts";

const POLICY = "policy.linkerd.io";
const GATEWAY = "gateway.networking.k8s.io";

/** Kinds that may be the target: group and kind. */
const TARGETS = [
  [POLICY, "Server"],
  [POLICY, "HTTPRoute"],
  [GATEWAY, "HTTPRoute"],
  [GATEWAY, "GRPCRoute"],
  ["", "Namespace"],
] as const;

const targetRef = ruled(localReference, (target, report) => {
  if (!TARGETS.some(([group, kind]) => refersTo(target, group, kind)))
    report.problem(
      "",
      `expected ${TARGETS.map(([group, kind]) => referenceText({ group, kind })).join(", ")} of this namespace, got ${referenceText(target)}`,
    );
});

const requiredAuthenticationRefs = ruled(list(reference), (refs, report) => {
  const of = (group: string, kind: string) =>
    refs.flatMap((ref, index) => (refersTo(ref, group, kind) ? [index] : []));
  const mesh = of(POLICY, "MeshTLSAuthentication");
  const accounts = of("", "ServiceAccount");
  const nets = of(POLICY, "NetworkAuthentication");
  const known = new Set([...mesh, ...accounts, ...nets]);
  refs.forEach((ref, index) => {
    if (!known.has(index))
      report.problem(
        `[${index}]`,
        `expected ${POLICY}/MeshTLSAuthentication, ${POLICY}/NetworkAuthentication or ServiceAccount, got ${referenceText(ref)}`,
      );
  });
  const atMostOne = (indexes: readonly number[], kind: string) => {
    if (indexes.length > 1)
      report.problem(`[${indexes[1]}]`, `expected at most one ${kind}, got another at [${indexes[0]}]`);
  };
  atMostOne(mesh, "MeshTLSAuthentication");
  atMostOne(accounts, "ServiceAccount");
  atMostOne(nets, "NetworkAuthentication");
  if (mesh.length > 0 && accounts.length > 0)
    report.problem(
      `[${Math.max(mesh[0]!, accounts[0]!)}]`,
      "expected either a MeshTLSAuthentication or a ServiceAccount, got both",
    );
  if (refs.length === 0) report.warning("", "it admits every client: no authentication is required");
});

const authorizationPolicySpec = object({
  targetRef: described("What the policy is about, in its own namespace.", targetRef),
  requiredAuthenticationRefs: described("A client must pass all of them.", requiredAuthenticationRefs),
});
export type AuthorizationPolicy = Resource<Infer<typeof authorizationPolicySpec>>;

export const AUTHORIZATION_POLICY: Kind = {
  group: POLICY,
  kind: "AuthorizationPolicy",
  plural: "authorizationpolicies",
  owner: "mesh",
  shortNames: ["authzpolicy"],
  versions: [{ name: "v1alpha1", spec: authorizationPolicySpec }],
};

// What ServerAuthorizations and AuthorizationPolicies say of clients, as authorizations of the proxy API.
import { networkOf } from "../api/address.ts";
import type { MessageOf } from "../api/codec.ts";
import type { Authz, PermitClientIdentities } from "../api/inbound.ts";
import { ANYWHERE } from "./default-policy.ts";
import {
  type AuthorizationPolicyRecord,
  type IdentityRules,
  type MeshTlsAuthenticationRecord,
  type NetworkAuthenticationRecord,
  type NetworkRule,
  POLICY_GROUP,
  type ServerAuthorizationRecord,
  type TargetRef,
} from "./policy-records.ts";
import type { Trace } from "./trace.ts";

type AuthzMessage = MessageOf<typeof Authz>;
type Authentication = NonNullable<AuthzMessage["authentication"]>;

/** Where the names of mesh identities end. */
export interface IdentityDomain {
  /** Namespace of the control plane. */
  readonly controlPlane: string;
  readonly trustDomain: string;
}

export const identityOf = (
  { namespace, name }: { namespace: string; name: string },
  { controlPlane, trustDomain }: IdentityDomain,
): string => `${name}.${namespace}.serviceaccount.identity.${controlPlane}.${trustDomain}`;

/** `*` takes everybody, `*.suffix` whoever ends so, anything else one identity. */
export function clientIdentities(
  rules: readonly IdentityRules[],
  domain: IdentityDomain,
): MessageOf<typeof PermitClientIdentities> {
  const identities: { name: string }[] = [];
  const suffixes: { parts: string[] }[] = [];
  for (const { identities: names, serviceAccounts, namespaces } of rules) {
    for (const name of names) {
      if (name === "*") suffixes.push({ parts: [] });
      else if (name.startsWith("*.")) suffixes.push({ parts: name.slice(2).split(".") });
      else identities.push({ name });
    }
    for (const account of serviceAccounts) identities.push({ name: identityOf(account, domain) });
    for (const namespace of namespaces) {
      const suffix = `${namespace}.serviceaccount.identity.${domain.controlPlane}.${domain.trustDomain}`;
      suffixes.push({ parts: suffix.split(".") });
    }
  }
  return { identities, suffixes };
}

const networksOf = (rules: readonly NetworkRule[]): AuthzMessage["networks"] =>
  rules.map(({ cidr, except }) => ({ net: networkOf(cidr), except: except.map(networkOf) }));

const everywhere = (): AuthzMessage["networks"] =>
  ANYWHERE.map((cidr) => ({ net: networkOf(cidr), except: [] }));

function authorization(
  kind: string,
  name: string,
  networks: AuthzMessage["networks"],
  authentication: Authentication,
): AuthzMessage {
  return {
    networks,
    authentication,
    labels: { group: POLICY_GROUP, kind, name },
    metadata: { resource: { group: POLICY_GROUP, kind, name, namespace: "", section: "", port: 0 } },
  };
}

/**
 * The authorization of a ServerAuthorization; undefined when it names no clients.
 * @param clusterNetworks what no networks mean
 */
export function serverAuthorization(
  { name, networks, clients }: ServerAuthorizationRecord,
  domain: IdentityDomain,
  clusterNetworks: readonly string[],
  trace?: Trace,
): AuthzMessage | undefined {
  const text = `ServerAuthorization ${name}`;
  const nets =
    networks.length > 0 ? networks : clusterNetworks.map((cidr) => ({ cidr, except: [] as string[] }));
  let authentication: Authentication;
  if (clients === "any") authentication = { unauthenticated: {} };
  else if (clients === "mesh") authentication = { meshTLS: { unauthenticated: {} } };
  else if (clients !== "none" && namesSomeone(clients))
    authentication = { meshTLS: { identities: clientIdentities([clients], domain) } };
  else {
    trace?.add(text, false, "it names no clients");
    return undefined;
  }
  trace?.add(text, true, "it is of this Server");
  return authorization("serverauthorization", name, networksOf(nets), authentication);
}

const namesSomeone = ({ identities, serviceAccounts, namespaces }: IdentityRules) =>
  identities.length + serviceAccounts.length + namespaces.length > 0;

/** Finds what an AuthorizationPolicy requires. */
export interface Authentications {
  meshTls(namespace: string, name: string): MeshTlsAuthenticationRecord | undefined;
  network(namespace: string, name: string): NetworkAuthenticationRecord | undefined;
}

/**
 * The authorization of an AuthorizationPolicy. All that it requires must hold at once; when something of it does not
 * exist, is of an unknown kind, or contradicts another, nobody is authorized: undefined.
 */
export function policyAuthorization(
  policy: AuthorizationPolicyRecord,
  found: Authentications,
  domain: IdentityDomain,
  trace?: Trace,
): AuthzMessage | undefined {
  const text = `AuthorizationPolicy ${policy.namespace}/${policy.name}`;
  const refuse = (why: string) => {
    trace?.add(text, false, why);
    return undefined;
  };
  let meshTls: MeshTlsAuthenticationRecord | undefined;
  let network: NetworkAuthenticationRecord | undefined;
  const accounts: TargetRef[] = [];
  for (const ref of policy.authentications) {
    const what = `${ref.kind} ${ref.namespace}/${ref.name}`;
    if (ref.kind === "MeshTLSAuthentication" && ref.group === POLICY_GROUP) {
      if (meshTls || accounts.length > 0) return refuse(`${what} is more than one statement of identities`);
      meshTls = found.meshTls(ref.namespace, ref.name);
      if (!meshTls) return refuse(`${what} does not exist`);
    } else if (ref.kind === "NetworkAuthentication" && ref.group === POLICY_GROUP) {
      if (network) return refuse(`${what} is more than one statement of networks`);
      network = found.network(ref.namespace, ref.name);
      if (!network) return refuse(`${what} does not exist`);
    } else if (ref.kind === "ServiceAccount" && ref.group === "") {
      if (meshTls || accounts.length > 0) return refuse(`${what} is more than one statement of identities`);
      accounts.push(ref);
    } else return refuse(`${what} is no kind of authentication`);
  }
  const identities: IdentityRules | undefined =
    meshTls ??
    (accounts.length > 0 ? { identities: [], serviceAccounts: accounts, namespaces: [] } : undefined);
  trace?.add(text, true, "all that it requires exists");
  return authorization(
    "authorizationpolicy",
    policy.name,
    network ? networksOf(network.networks) : everywhere(),
    identities
      ? { meshTLS: { identities: clientIdentities([identities], domain) } }
      : { unauthenticated: {} },
  );
}

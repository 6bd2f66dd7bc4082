// Whom authorizations admit: checked against clients, as the proxy does.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Client, compileAuthorization } from "../../src/rules/authorization.ts";
import {
  type AuthorizationPolicyRecord,
  type MeshTlsAuthenticationRecord,
  type NetworkAuthenticationRecord,
  POLICY_GROUP,
  type ServerAuthorizationRecord,
  type TargetRef,
} from "../../src/rules/policy-records.ts";
import { policyAuthorization, serverAuthorization } from "../../src/rules/server-authorizations.ts";
import { Trace } from "../../src/rules/trace.ts";

const test = suite("server authorizations");

const DOMAIN = { controlPlane: "mesh-system", trustDomain: "cluster.local" };
const id = (name: string, namespace = "emoji") =>
  `${name}.${namespace}.serviceaccount.identity.mesh-system.cluster.local`;

const CLIENTS: Record<string, Client> = {
  "web inside": { ip: "10.1.1.1", tls: true, identity: id("web") },
  "api inside": { ip: "10.1.1.2", tls: true, identity: id("api") },
  "web of voting": { ip: "10.1.1.3", tls: true, identity: id("web", "voting") },
  "web outside": { ip: "192.0.2.1", tls: true, identity: id("web") },
  "mesh without a name": { ip: "10.1.1.4", tls: true },
  "plain inside": { ip: "10.1.1.5", tls: false },
  "plain outside": { ip: "192.0.2.2", tls: false },
};
const ALL = Object.keys(CLIENTS);
const INSIDE = ALL.filter((name) => !name.endsWith("outside"));

function admitted(authz: ReturnType<typeof serverAuthorization>): string[] {
  if (!authz) return [];
  const compiled = compileAuthorization([authz]);
  return ALL.filter((name) => compiled.check(CLIENTS[name]!).allowed);
}

const base = { namespace: "emoji", name: "one", created: 0 };
const names = (identities: string[] = [], serviceAccounts: [string, string][] = []) => ({
  identities,
  serviceAccounts: serviceAccounts.map(([namespace, name]) => ({ namespace, name })),
  namespaces: [] as string[],
});

const LEGACY: [string, Partial<ServerAuthorizationRecord>, string[]][] = [
  ["anyone, of the cluster by default", { clients: "any" }, INSIDE],
  [
    "anyone of a network",
    { clients: "any", networks: [{ cidr: "192.0.2.0/24", except: [] }] },
    ["web outside", "plain outside"],
  ],
  [
    "a network with an exception",
    { clients: "any", networks: [{ cidr: "192.0.2.0/24", except: ["192.0.2.2/32"] }] },
    ["web outside"],
  ],
  ["mesh TLS", { clients: "mesh" }, ["web inside", "api inside", "web of voting", "mesh without a name"]],
  ["an identity", { clients: names([id("api")]) }, ["api inside"]],
  ["all identities", { clients: names(["*"]) }, ["web inside", "api inside", "web of voting"]],
  [
    "a suffix",
    { clients: names(["*.voting.serviceaccount.identity.mesh-system.cluster.local"]) },
    ["web of voting"],
  ],
  ["a ServiceAccount", { clients: names([], [["voting", "web"]]) }, ["web of voting"]],
  ["nobody", { clients: "none" }, []],
  ["an empty list of names", { clients: names() }, []],
];
for (const [text, change, expected] of LEGACY)
  test(`ServerAuthorization: ${text}`, () => {
    const record: ServerAuthorizationRecord = {
      ...base,
      server: { name: "web" },
      networks: [],
      clients: "none",
      ...change,
    };
    const authz = serverAuthorization(record, DOMAIN, ["10.0.0.0/8"]);
    assert.equal(admitted(authz), expected);
    if (authz) assert.equal(authz.labels, { group: POLICY_GROUP, kind: "serverauthorization", name: "one" });
  });

const MESH_TLS: Record<string, MeshTlsAuthenticationRecord> = {
  "emoji/web": { ...base, ...names([id("web")]) },
  "emoji/of-voting": { ...base, ...names(), namespaces: ["voting"] },
  "other/anyone": { ...base, ...names(["*"]) },
};
const NETWORK: Record<string, NetworkAuthenticationRecord> = {
  "emoji/outside": { ...base, networks: [{ cidr: "192.0.2.0/24", except: [] }] },
  "emoji/unreadable": { ...base, networks: [] },
};
const found = {
  meshTls: (namespace: string, name: string) => MESH_TLS[`${namespace}/${name}`],
  network: (namespace: string, name: string) => NETWORK[`${namespace}/${name}`],
};
const ref = (kind: string, name: string, namespace = "emoji", group = POLICY_GROUP): TargetRef => ({
  group: kind === "ServiceAccount" ? "" : group,
  kind,
  namespace,
  name,
});

const POLICIES: [string, TargetRef[], string[]][] = [
  ["nothing is required", [], ALL],
  ["an identity", [ref("MeshTLSAuthentication", "web")], ["web inside", "web outside"]],
  ["a namespace's ServiceAccounts", [ref("MeshTLSAuthentication", "of-voting")], ["web of voting"]],
  [
    "an authentication of another namespace",
    [ref("MeshTLSAuthentication", "anyone", "other")],
    ["web inside", "api inside", "web of voting", "web outside"],
  ],
  ["a network", [ref("NetworkAuthentication", "outside")], ["web outside", "plain outside"]],
  [
    "both at once",
    [ref("MeshTLSAuthentication", "web"), ref("NetworkAuthentication", "outside")],
    ["web outside"],
  ],
  ["a ServiceAccount", [ref("ServiceAccount", "api")], ["api inside"]],
  ["a ServiceAccount of another namespace", [ref("ServiceAccount", "web", "voting")], ["web of voting"]],
  ["an authentication that is not there", [ref("MeshTLSAuthentication", "gone")], []],
  [
    "one of two is not there",
    [ref("MeshTLSAuthentication", "web"), ref("NetworkAuthentication", "gone")],
    [],
  ],
  ["networks that cannot be read", [ref("NetworkAuthentication", "unreadable")], []],
  ["two statements of identities", [ref("MeshTLSAuthentication", "web"), ref("ServiceAccount", "api")], []],
  [
    "two statements of networks",
    [ref("NetworkAuthentication", "outside"), ref("NetworkAuthentication", "outside")],
    [],
  ],
  ["a kind that is none", [ref("Password", "web")], []],
  ["a kind of another group", [ref("MeshTLSAuthentication", "web", "emoji", "example.com")], []],
];
for (const [text, authentications, expected] of POLICIES)
  test(`AuthorizationPolicy: ${text}`, () => {
    const policy: AuthorizationPolicyRecord = {
      ...base,
      target: ref("Server", "web"),
      authentications,
    };
    const trace = new Trace();
    const authz = policyAuthorization(policy, found, DOMAIN, trace);
    assert.equal(admitted(authz), expected);
    assert.is(trace.steps[0]!.matched, authz !== undefined);
    if (authz) assert.equal(authz.labels, { group: POLICY_GROUP, kind: "authorizationpolicy", name: "one" });
  });

test.run();

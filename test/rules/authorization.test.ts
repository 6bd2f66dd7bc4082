// Who is let in, and why.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { networkOf } from "../../src/api/address.ts";
import type { MessageOf } from "../../src/api/codec.ts";
import type { Authz } from "../../src/api/inbound.ts";
import { type Client, compileAuthorization } from "../../src/rules/authorization.ts";
import { Trace } from "../../src/rules/trace.ts";

const test = suite("authorization");

type AuthzMessage = MessageOf<typeof Authz>;
const authz = (parts: Partial<AuthzMessage>): AuthzMessage => ({
  networks: [{ net: networkOf("0.0.0.0/0"), except: [] }],
  labels: {},
  metadata: { default: "rule" },
  ...parts,
});
const compiled = (...authorizations: AuthzMessage[]) => compileAuthorization(authorizations);
const named = (identities: string[], suffixes: string[][] = []): AuthzMessage["authentication"] => ({
  meshTLS: {
    identities: {
      identities: identities.map((name) => ({ name })),
      suffixes: suffixes.map((parts) => ({ parts })),
    },
  },
});

const plain: Client = { ip: "10.1.2.3", tls: false };
const anonymous: Client = { ip: "10.1.2.3", tls: true };
const web: Client = {
  ip: "10.1.2.3",
  tls: true,
  identity: "web.ns.serviceaccount.identity.mesh-system.cluster.local",
};

const CASES: [string, AuthzMessage[], Client, boolean][] = [
  ["nothing admits nobody", [], web, false],
  ["anyone is anyone", [authz({ authentication: { unauthenticated: {} } })], plain, true],
  ["no authentication given admits nobody", [authz({})], web, false],
  [
    "mesh TLS without identity suffices where asked",
    [authz({ authentication: { meshTLS: { unauthenticated: {} } } })],
    anonymous,
    true,
  ],
  [
    "mesh TLS is needed where asked",
    [authz({ authentication: { meshTLS: { unauthenticated: {} } } })],
    plain,
    false,
  ],
  ["a named identity", [authz({ authentication: named([web.identity!]) })], web, true],
  ["another identity", [authz({ authentication: named(["other.ns"]) })], web, false],
  ["an identity by suffix", [authz({ authentication: named([], [["cluster", "local"]]) })], web, true],
  ["a suffix is whole labels", [authz({ authentication: named([], [["uster", "local"]]) })], web, false],
  ["the empty suffix is every identity", [authz({ authentication: named([], [[]]) })], web, true],
  ["the empty suffix is not no identity", [authz({ authentication: named([], [[]]) })], anonymous, false],
  [
    "another network",
    [
      authz({
        networks: [{ net: networkOf("10.2.0.0/16"), except: [] }],
        authentication: { unauthenticated: {} },
      }),
    ],
    plain,
    false,
  ],
  [
    "an exception",
    [
      authz({
        networks: [{ net: networkOf("10.0.0.0/8"), except: [networkOf("10.1.0.0/16")] }],
        authentication: { unauthenticated: {} },
      }),
    ],
    plain,
    false,
  ],
  [
    "IPv6 is not in IPv4's networks",
    [authz({ authentication: { unauthenticated: {} } })],
    { ip: "fd00::1", tls: false },
    false,
  ],
  [
    "the second of two",
    [authz({ authentication: named(["x"]) }), authz({ authentication: { unauthenticated: {} } })],
    plain,
    true,
  ],
  ["loopback", [], { ip: "127.0.0.1", tls: false }, true],
  ["IPv6 loopback", [], { ip: "::1", tls: false }, true],
];

for (const [name, authorizations, client, allowed] of CASES) {
  test(name, () => assert.is(compiled(...authorizations).check(client).allowed, allowed));
}

test("an exception that cannot be read lets nobody in", () => {
  const rule = authz({
    networks: [{ net: networkOf("10.0.0.0/8"), except: [{ prefixLen: 0 }] }],
    authentication: { unauthenticated: {} },
  });
  assert.not(compiled(rule).check(plain).allowed);
});

test("the labels are those of the resource that admitted", () => {
  const resource = {
    group: "policy.linkerd.io",
    kind: "authorizationpolicy",
    name: "a",
    namespace: "n",
    section: "",
    port: 0,
  };
  const verdict = compiled(authz({ metadata: { resource }, authentication: { unauthenticated: {} } })).check(
    plain,
  );
  assert.equal(verdict.labels, { group: "policy.linkerd.io", kind: "authorizationpolicy", name: "a" });
});

test("a port that requires an identity lets in nobody without one, but the pod itself", () => {
  const strict = compileAuthorization([authz({ authentication: { unauthenticated: {} } })], true);
  assert.not(strict.check(plain).allowed);
  assert.not(strict.check(anonymous).allowed);
  assert.ok(strict.check(web).allowed);
  assert.ok(strict.check({ ip: "127.0.0.1", tls: false }).allowed);
});

test("the trace says why each rule did not match", () => {
  const trace = new Trace();
  compiled(authz({ authentication: named(["x"]) })).check(plain, trace);
  assert.equal(
    trace.steps.map((step) => [step.matched, step.why]),
    [[false, "the client has no mesh identity"]],
  );
});

test.run();

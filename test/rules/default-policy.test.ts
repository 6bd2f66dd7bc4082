// What the default policies let in.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decode, encode } from "../../src/api/codec.ts";
import { Server } from "../../src/api/inbound.ts";
import { compileAuthorization } from "../../src/rules/authorization.ts";
import {
  DEFAULT_POLICIES,
  type DefaultPolicy,
  defaultServer,
  type Probe,
} from "../../src/rules/default-policy.ts";
import { compileServerRoutes } from "../../src/rules/server-routes.ts";

const test = suite("default policy");

const inside = { ip: "10.1.2.3", tls: false };
const outside = { ip: "192.0.2.1", tls: false };
const meshed = {
  ip: "192.0.2.1",
  tls: true,
  identity: "web.demo.serviceaccount.identity.mesh-system.cluster.local",
};
const meshedInside = { ...meshed, ip: "10.1.2.3" };

/** Over the wire and back, as a proxy gets it. */
const server = (policy: DefaultPolicy, probes: Probe[] = []) =>
  decode(
    Server,
    encode(Server, defaultServer({ policy, clusterNetworks: ["10.0.0.0/8"], opaque: false, probes })),
  );

/** Who is let in: inside, outside, meshed from outside, meshed from inside. */
const TABLE: Record<DefaultPolicy, [boolean, boolean, boolean, boolean]> = {
  "all-unauthenticated": [true, true, true, true],
  "all-authenticated": [false, false, true, true],
  "cluster-unauthenticated": [true, false, false, true],
  "cluster-authenticated": [false, false, false, true],
  deny: [false, false, false, false],
  audit: [true, true, true, true],
};

for (const policy of DEFAULT_POLICIES) {
  test(`${policy} lets in whom it says, and the pod itself always`, () => {
    const authorization = compileAuthorization(server(policy).authorizations);
    const verdicts = [inside, outside, meshed, meshedInside].map(
      (client) => authorization.check(client).allowed,
    );
    assert.equal(verdicts, TABLE[policy]);
    assert.ok(authorization.check({ ip: "127.0.0.1", tls: false }).allowed);
  });
}

test("a probe reaches its path, by GET, and nothing else; one of gRPC the health check", () => {
  const routes = compileServerRoutes(
    server("all-authenticated", [{ kind: "http", path: "/ready" }, { kind: "grpc" }]),
  );
  const asks = (method: string, path: string) => {
    const facts = { method, path, authority: "", get: () => undefined };
    return routes.admits(routes.find(facts)!, outside, facts).allowed;
  };
  assert.ok(asks("GET", "/ready"));
  assert.ok(asks("GET", "/ready?verbose"));
  assert.not(asks("POST", "/ready"));
  assert.not(asks("GET", "/ready/x"));
  assert.not(asks("GET", "/"));
  assert.ok(asks("POST", "/grpc.health.v1.Health/Check"));
  assert.not(asks("POST", "/grpc.health.v1.Health/Watch"));
  assert.ok(routes.plain, "whom the server admits needs no look at the routes");
});

test.run();

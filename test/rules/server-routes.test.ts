// What a server's routes admit and do.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { networkOf } from "../../src/api/address.ts";
import type { MessageOf } from "../../src/api/codec.ts";
import type { HttpRoute, Server } from "../../src/api/inbound.ts";
import { compileServerRoutes } from "../../src/rules/server-routes.ts";

const test = suite("server routes");

const client = { ip: "10.1.2.3", tls: false };
const anyone = {
  networks: [{ net: networkOf("0.0.0.0/0"), except: [] }],
  labels: {},
  metadata: { default: "rule" },
  authentication: { unauthenticated: {} },
};
const route = (parts: Partial<MessageOf<typeof HttpRoute>>): MessageOf<typeof HttpRoute> => ({
  metadata: { resource: { group: "g", kind: "HTTPRoute", name: "r", namespace: "n", section: "", port: 0 } },
  hosts: [],
  authorizations: [],
  rules: [],
  ...parts,
});
const server = (...httpRoutes: MessageOf<typeof HttpRoute>[]): MessageOf<typeof Server> => ({
  serverIps: [],
  authorizations: [],
  labels: {},
  protocol: { detect: { httpRoutes } },
});
const facts = (path: string, headers: Record<string, string> = {}) => ({
  method: "GET",
  path,
  authority: "web",
  get: (name: string) => headers[name],
});

test("a route by prefix holds whole segments, and no path that may mean another", () => {
  const routes = compileServerRoutes(
    server(
      route({ rules: [{ filters: [], matches: [] }] }),
      route({
        authorizations: [anyone],
        rules: [{ filters: [], matches: [{ headers: [], queryParams: [], path: { prefix: "/health" } }] }],
      }),
    ),
  );
  const asks = (path: string) => routes.admits(routes.find(facts(path))!, client, facts(path)).allowed;
  for (const path of ["/health", "/health/", "/health/live", "/health?a=/../b"]) assert.ok(asks(path), path);
  const others = [
    "/",
    "/healthy",
    "/health/../admin",
    "/health/..",
    "/health/%2e%2e/admin",
    "/health//admin",
    "/health/..;/admin",
    "/health\\..\\admin",
  ];
  for (const path of others) assert.not(asks(path), path);
});

test("a route may ask for headers and expressions", () => {
  const matches = [
    {
      headers: [{ name: "X-Team", regex: "a|b" }],
      queryParams: [{ name: "v", exact: "2" }],
      path: { regex: "/v[0-9]+" },
    },
  ];
  const routes = compileServerRoutes(
    server(route({ authorizations: [anyone], rules: [{ filters: [], matches }] })),
  );
  assert.ok(routes.find(facts("/v1?v=2", { "x-team": "b" })));
  assert.is(routes.find(facts("/v1?v=3", { "x-team": "b" })), undefined);
  assert.is(routes.find(facts("/v1?v=2", { "x-team": "c" })), undefined);
  assert.is(routes.find(facts("/x?v=2", { "x-team": "b" })), undefined);
});

test("a server without routes takes every request", () => {
  const routes = compileServerRoutes(server());
  assert.ok(routes.plain);
  assert.is(routes.find(facts("/"))!.rule.route.name, "default");
});

test("routes of its own must be looked at", () => {
  assert.not(compileServerRoutes(server(route({ rules: [{ filters: [], matches: [] }] }))).plain);
});

test.run();

// Policy as its users meet it: YAML by kubectl, requests through real proxies, conditions by kubectl wait.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { object, Shop, service } from "../support/shop.ts";
import { until } from "../support/until.ts";

const test = suite("policy");
let shop: Shop;

const POLICY = "policy.linkerd.io";

const apply = (...items: object[]) => shop.apply(...items);
const remove = (...names: string[]) => shop.remove(...names);

interface Answer {
  status?: number;
  name?: string;
  path?: string;
  location?: string | null;
  error?: string | null;
  headers?: Record<string, string>;
}

/** Requests one after another from a client's pod. */
function ask(from: string, path = "/", count = 1, host = "http://api"): Answer[] {
  const script = `for(let i=0;i<${count};i++){await fetch(${JSON.stringify(host + path)},{redirect:"manual",signal:AbortSignal.timeout(20000)}).then(async r=>{let b={};try{b=JSON.parse(await r.text())}catch{}console.log(JSON.stringify({status:r.status,location:r.headers.get("location"),error:r.headers.get("l5d-proxy-error"),name:b.name,path:b.path,headers:b.headers}))},e=>console.log(JSON.stringify({error:String(e.cause?.code??e)})))}`;
  return shop
    .exec(from, "node", "--input-type=module", "-e", script)
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer);
}

const statusOf = (from: string, path?: string, host?: string) => ask(from, path, 1, host)[0]!.status;

/** Policy reaches the proxies when it does; then this status is answered. */
const comes = (status: number, from: string, path?: string, host?: string) =>
  until(
    () => statusOf(from, path, host) === status,
    30_000,
    () => `${status} to ${from} for ${path ?? "/"} (${JSON.stringify(ask(from, path, 1, host))})`,
  );

const condition = (resource: string, type: string, status: string) =>
  shop.condition(resource, type, status, 0);
const reason = (resource: string, type: string) => shop.reason(resource, type);

const SERVER = object(`${POLICY}/v1beta3`, "Server", "api", {
  spec: { podSelector: { matchLabels: { app: "api" } }, port: "http", proxyProtocol: "HTTP/1" },
});
const authorization = (name: string, target: string, kind = "Server") =>
  object(`${POLICY}/v1alpha1`, "AuthorizationPolicy", name, {
    spec: {
      targetRef: { group: POLICY, kind, name: target },
      requiredAuthenticationRefs: [{ group: POLICY, kind: "MeshTLSAuthentication", name }],
    },
  });
const account = (name: string, ...accounts: string[]) =>
  object(`${POLICY}/v1alpha1`, "MeshTLSAuthentication", name, {
    spec: { identityRefs: accounts.map((one) => ({ kind: "ServiceAccount", name: one })) },
  });
const route = (name: string, parentRef: object, rules: object[], annotations: object = {}) =>
  object(`${POLICY}/v1beta3`, "HTTPRoute", name, {
    metadata: { annotations },
    spec: { parentRefs: [parentRef], rules },
  });
const TO_API = { group: "core", kind: "Service", name: "api", port: 80 };

// uvu keeps what a hook throws to itself.
const told = (hook: () => Promise<void>) => () =>
  hook().catch((error) => {
    process.stdout.write(`${error}\n`);
    throw error;
  });

test.before(
  told(async () => {
    shop = await Shop.up(["friend", "stranger"]);
  }),
);
test.after(() => shop?.down());

test("a Server lets in whom an AuthorizationPolicy names, and the kubelet's probes", async () => {
  assert.is(statusOf("stranger"), 200);
  apply(SERVER);
  await comes(403, "stranger");
  apply(account("friends", "friend"), authorization("friends", "api"));
  await comes(200, "friend");
  assert.is(statusOf("stranger"), 403);
  const ready = shop.ask(
    "get",
    "pod",
    "api",
    "-o",
    "jsonpath={.status.conditions[?(@.type=='Ready')].status}",
  );
  assert.is(ready, "True");
});

test("a route on the Server may be opened to others; what no route takes is not found", async () => {
  const onServer = { group: POLICY, kind: "Server", name: "api" };
  const [routes, policies] = ["httproutes.policy.linkerd.io", `authorizationpolicies.${POLICY}`];
  apply(
    // Where routes are attached, probes are let through by a route like anything else.
    object(`${POLICY}/v1alpha1`, "NetworkAuthentication", "anywhere", {
      spec: { networks: [{ cidr: "0.0.0.0/0" }] },
    }),
    object(`${POLICY}/v1alpha1`, "AuthorizationPolicy", "probe", {
      spec: {
        targetRef: { group: POLICY, kind: "HTTPRoute", name: "probe" },
        requiredAuthenticationRefs: [{ group: POLICY, kind: "NetworkAuthentication", name: "anywhere" }],
      },
    }),
    route("probe", onServer, [{ matches: [{ path: { type: "Exact", value: "/ready" } }] }]),
    account("everybody", "friend", "stranger"),
    authorization("everybody", "public", "HTTPRoute"),
    route("public", onServer, [{ matches: [{ path: { type: "PathPrefix", value: "/public" } }] }]),
  );
  condition(`${routes}/public`, "Accepted", "True");
  await comes(200, "stranger", "/public/1");
  await comes(404, "friend", "/private");
  remove(`${routes}/public`, `${routes}/probe`, `${policies}/everybody`, `${policies}/probe`);
  await comes(200, "friend", "/private");
  assert.is(statusOf("stranger", "/public/1"), 403);
});

test("a local rate limit answers 429 beyond it; a second one on the same Server is told that it is one too many", async () => {
  const limit = (name: string, requestsPerSecond: number) =>
    object(`${POLICY}/v1alpha1`, "HTTPLocalRateLimitPolicy", name, {
      spec: { targetRef: { group: POLICY, kind: "Server", name: "api" }, total: { requestsPerSecond } },
    });
  apply(limit("one", 2));
  await until(() => ask("friend", "/", 10).some(({ status }) => status === 429), 30_000, "a 429");
  // Ages have seconds.
  apply(limit("two", 100));
  const [resource] = [`httplocalratelimitpolicies.${POLICY}/two`];
  const accepted = (status: string) => shop.condition(resource, "Accepted", status);
  accepted("False");
  remove(`httplocalratelimitpolicies.${POLICY}/one`);
  accepted("True");
  remove(`httplocalratelimitpolicies.${POLICY}/two`);
  remove(`servers.${POLICY}/api`, `authorizationpolicies.${POLICY}/friends`);
  await comes(200, "stranger");
});

test("outbound routes redirect, change headers, split, and end what takes too long", async () => {
  apply(
    route("api", TO_API, [
      {
        matches: [{ path: { value: "/old" } }],
        filters: [
          {
            type: "RequestRedirect",
            requestRedirect: {
              statusCode: 301,
              hostname: "example.com",
              path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/new" },
            },
          },
        ],
      },
      {
        matches: [{ path: { value: "/slow" } }],
        timeouts: { request: "300ms" },
      },
      {
        matches: [{ path: { value: "/split" } }],
        filters: [
          {
            type: "RequestHeaderModifier",
            requestHeaderModifier: { set: [{ name: "x-route", value: "split" }] },
          },
        ],
        backendRefs: [
          { name: "api", port: 80, weight: 50 },
          { name: "canary", port: 80, weight: 50 },
        ],
      },
      {
        matches: [{ path: { value: "/half" } }],
        backendRefs: [
          { name: "api", port: 80 },
          { name: "gone", port: 80 },
        ],
      },
      {},
    ]),
  );
  condition("httproutes.policy.linkerd.io/api", "Accepted", "True");
  condition("httproutes.policy.linkerd.io/api", "ResolvedRefs", "False");
  assert.is(reason("httproutes.policy.linkerd.io/api", "ResolvedRefs"), "BackendNotFound");
  await comes(301, "friend", "/old/x");
  assert.is(ask("friend", "/old/x")[0]!.location, "http://example.com/new/x");
  assert.is(statusOf("friend", "/slow/2000"), 504);
  assert.is(statusOf("friend", "/slow/1"), 200);
  const split = ask("friend", "/split", 40);
  assert.ok(split.every(({ status }) => status === 200));
  assert.equal([...new Set(split.map(({ name }) => name))].sort(), ["api", "canary"]);
  assert.is(split[0]!.headers!["x-route"], "split");
  const half = ask("friend", "/half", 40).map(({ status }) => status);
  assert.equal([...new Set(half)].sort(), [200, 500]);
  apply(service("gone", "canary"));
  condition("httproutes.policy.linkerd.io/api", "ResolvedRefs", "True");
  await until(() => ask("friend", "/half", 20).every(({ status }) => status === 200), 30_000, "no more 500");
  remove("service/gone", "httproutes.policy.linkerd.io/api");
});

test("annotations of a Service retry and time out; a misspelt one is told by an event", async () => {
  await until(() => ask("friend", "/flaky", 4).some(({ status }) => status === 503), 30_000, "a 503");
  apply(
    service("api", "api", {
      annotations: {
        "retry.linkerd.io/http": "5xx",
        "timeout.linkerd.io/request": "1s",
        "retry.linkerd.io/limits": "3",
      },
    }),
  );
  await comes(504, "friend", "/slow/5000");
  assert.ok(ask("friend", "/flaky", 10).every(({ status }) => status === 200));
  await until(
    () => shop.ask("get", "events").includes("did you mean retry.linkerd.io/limit"),
    30_000,
    "the event",
  );
});

test("definitions of the Gateway API that come later are followed; kinds of routes that conflict are told", async () => {
  const GATEWAY = "gateway.networking.k8s.io";
  shop.define(GATEWAY, "HTTPRoute");
  const rules = [
    { matches: [{ path: { type: "PathPrefix", value: "/" } }], backendRefs: [{ name: "canary", port: 80 }] },
    {
      matches: [{ path: { type: "PathPrefix", value: "/v1" } }],
      filters: [
        {
          type: "URLRewrite",
          urlRewrite: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/v2" } },
        },
        { type: "RequestMirror", requestMirror: { backendRef: { name: "canary", port: 80 } } },
      ],
    },
  ];
  apply(
    object("gateway.networking.k8s.io/v1", "HTTPRoute", "api", {
      spec: { parentRefs: [{ group: "", kind: "Service", name: "api", port: 80 }], rules },
    }),
  );
  const [resource] = ["httproutes.gateway.networking.k8s.io/api"];
  condition(resource, "Accepted", "True");
  await until(() => ask("friend")[0]!.name === "canary", 30_000, "the route");
  const [rewritten] = ask("friend", "/v1/x?y=1");
  assert.equal([rewritten!.name, rewritten!.path], ["api", "/v2/x?y=1"]);
  await until(
    () => shop.ask("logs", "canary", "-c", "server").includes("GET /v2/x?y=1"),
    30_000,
    "the copy of the request",
  );
  shop.define(GATEWAY, "GRPCRoute");
  apply(
    object("gateway.networking.k8s.io/v1", "GRPCRoute", "calls", {
      spec: { parentRefs: [{ group: "", kind: "Service", name: "api", port: 80 }], rules: [{}] },
    }),
  );
  condition("grpcroutes.gateway.networking.k8s.io/calls", "Accepted", "True");
  condition(resource, "Accepted", "False");
  assert.is(reason(resource, "Accepted"), "RouteReasonConflicted");
  shop.sandbox.ask("delete", "crd", "grpcroutes.gateway.networking.k8s.io");
  condition(resource, "Accepted", "True");
  await until(() => ask("friend")[0]!.name === "canary", 30_000, "the route again");
  remove(resource);
  await until(() => ask("friend")[0]!.name === "api", 30_000, "the Service itself");
});

test("an EgressNetwork that denies answers 403 for what lies outside, but for what a route allows", async () => {
  const egress = (name: string, networks?: object[]) =>
    object(`${POLICY}/v1alpha1`, "EgressNetwork", name, {
      spec: { trafficPolicy: "Deny", ...(networks ? { networks } : {}) },
    });
  apply(egress("outside"), egress("inside", [{ cidr: "10.0.0.0/8" }]));
  const accepted = (name: string, status: string) =>
    shop.condition(`egressnetworks.${POLICY}/${name}`, "Accepted", status);
  accepted("outside", "True");
  accepted("inside", "False");
  await comes(403, "friend", "/", "http://192.0.2.1");
  assert.is(statusOf("friend"), 200);
  apply(
    route("redirected", { group: POLICY, kind: "EgressNetwork", name: "outside", port: 80 }, [
      { filters: [{ type: "RequestRedirect", requestRedirect: { hostname: "example.com" } }] },
    ]),
  );
  await comes(302, "friend", "/", "http://192.0.2.1");
});

test("of two Servers on one port the older one holds, and the younger one's owner is told", async () => {
  apply(SERVER);
  await comes(403, "stranger", "/", "http://api");
  // Ages have seconds; the name would decide, and decide the same.
  apply({
    ...SERVER,
    metadata: { ...SERVER.metadata, name: "later" },
    spec: { ...SERVER.spec, accessPolicy: "all-unauthenticated" },
  });
  await until(() => shop.ask("get", "events").includes("ServerOverlap"), 30_000, "the event");
  shop.condition(`servers.${POLICY}/later`, "Overlapped", "True");
  assert.is(statusOf("stranger"), 403);
});

test.run();

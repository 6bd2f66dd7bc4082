// Routes of every kind as their users meet them: what changes of real traffic, what is counted of it, what the status says,
// and that all is as before once they are gone. HTTPRoutes are in policy.test.ts.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { object, type Question, Shop } from "../support/shop.ts";

const test = suite("routes");
let shop: Shop;

const POLICY = "policy.linkerd.io";
const GATEWAY = "gateway.networking.k8s.io";
const BOTH = ["api", "canary"];

const to = (port: number) => ({ group: "", kind: "Service", name: "api", port });
const shares = (port: number, api: number, canary: number) => [
  { name: "api", port, weight: api },
  { name: "canary", port, weight: canary },
];
const route = (kind: string, version: string, spec: object) =>
  object(`${GATEWAY}/${version}`, kind, "one", { spec });
const plural = (kind: string) => `${kind.toLowerCase()}s.${GATEWAY}/one`;

/** Asks until these servers answer, and no others. */
const answered = (question: Question, ...wanted: string[]) =>
  assert.equal(shop.answers("friend", question, wanted), wanted, JSON.stringify(question));

/** The client's proxy's count of what a route took to a backend. */
function counted(family: string, labels: Readonly<Record<string, string>>): number {
  const script = 'fetch("http://127.0.0.1:4191/metrics").then(async (r) => console.log(await r.text()))';
  const lines = shop.exec("friend", "node", "-e", script).split("\n");
  const wanted = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
  return lines
    .filter((line) => line.startsWith(`${family}{`) && wanted.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

// uvu keeps what a hook throws to itself.
test.before(async () => {
  try {
    shop = await Shop.up(["friend"], (early) => {
      early.define(GATEWAY, "GRPCRoute", "TLSRoute", "TCPRoute");
      const { code, stderr } = early.sandbox.mesh("install", "--crds", "--with-api", "smi", "--apply");
      assert.is(code, 0, stderr);
    });
  } catch (error) {
    process.stdout.write(`${error}\n`);
    throw error;
  }
});
test.after(() => shop?.down());

test("a GRPCRoute sends calls by method and header, by weight, and counts them", () => {
  const call = (name: string, more: Partial<Question> = {}): Question => ({
    protocol: "grpc",
    path: `/shop.Carts/${name}`,
    count: 10,
    ...more,
  });
  answered(call("Add"), "api");
  shop.apply(
    route("GRPCRoute", "v1", {
      parentRefs: [to(81)],
      rules: [
        {
          matches: [
            {
              method: { service: "shop.Carts", method: "Add" },
              headers: [{ name: "x-canary", value: "yes" }],
            },
          ],
          backendRefs: shares(81, 0, 1),
        },
        { matches: [{ method: { service: "shop.Carts", method: "List" } }], backendRefs: shares(81, 1, 1) },
        { matches: [{ method: { service: "shop.Carts", method: "Add" } }], backendRefs: shares(81, 1, 0) },
      ],
    }),
  );
  shop.condition(plural("GRPCRoute"), "Accepted", "True", 0);
  answered(call("Add", { headers: { "x-canary": "yes" } }), "canary");
  answered(call("Add"), "api");
  answered(call("List", { count: 40 }), ...BOTH);
  // Not found: no route takes it.
  answered(call("Drop"), "grpc 5");
  assert.ok(
    counted("outbound_grpc_route_request_statuses_total", { route_name: "one", route_kind: "GRPCRoute" }) >=
      60,
  );
  shop.remove(plural("GRPCRoute"));
  answered(call("Drop"), "api");
});

test("a TLSRoute sends connections by the name that they ask for", () => {
  const asking = (sni: string): Question => ({ protocol: "tls", sni, count: 5 });
  answered(asking("new.shop.test"), "api");
  shop.apply(
    route("TLSRoute", "v1alpha2", {
      parentRefs: [to(83)],
      hostnames: ["new.shop.test"],
      rules: [{ backendRefs: shares(83, 0, 1) }],
    }),
  );
  shop.condition(plural("TLSRoute"), "Accepted", "True", 0);
  answered(asking("new.shop.test"), "canary");
  answered(asking("old.shop.test"), "failed");
  assert.ok(counted("outbound_tls_route_open_total", { route_name: "one" }) >= 5);
  shop.remove(plural("TLSRoute"));
  answered(asking("old.shop.test"), "api");
});

test("a TCPRoute shares connections by weight", () => {
  const question: Question = { protocol: "tcp", count: 30 };
  answered(question, "api");
  shop.apply(
    route("TCPRoute", "v1alpha2", { parentRefs: [to(82)], rules: [{ backendRefs: shares(82, 1, 1) }] }),
  );
  shop.condition(plural("TCPRoute"), "Accepted", "True", 0);
  answered(question, ...BOTH);
  assert.ok(counted("outbound_tcp_route_open_total", { route_name: "one" }) >= 30);
  shop.remove(plural("TCPRoute"));
  answered(question, "api");
});

test("a TrafficSplit shares a Service's traffic, and routes hold beside it", () => {
  const split = object("split.smi-spec.io/v1alpha2", "TrafficSplit", "one", {
    spec: { service: "api", backends: BOTH.map((name) => ({ service: name, weight: 50 })) },
  });
  const hasty = object(`${POLICY}/v1beta3`, "HTTPRoute", "hasty", {
    spec: {
      parentRefs: [{ group: "core", kind: "Service", name: "api", port: 80 }],
      rules: [{ timeouts: { request: "300ms" } }],
    },
  });
  const question: Question = { protocol: "http", count: 30 };
  answered(question, "api");
  const refused = () =>
    shop.apply({ ...split, spec: { ...split.spec, backends: [{ service: "api", weight: -1 }] } });
  assert.throws(refused, /spec.backends\[0\].weight: expected a weight that is not negative, got -1/);
  shop.apply(split, hasty);
  answered(question, ...BOTH);
  answered({ protocol: "tcp", count: 30 }, ...BOTH);
  answered({ protocol: "http", path: "/slow/2000", count: 2 }, "504");
  assert.ok(
    counted("outbound_http_route_backend_requests_total", { route_name: "hasty", backend_name: "canary" }) >
      0,
  );
  shop.remove("trafficsplits.split.smi-spec.io/one");
  answered(question, "api");
  answered({ protocol: "http", path: "/slow/2000" }, "504");
  shop.remove(`httproutes.${POLICY}/hasty`);
  answered({ protocol: "http", path: "/slow/600" }, "api");
});

test("an EgressNetwork forbids what lies outside; a route on it sends some of that to a Service", () => {
  const outside: Question = { protocol: "http", host: "192.0.2.1", path: "/inside", count: 3 };
  const network = object(`${POLICY}/v1alpha1`, "EgressNetwork", "outside", {
    spec: { trafficPolicy: "Deny", networks: [{ cidr: "192.0.2.0/24" }] },
  });
  const resource = `egressnetworks.${POLICY}/outside`;
  shop.apply(network);
  shop.condition(resource, "Accepted", "True");
  answered(outside, "403");
  assert.ok(counted("outbound_http_route_request_statuses_total", { route_name: "http-egress-deny" }) >= 3);
  shop.apply(
    object(`${POLICY}/v1beta3`, "HTTPRoute", "inward", {
      spec: {
        parentRefs: [{ group: POLICY, kind: "EgressNetwork", name: "outside", port: 80 }],
        rules: [{ matches: [{ path: { value: "/inside" } }], backendRefs: [{ name: "canary", port: 80 }] }],
      },
    }),
  );
  shop.condition(`httproutes.${POLICY}/inward`, "Accepted", "True", 0);
  answered(outside, "canary");
  answered({ ...outside, path: "/elsewhere" }, "403");
  assert.ok(counted("outbound_http_route_request_statuses_total", { route_name: "inward" }) >= 3);
  shop.remove(`httproutes.${POLICY}/inward`);
  answered(outside, "403");
  shop.remove(resource);
  // Nobody is there: the connection fails, and the mesh does not forbid it.
  answered({ ...outside, count: 1 }, "504");
});

test.run();

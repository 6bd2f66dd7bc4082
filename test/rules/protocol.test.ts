// How a connection is treated, by what the control plane knows of its target.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { MessageOf } from "../../src/api/codec.ts";
import type { DestinationProfile } from "../../src/api/destination.ts";
import type { HttpRoute, OutboundPolicy } from "../../src/api/outbound.ts";
import type { OutboundRoutes } from "../../src/rules/outbound-routes.ts";
import { inboundProtocol, outboundProtocol } from "../../src/rules/protocol.ts";

const test = suite("protocol choice");

const profile = (
  parts: Partial<MessageOf<typeof DestinationProfile>> = {},
): MessageOf<typeof DestinationProfile> => ({
  fullyQualifiedName: "",
  opaqueProtocol: false,
  routes: [],
  dstOverrides: [],
  ...parts,
});
const route = (path: string): MessageOf<typeof HttpRoute> => ({
  metadata: { default: "http" },
  hosts: [],
  rules: [
    {
      matches: [],
      filters: [],
      allowL5dRequestHeaders: false,
      backends: {
        firstAvailable: {
          backends: [{ filters: [], backend: { balancer: { discovery: { dst: { path } } } } }],
        },
      },
    },
  ],
});
const http1 = (path: string): MessageOf<typeof OutboundPolicy> => ({
  protocol: { http1: { routes: [route(path)] } },
});

const pathOf = (routes: OutboundRoutes | undefined) => {
  const target = routes?.only?.target;
  return target?.kind === "balance" ? target.path : undefined;
};

test("an unknown address is read by its first bytes and forwarded as it is", () => {
  const { mode, http1: routes, opaque, authority, timeout } = outboundProtocol(null, null, 80, 7);
  assert.equal(
    [mode, routes?.only?.target, opaque.distribution.backends[0]?.target, authority, timeout],
    ["detect", { kind: "original" }, { kind: "original" }, undefined, 7],
  );
});

test("a named service without policy is balanced by its name", () => {
  const { http2, authority } = outboundProtocol(profile({ fullyQualifiedName: "web.ns" }), null, 80, 0);
  assert.equal(http2?.only?.target, { kind: "balance", path: "web.ns:80" });
  assert.is(authority, "web.ns:80");
});

test("connections of bytes: backends by weight, what is refused leads nowhere", () => {
  const backend = (path: string) => ({ balancer: { discovery: { dst: { path } } } });
  const weighted = (weight: number, path: string | undefined, filters: object[] = []) => ({
    backend: { backend: path === undefined ? {} : backend(path), filters },
    weight,
  });
  const of = (rule: object, kind = "opaque") => {
    const protocol = { [kind]: { routes: [{ snis: [], rules: [{ filters: [], ...rule }] }] } };
    const found = outboundProtocol(null, { protocol } as never, 80, 0);
    const { backends } = kind === "tls" ? found.tls!.find("any")!.distribution : found.opaque.distribution;
    return backends.map(({ target, weight }) => {
      const where = target.kind === "balance" ? target.path : target.kind;
      return `${where}${target.kind === "nowhere" ? ` ${target.refusal}: ${target.why}` : ""} ${weight}`;
    });
  };
  const random = {
    backends: {
      randomAvailable: {
        backends: [
          weighted(9, "a:1"),
          weighted(1, "b:1"),
          weighted(2, "c:1", [{ invalid: { message: "Service not found c" } }]),
        ],
      },
    },
  };
  const shares = ["a:1 9", "b:1 1", "nowhere no-route: Service not found c 2"];
  assert.equal(of(random), shares);
  assert.equal(of(random, "tls"), shares);
  const first = { backends: { firstAvailable: { backends: [{ backend: backend("a:1"), filters: [] }] } } };
  assert.equal(of(first), ["a:1 1"]);
  assert.equal(of({ ...first, filters: [{ forbidden: {} }] }), [
    "nowhere unauthorized: the policy forbids it 1",
  ]);
});

test("the policy's backend goes before the profile's name", () => {
  const { mode, http1: routes } = outboundProtocol(
    profile({ fullyQualifiedName: "web.ns" }),
    http1("other.ns:81"),
    80,
    0,
  );
  assert.is(mode, "http1");
  assert.is(pathOf(routes), "other.ns:81");
});

test("a profile's opaque mark goes before the policy's protocol", () => {
  assert.is(outboundProtocol(profile({ opaqueProtocol: true }), http1("a:1"), 80, 0).mode, "opaque");
});

test("a detecting policy has its own timeout", () => {
  const policy: MessageOf<typeof OutboundPolicy> = {
    protocol: { detect: { timeout: { seconds: 2, nanos: 0 }, http1: { routes: [route("a:1")] } } },
  };
  const { mode, timeout, http1: routes } = outboundProtocol(null, policy, 80, 0);
  assert.equal([mode, timeout, pathOf(routes)], ["detect", 2_000, "a:1"]);
});

test("inbound: the policy's protocol, its timeout, and none that is unknown", () => {
  const server = { serverIps: [], authorizations: [], labels: {} };
  assert.is(inboundProtocol({ ...server, protocol: { opaque: {} } }, 10)?.mode, "opaque");
  assert.equal(
    inboundProtocol(
      { ...server, protocol: { detect: { httpRoutes: [], timeout: { seconds: 1, nanos: 0 } } } },
      10,
    ),
    {
      mode: "detect",
      timeout: 1_000,
    },
  );
  assert.is(inboundProtocol({ ...server, protocol: {} }, 10), undefined);
  assert.is(inboundProtocol(server, 10), undefined);
});

test.run();

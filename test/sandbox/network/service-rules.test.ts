// The rules that Services become.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { KubeObject } from "../../../src/sandbox/cluster.ts";
import { renderRules, servicePorts } from "../../../src/sandbox/network/service-rules.ts";

const test = suite("service rules");

const service = (name: string, spec: object): KubeObject => ({ metadata: { name, namespace: "shop" }, spec });
const slice = (
  name: string,
  endpoints: object[],
  ports: object[] = [{ name: "http", port: 8080 }],
): KubeObject => ({
  metadata: { name: `${name}-x`, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
  addressType: "IPv4",
  ports,
  endpoints,
});
const at = (ip: string, conditions: object = { ready: true }) => ({ addresses: [ip], conditions });
const HTTP = [{ name: "http", port: 80, protocol: "TCP" }];

test("renders the golden transaction", () => {
  const ports = servicePorts(
    [
      service("web", { clusterIP: "10.96.0.20", ports: [{ ...HTTP[0], nodePort: 30080 }] }),
      service("dns", { clusterIP: "10.96.0.21", ports: [{ name: "http", port: 53, protocol: "UDP" }] }),
      service("empty", { clusterIP: "10.96.0.22", ports: [{ ...HTTP[0], nodePort: 30081 }] }),
      service("sticky", { clusterIP: "10.96.0.23", sessionAffinity: "ClientIP", ports: HTTP }),
      service("headless", { clusterIP: "None", ports: HTTP }),
    ],
    [
      slice("web", [at("10.244.0.5"), at("10.244.0.4"), at("10.244.0.6")]),
      slice("dns", [at("10.244.0.7")], [{ name: "http", port: 53, protocol: "UDP" }]),
      slice("sticky", [at("10.244.0.8"), at("10.244.0.9")]),
      slice("headless", [at("10.244.0.9")]),
    ],
  );
  const { text } = renderRules(ports, { hook: true, affinity: true });
  assert.fixture(
    text,
    readFileSync(new URL("../../fixtures/sandbox/service-rules.txt", import.meta.url), "utf8"),
  );
});

test("only ready endpoints take traffic; an unset condition means ready", () => {
  const [port] = servicePorts(
    [service("web", { clusterIP: "10.96.0.20", ports: HTTP })],
    [
      slice("web", [
        at("10.244.0.4", {}),
        at("10.244.0.5", { ready: false, serving: true }),
        at("10.244.0.6"),
      ]),
    ],
  );
  assert.equal(
    port!.endpoints.map((endpoint) => endpoint.ip),
    ["10.244.0.4", "10.244.0.6"],
  );
});

test("endpoints that serve while they terminate are used when nothing else is left", () => {
  const leaving = { ready: false, serving: true, terminating: true };
  const gone = { ready: false, serving: false, terminating: true };
  const [port] = servicePorts(
    [service("web", { clusterIP: "10.96.0.20", ports: HTTP })],
    [slice("web", [at("10.244.0.4", leaving), at("10.244.0.5", gone)])],
  );
  assert.equal(
    port!.endpoints.map((endpoint) => endpoint.ip),
    ["10.244.0.4"],
  );
});

test("chains that fell out of use are removed in the same transaction", () => {
  const services = [service("web", { clusterIP: "10.96.0.20", ports: HTTP })];
  const before = renderRules(servicePorts(services, [slice("web", [at("10.244.0.4"), at("10.244.0.5")])]), {
    hook: true,
    affinity: false,
  });
  const after = renderRules(servicePorts(services, [slice("web", [at("10.244.0.5")])]), {
    hook: false,
    affinity: false,
    previousChains: before.chains,
  });
  const removed = [...before.chains].filter((chain) => !after.chains.has(chain));
  assert.is(removed.length, 1);
  assert.match(after.text, `:${removed[0]} - [0:0]`);
  assert.match(after.text, `-X ${removed[0]}`);
  assert.not.match(after.text, "-A PREROUTING");
});

test("shares are equal whatever the number of endpoints", () => {
  const ips = Array.from({ length: 5 }, (_, i) => at(`10.244.0.${10 + i}`));
  const ports = servicePorts([service("web", { clusterIP: "10.96.0.20", ports: HTTP })], [slice("web", ips)]);
  const { text } = renderRules(ports, { hook: false, affinity: false });
  let left = 1;
  const shares: number[] = [];
  for (const match of text.matchAll(/-A KUBE-SVC-\S+ .*?(?:--probability ([\d.]+) )?-j KUBE-SEP/g)) {
    const share = left * Number(match[1] ?? 1);
    shares.push(share);
    left -= share;
  }
  assert.is(shares.length, 5);
  for (const share of shares) assert.ok(Math.abs(share - 0.2) < 1e-6, String(share));
});

test.run();

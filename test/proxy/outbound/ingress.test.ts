// Ingress mode on real sockets: requests that name their destination, and proxies that do not listen to them.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readOverride } from "../../../src/proxy/outbound/override.ts";
import { endpointSet, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, type RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("ingress mode");
const SUFFIXES = ["svc.cluster.local."];
const INGRESS = { config: { ingress: { suffixes: SUFFIXES } } };
const WEB = "web.shop.svc.cluster.local";

const answering = (name: string, seen: string[]) => (peer: RawPeer) => {
  peer.onData = (received) => {
    if (!received.endsWith("\r\n\r\n")) return;
    seen.push(received);
    peer.send(`HTTP/1.1 200 OK\r\ncontent-length: ${name.length}\r\n\r\n${name}`);
  };
};
const get = (override?: string) =>
  `GET / HTTP/1.1\r\nhost: a\r\n${override === undefined ? "" : `l5d-dst-override: ${override}\r\n`}\r\n`;

/** A client whose connections are meant for one server, while `web` is served by another. */
async function withServers(
  options: Parameters<typeof startOutbound>[1],
  body: (rig: {
    ask: (override?: string) => Promise<string>;
    proxy: Awaited<ReturnType<typeof startOutbound>>;
    seen: string[];
  }) => Promise<void>,
): Promise<void> {
  const seen: string[] = [];
  const original = await RawServer.start(answering("original", seen));
  const web = await RawServer.start(answering("web", seen));
  const proxy = await startOutbound({ ip: "127.0.0.1", port: original.port }, options);
  proxy.discovery.service(`${WEB}:80`, WEB, [{ port: web.port }]);
  const client = new RawClient(proxy.port);
  try {
    await body({
      ask: async (override) => {
        client.received = "";
        client.send(get(override));
        await until(() => /\r\n\r\n(web|original)$|HTTP\/1.1 [45].*\r\n\r\n/s.test(client.received));
        return client.received;
      },
      proxy,
      seen,
    });
  } finally {
    client.destroy();
    proxy.path.close();
    await original.close();
    await web.close();
  }
}

test("a request goes where it says, one without a name where its connection was meant to go", () =>
  withServers(INGRESS, async ({ ask, seen, proxy }) => {
    assert.match(await ask(`${WEB}:80`), /\r\n\r\nweb$/);
    assert.match(await ask(), /\r\n\r\noriginal$/);
    assert.match(await ask(WEB.toUpperCase()), /\r\n\r\nweb$/);
    assert.match(await ask(`${WEB}.:80`), /\r\n\r\nweb$/);
    assert.not(seen.join("").includes("l5d-dst-override"), "the header is not passed on");
    assert.match(proxy.registry.expose(), `authority="${WEB}:80"`);
  }));

test("in other pods the header does nothing and goes no further", () =>
  withServers({}, async ({ ask, seen }) => {
    assert.match(await ask(`${WEB}:80`), /\r\n\r\noriginal$/);
    assert.not(seen.join("").includes("l5d-dst-override"));
  }));

test("names that may not be looked up, that are none, and that nobody knows are told apart", () =>
  withServers(INGRESS, async ({ ask, proxy }) => {
    assert.match(await ask("example.com:80"), /^HTTP\/1.1 404 .*MESH-303/s);
    assert.match(await ask("127.0.0.1:80"), /^HTTP\/1.1 404 /);
    assert.match(await ask(`${WEB}:80`), /\r\n\r\nweb$/, "the connection serves on");
    proxy.discovery.profileOf("nobody.shop.svc.cluster.local:80");
    assert.match(await ask("nobody.shop.svc.cluster.local:80"), /^HTTP\/1.1 504 .*MESH-301/s);
  }));

test("a named service without endpoints is waited for, not passed by", () =>
  withServers({ config: { ...INGRESS.config, failfastTimeout: 50 } }, async ({ ask, proxy }) => {
    proxy.discovery.endpointsOf(`${WEB}:80`).set(endpointSet([]));
    assert.match(await ask(`${WEB}:80`), /^HTTP\/1.1 504 /);
  }));

test("the header is read strictly", () => {
  for (const [text, expected] of [
    ["web.shop.svc.cluster.local:8080", { name: WEB, port: 8080 }],
    [" Web.shop.svc.cluster.local. ", { name: WEB, port: 80 }],
    ["svc.cluster.local", { name: "svc.cluster.local", port: 80 }],
  ] as const)
    assert.equal(readOverride(text, SUFFIXES), expected, text);
  const refused = [
    "",
    ":80",
    "web:0",
    "web:99999",
    "10.0.0.1:80",
    "[::1]:80",
    "a b",
    "a..b",
    "evil-svc.cluster.local",
    "web.shop.svc.cluster.local.example.com",
    `${"a.".repeat(150)}svc.cluster.local`,
    "a, b",
  ];
  for (const text of refused) assert.ok("problem" in readOverride(text, SUFFIXES), text);
  assert.equal(readOverride("example.com", ["."]), { name: "example.com", port: 80 });
});

test.run();

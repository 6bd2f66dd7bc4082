// The labels of the proxy's families, as linkerd2-proxy has them (reference/data-planes.md §1.22): what a meshed pair
// writes after one request, one connection of bytes, and one of each that is refused.
import * as net from "node:net";
import { networkInterfaces } from "node:os";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseMetrics, type Sample } from "../../../src/metrics/parse.ts";
import { createAuthority, serverPolicy, startInbound, startOutbound } from "../../support/proxy-fakes.ts";
import { until } from "../../support/until.ts";
import { RawClient, RawPeer, RawServer } from "../../support/wire.ts";

const test = suite("labels");
const WEB = "web.emoji.serviceaccount.identity.test";
const APP = "app.emoji.serviceaccount.identity.test";
/** What comes from loopback is the pod's own, and always admitted. */
const address = Object.values(networkInterfaces())
  .flat()
  .find((each) => each?.family === "IPv4" && !each.internal)!.address;
const GET = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";

/** Both expositions after the traffic, and the port of the application. */
async function traffic(): Promise<{ inbound: string; outbound: string; port: number; peer: number }> {
  const undo: (() => unknown)[] = [];
  const app = await RawServer.start((peer) => {
    peer.socket.on("end", () => peer.end());
    peer.onData = (received) => {
      if (received.endsWith("\r\n\r\n")) peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      else if (received === "\x00") peer.send("\x01");
    };
  });
  undo.push(() => app.close());
  const authority = createAuthority();
  const inbound = await startInbound(
    { ip: "127.0.0.1", port: app.port },
    { identity: authority.identity(WEB), config: { listen: [{ ip: "0.0.0.0", port: 0 }] } },
  );
  undo.push(() => inbound.path.close());
  const outbound = await startOutbound({ ip: "127.0.0.1", port: 80 }, { identity: authority.identity(APP) });
  undo.push(() => outbound.path.close());
  const labels = { deployment: "web", namespace: "emoji", zone_locality: "remote" };
  outbound.discovery.service("127.0.0.1:80", "web.emoji.svc.cluster.local", [
    { ip: address, port: inbound.port, identity: WEB, labels },
  ]);
  const server = inbound.discovery.serverOf(app.port);
  server.set(serverPolicy("authenticated"));
  try {
    await new RawClient(outbound.port).send(GET).sees("ok");
    const bytes = new RawClient(outbound.port).send("\x00");
    await bytes.sees("\x01");
    bytes.end();
    await bytes.seesEnd();
    bytes.destroy();
    // Without a mesh, and refused: by request, and by connection.
    const bare = (bytes: string) => {
      const peer = new RawPeer(net.connect(inbound.port, address));
      undo.push(() => peer.destroy());
      return peer.send(bytes);
    };
    await bare(GET).sees("403");
    const refused = bare("\x00");
    await until(() => refused.ended || refused.closed, 5_000, "the end");
    await until(
      () => outbound.registry.expose().includes("outbound_tcp_route_close_total{"),
      5_000,
      "the count of what has ended",
    );
    return {
      inbound: inbound.registry.expose(),
      outbound: outbound.registry.expose(),
      port: app.port,
      peer: inbound.port,
    };
  } finally {
    for (const fn of undo.reverse()) await fn();
  }
}

function samplesOf(text: string, name: string): Sample[] {
  const samples: Sample[] = [];
  parseMetrics(text, (sample) => {
    if (sample.name === name) samples.push(sample);
  });
  return samples;
}

type Expected = Readonly<Record<string, string>>;

test("each family's labels, side by side", async () => {
  const { inbound, outbound, port, peer } = await traffic();
  const target = (number: number, ip = "127.0.0.1"): Expected => ({
    target_addr: `${ip}:${number}`,
    target_ip: ip,
    target_port: `${number}`,
  });
  const authority = { authority: "web.emoji.svc.cluster.local:80" };
  const dst = { dst_deployment: "web", dst_namespace: "emoji", dst_zone_locality: "remote" };
  const srv = { srv_group: "", srv_kind: "default", srv_name: "authenticated" };
  const authz = { authz_group: "", authz_kind: "default", authz_name: "authenticated" };
  const meshed = { tls: "true", client_id: APP };
  const bare = { tls: "no_identity", no_tls_reason: "no_tls_from_remote" };
  const parent = { parent_group: "", parent_kind: "default", parent_namespace: "", parent_port: "80" };
  const route = { route_group: "", route_kind: "default", route_namespace: "" };
  const toPeer = {
    direction: "outbound",
    ...target(peer, address),
    ...authority,
    ...dst,
    tls: "true",
    server_id: WEB,
  };
  const fromPeer = { direction: "inbound", ...target(port), ...srv, ...meshed };
  const ok = { status_code: "200", classification: "success" };
  const cases: readonly [string, string, Expected][] = [
    [outbound, "request_total", toPeer],
    [outbound, "response_total", { ...toPeer, ...ok }],
    [outbound, "response_latency_ms_count", { ...toPeer, status_code: "200" }],
    [outbound, "tcp_open_total", { ...toPeer, peer: "dst" }],
    [outbound, "tcp_read_bytes_total", { ...toPeer, peer: "dst" }],
    [outbound, "tcp_write_bytes_total", { ...toPeer, peer: "dst" }],
    [outbound, "tcp_close_total", { ...toPeer, peer: "dst", errno: "" }],
    [
      outbound,
      "tcp_open_total",
      { direction: "outbound", peer: "src", ...target(80), tls: "no_identity", no_tls_reason: "loopback" },
    ],
    [outbound, "outbound_http_route_requests_total", { ...parent, ...route }],
    [outbound, "outbound_http_route_request_statuses_total", { ...parent, http_status: "200", error: "" }],
    [
      outbound,
      "outbound_http_route_backend_response_statuses_total",
      { ...parent, http_status: "200", error: "" },
    ],
    [outbound, "outbound_http_balancer_endpoints", { endpoint_state: "ready" }],
    [outbound, "outbound_tcp_protocol_connections_total", { ...parent, protocol: "detect" }],
    [outbound, "outbound_tcp_detect_http_results_total", { ...parent, result: "http/1" }],
    [outbound, "outbound_tcp_detect_http_results_total", { ...parent, result: "not_http" }],
    [outbound, "outbound_tcp_route_open_total", { ...parent, ...route }],
    [outbound, "outbound_tcp_route_close_total", { ...parent, ...route, error: "" }],
    [outbound, "outbound_tcp_transfer_cost_bytes_total", { op: "recv", zone_locality: "remote" }],
    [outbound, "outbound_tcp_transfer_cost_bytes_total", { op: "send", zone_locality: "remote" }],
    [inbound, "request_total", { ...fromPeer, ...authz }],
    [inbound, "response_total", { ...fromPeer, ...authz, ...ok }],
    [inbound, "inbound_http_authz_allow_total", { ...fromPeer, ...authz }],
    [inbound, "inbound_tcp_authz_allow_total", { ...fromPeer, ...authz }],
    [inbound, "inbound_http_authz_deny_total", { direction: "inbound", ...target(port), ...srv, ...bare }],
    [inbound, "inbound_tcp_authz_deny_total", { direction: "inbound", ...target(port), ...srv, ...bare }],
    [
      inbound,
      "inbound_http_errors_total",
      { target_port: `${port}`, error: "unauthorized", code: "MESH-201" },
    ],
    [
      inbound,
      "inbound_tcp_errors_total",
      { target_port: `${port}`, error: "unauthorized", code: "MESH-201" },
    ],
    [inbound, "tcp_open_total", { ...fromPeer, peer: "src" }],
    [inbound, "tcp_open_total", { direction: "inbound", peer: "dst", ...target(port) }],
    [inbound, "inbound_tcp_detect_http_results_total", { ...srv, result: "http/1" }],
  ];
  const wrong = cases.flatMap(([text, name, wanted]) => {
    const rows = samplesOf(text, name);
    const fits = rows.some(
      ({ labels, value }) =>
        value > 0 && Object.entries(wanted).every(([label, text]) => (labels[label] ?? "") === text),
    );
    return fits ? [] : [{ name, wanted, found: rows.map(({ labels }) => labels) }];
  });
  assert.equal(wrong, []);
});

test("bytes to and from other zones are just those of the connections there", async () => {
  const { outbound } = await traffic();
  const sum = (name: string, label: string, wanted: string) =>
    samplesOf(outbound, name)
      .filter(({ labels }) => labels[label] === wanted)
      .reduce((total, { value }) => total + value, 0);
  const cost = "outbound_tcp_transfer_cost_bytes_total";
  assert.is(sum(cost, "op", "recv"), sum("tcp_read_bytes_total", "peer", "dst"));
  assert.is(sum(cost, "op", "send"), sum("tcp_write_bytes_total", "peer", "dst"));
});

test.run();

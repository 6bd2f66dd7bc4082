// The proxy's configuration: defaults, what is set, and every problem at once.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { applyAnnotations } from "../../src/inject/annotations.ts";
import { proxyEnv } from "../../src/inject/env.ts";
import { DEFAULT_VALUES } from "../../src/manifests/values.ts";
import { ConfigError, isProfiled, parseAddress, readConfig } from "../../src/proxy/config.ts";
import { Authority } from "../support/identity-service.ts";

const test = suite("proxy configuration");
const { pem } = new Authority().root;

/** The least that a proxy needs. */
const LEAST: NodeJS.ProcessEnv = {
  LINKERD2_PROXY_IDENTITY_LOCAL_NAME: "web.emoji.test",
  LINKERD2_PROXY_IDENTITY_TOKEN_FILE: "/token",
  LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS: pem,
  LINKERD2_PROXY_IDENTITY_SVC_ADDR: "mesh-identity-headless.mesh-system.svc.cluster.local:8080",
  LINKERD2_PROXY_IDENTITY_SVC_NAME: "identity.test",
  LINKERD2_PROXY_DESTINATION_SVC_ADDR: "mesh-dst-headless.mesh-system.svc.cluster.local:8086",
  LINKERD2_PROXY_DESTINATION_SVC_NAME: "destination.test",
  LINKERD2_PROXY_POLICY_SVC_ADDR: "localhost.:8090",
  LINKERD2_PROXY_POLICY_WORKLOAD: '{"ns":"emoji","pod":"web"}',
};

const read = (more: NodeJS.ProcessEnv = {}) => {
  const warnings: string[] = [];
  return { config: readConfig({ ...LEAST, ...more }, (warning) => warnings.push(warning)), warnings };
};

const problems = (env: NodeJS.ProcessEnv): readonly string[] => {
  try {
    readConfig(env, () => {});
  } catch (error) {
    assert.instance(error, ConfigError);
    return (error as ConfigError).problems;
  }
  return [];
};

test("defaults are Linkerd's", () => {
  const { config, warnings } = read();
  assert.equal(warnings, []);
  assert.equal(config.inbound.listen, [{ ip: "0.0.0.0", port: 4143 }]);
  assert.equal(config.outbound.listen, [{ ip: "127.0.0.1", port: 4140 }]);
  assert.equal(config.admin, { host: "127.0.0.1", port: 4191 });
  assert.is(config.inbound.connectTimeout, 300);
  assert.is(config.outbound.connectTimeout, 1_000);
  assert.is(config.inbound.defaultPolicy, "all-unauthenticated");
  for (const { maxInFlight, poolIdleTimeout, poolMaxIdle, detectTimeout } of [
    config.inbound,
    config.outbound,
  ])
    assert.equal(
      [maxInFlight, poolIdleTimeout, poolMaxIdle, detectTimeout],
      [100_000, 3_000, 10_000, 10_000],
    );
  assert.equal([config.inbound.failfastTimeout, config.outbound.failfastTimeout], [1_000, 3_000]);
  assert.equal([config.inbound.discoveryIdleTimeout, config.outbound.discoveryIdleTimeout], [90_000, 5_000]);
  assert.is(config.shutdown.gracePeriod, 120_000);
  assert.is(config.shutdown.endpointEnabled, false);
  assert.is(config.outbound.profileTimeout, 500);
  assert.is(config.metricsRetainIdle, 600_000);
  assert.equal(config.policy.service, { host: "localhost.", port: 8090, name: undefined });
  assert.equal(config.destination.service, {
    host: "mesh-dst-headless.mesh-system.svc.cluster.local",
    port: 8086,
    name: "destination.test",
  });
});

test("what is set is taken", () => {
  const { config } = read({
    LINKERD2_PROXY_INBOUND_LISTEN_ADDR: "[::]:5143",
    LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: "127.0.0.1:5140,[::1]:5140",
    LINKERD2_PROXY_ADMIN_LISTEN_ADDR: "[::]:5191",
    LINKERD2_PROXY_INBOUND_PORTS: "80,8080-8082",
    LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION: "25,3306",
    LINKERD2_PROXY_INBOUND_DEFAULT_POLICY: "cluster-authenticated",
    LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS: "10.0.0.0/8,fd00::/8",
    LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS: "10.0.0.0/8",
    LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED: "true",
    LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD: "30s",
    LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT: "0",
    LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS_FILE: "/trust/ca-bundle.crt",
    LINKERD2_PROXY_LOG_FORMAT: "json",
  });
  assert.equal(config.inbound.listen, [{ ip: "::", port: 5143 }]);
  assert.is(config.outbound.inboundPort, 5143);
  assert.equal(config.outbound.listen[1], { ip: "::1", port: 5140 });
  assert.equal(config.admin, { host: "::", port: 5191 });
  assert.equal(config.inbound.ports, [80, 8080, 8081, 8082]);
  assert.is(config.inbound.defaultPolicy, "cluster-authenticated");
  assert.equal(config.policy.clusterNetworks, ["10.0.0.0/8", "fd00::/8"]);
  assert.ok(isProfiled(config, "10.1.2.3"));
  assert.not(isProfiled(config, "192.168.0.1"));
  assert.ok(config.shutdown.endpointEnabled);
  assert.is(config.shutdown.gracePeriod, 30_000);
  assert.is(config.outbound.discoveryIdleTimeout, 0);
  assert.is(config.identity.trustAnchorsFile, "/trust/ca-bundle.crt");
  assert.is(config.logFormat, "json");
});

test("every problem is told at once, each with its variable and what was expected", () => {
  const told = problems({
    ...LEAST,
    LINKERD2_PROXY_INBOUND_LISTEN_ADDR: "nowhere",
    LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT: "1 fortnight",
    LINKERD2_PROXY_INBOUND_DEFAULT_POLICY: "everyone",
    LINKERD2_PROXY_INBOUND_PORTS: "80,http",
    LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS: "10.0.0.0/80",
    LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS: "not PEM",
    LINKERD2_PROXY_IDENTITY_LOCAL_NAME: " ",
    LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED: "maybe",
    LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT: "0",
    LINKERD2_PROXY_LOG_FORMAT: "xml",
    LINKERD2_PROXY_IDENTITY_DISABLED: "1",
  });
  for (const [name, expected] of [
    ["INBOUND_LISTEN_ADDR", /expected host:port, got "nowhere"/],
    ["OUTBOUND_CONNECT_TIMEOUT", /expected a duration such as .*got "1 fortnight"/],
    ["INBOUND_DEFAULT_POLICY", /expected one of .*all-authenticated/],
    ["INBOUND_PORTS", /got "http"/],
    ["POLICY_CLUSTER_NETWORKS", /10\.0\.0\.0\/80/],
    ["IDENTITY_TRUST_ANCHORS", /expected at least one PEM CERTIFICATE/],
    ["IDENTITY_LOCAL_NAME", /it is not set/],
    ["SHUTDOWN_ENDPOINT_ENABLED", /expected one of true, false/],
    ["OUTBOUND_MAX_IN_FLIGHT", /above 0/],
    ["LOG_FORMAT", /plain, json/],
    ["IDENTITY_DISABLED", /not supported/],
  ] as const) {
    const found = told.filter((line) => line.startsWith(`LINKERD2_PROXY_${name}: `));
    assert.is(found.length, 1, `${name} in\n${told.join("\n")}`);
    assert.match(found[0]!, expected);
  }
  assert.is(told.length, 11);
});

test("an empty environment names all that is needed; a service elsewhere needs a name", () => {
  const told = problems({});
  for (const name of [
    "IDENTITY_LOCAL_NAME",
    "IDENTITY_TOKEN_FILE",
    "IDENTITY_TRUST_ANCHORS",
    "IDENTITY_SVC_ADDR",
    "DESTINATION_SVC_ADDR",
    "POLICY_SVC_ADDR",
    "POLICY_WORKLOAD",
  ])
    assert.ok(
      told.some((line) => line.startsWith(`LINKERD2_PROXY_${name}: expected a value`)),
      name,
    );
  assert.match(
    problems({ ...LEAST, LINKERD2_PROXY_DESTINATION_SVC_NAME: "" }).join(),
    /DESTINATION_SVC_NAME: expected the service's identity/,
  );
});

test("a name that is not known is warned of, and changes nothing", () => {
  const { warnings } = read({ LINKERD2_PROXY_WARP_SPEED: "9", OTHER: "x", LINKERD2_PROXY_CORES: "1" });
  assert.equal(warnings, ["LINKERD2_PROXY_WARP_SPEED is not known to this proxy and has no effect"]);
});

test("addresses", () => {
  assert.equal(parseAddress("localhost.:80"), { host: "localhost.", port: 80 });
  assert.equal(parseAddress("[fd00::1]:80"), { host: "fd00::1", port: 80 });
  for (const bad of ["80", "host", "host:", "host:99999", "fd00::1:80", "[::1]", "a b:c"])
    assert.throws(() => parseAddress(bad), /expected host:port/, bad);
});

test("taps are served only when it is said to whom", () => {
  const tapOf = (env: NodeJS.ProcessEnv) => read(env).config.tap;
  const listen = { LINKERD2_PROXY_CONTROL_LISTEN_ADDR: "[::]:5190" };
  assert.is(tapOf({}), undefined);
  assert.is(tapOf(listen), undefined);
  assert.equal(tapOf({ LINKERD2_PROXY_TAP_SVC_NAME: "tap.viz" }), {
    host: "0.0.0.0",
    port: 4190,
    client: "tap.viz",
  });
  assert.equal(tapOf({ ...listen, LINKERD2_PROXY_TAP_SVC_NAME: "tap.viz" })?.port, 5190);
});

test("access log and traces are off unless asked for", () => {
  const { config } = read({});
  assert.equal([config.accessLog, config.trace], [undefined, undefined]);
  assert.is(read({ LINKERD2_PROXY_ACCESS_LOG: "json" }).config.accessLog, "json");
  const trace = { LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR: "127.0.0.1:4317" };
  assert.equal(read(trace).config.trace?.samplingRatio, 0);
  assert.is(
    read({ ...trace, LINKERD2_PROXY_TRACE_SAMPLING_RATIO: "0.25" }).config.trace?.samplingRatio,
    0.25,
  );
  assert.match(
    problems({ ...LEAST, ...trace, LINKERD2_PROXY_TRACE_SAMPLING_RATIO: "2" }).join(),
    /TRACE_SAMPLING_RATIO: expected a number from 0 to 1/,
  );
  assert.match(
    problems({ ...LEAST, LINKERD2_PROXY_ACCESS_LOG: "xml" }).join(),
    /ACCESS_LOG: expected one of/,
  );
});

test("the pod's addresses are compared however they are written", () => {
  const { inbound, outbound } = readConfig(
    { ...LEAST, LINKERD2_PROXY_INBOUND_IPS: "10.0.0.7, fd00::7,::FFFF:10.0.0.8" },
    () => {},
  );
  assert.equal(inbound.ips, ["10.0.0.7", "fd00:0:0:0:0:0:0:7", "10.0.0.8"]);
  assert.equal(outbound.localIps, inbound.ips);
});

test("queues, back-off, backlog, idle connections", () => {
  const told = (env: NodeJS.ProcessEnv) => {
    const { inbound, outbound } = readConfig({ ...LEAST, ...env }, (warning) => assert.unreachable(warning));
    return [
      [inbound.queueCapacity, inbound.connectBackoff.jitter, inbound.backlog, inbound.idleTimeout],
      [outbound.queueCapacity, outbound.connectBackoff.jitter, outbound.backlog, outbound.idleTimeout],
      [outbound.connectionQueue.capacity, outbound.connectionQueue.failfastTimeout],
      [inbound.http2.streamWindow, outbound.http2.connectionWindow],
    ];
  };
  assert.equal(told({}), [
    [10_000, 0.1, 4_096, 3_600_000],
    [10_000, 0.1, 4_096, 3_600_000],
    [10_000, 3_000],
    [262_144, 1_048_576],
  ]);
  assert.equal(
    told({
      LINKERD2_PROXY_INBOUND_HTTP_QUEUE_CAPACITY: "1",
      LINKERD2_PROXY_INBOUND_CONNECT_EXP_BACKOFF_JITTER: "0.2",
      LINKERD2_PROXY_INBOUND_TCP_LISTEN_BACKLOG: "3",
      LINKERD2_PROXY_INBOUND_HTTP_IDLE_TIMEOUT: "0",
      LINKERD2_PROXY_OUTBOUND_HTTP_QUEUE_CAPACITY: "4",
      LINKERD2_PROXY_OUTBOUND_CONNECT_EXP_BACKOFF_JITTER: "0.5",
      LINKERD2_PROXY_OUTBOUND_TCP_LISTEN_BACKLOG: "6",
      LINKERD2_PROXY_OUTBOUND_HTTP_IDLE_TIMEOUT: "7s",
      LINKERD2_PROXY_OUTBOUND_TCP_QUEUE_CAPACITY: "8",
      LINKERD2_PROXY_OUTBOUND_TCP_FAILFAST_TIMEOUT: "9s",
      LINKERD2_PROXY_HTTP2_INITIAL_STREAM_WINDOW_SIZE: "70000",
      LINKERD2_PROXY_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE: "80000",
    }),
    [
      [1, 0.2, 3, 0],
      [4, 0.5, 6, 7_000],
      [8, 9_000],
      [70_000, 80_000],
    ],
  );
});

test("limits of connections and buffers", () => {
  const { inbound, outbound, maxBufferBytes } = readConfig(LEAST, () => {});
  assert.equal(
    [inbound.maxConnections, outbound.maxConnections, maxBufferBytes],
    [10_000, 10_000, undefined],
  );
  const told = readConfig(
    {
      ...LEAST,
      LINKERD2_PROXY_INBOUND_MAX_CONNECTIONS: "5",
      LINKERD2_PROXY_OUTBOUND_MAX_CONNECTIONS: "6",
      LINKERD2_PROXY_MAX_BUFFER_BYTES: "7",
    },
    () => {},
  );
  assert.equal([told.inbound.maxConnections, told.outbound.maxConnections, told.maxBufferBytes], [5, 6, 7]);
});

test("config.linkerd.io/access-log leads to the access log", () => {
  const { values } = applyAnnotations(DEFAULT_VALUES, {}, { "config.linkerd.io/access-log": "apache" });
  const env = proxyEnv(values, { inboundPorts: "" });
  assert.is(env.find(({ name }) => name === "LINKERD2_PROXY_ACCESS_LOG")?.value, "apache");
});

test("what the injector writes by default is understood without a warning", () => {
  const values = { ...DEFAULT_VALUES, identityTrustAnchorsPEM: pem };
  const env: NodeJS.ProcessEnv = {};
  for (const { name, value } of proxyEnv(values, { inboundPorts: "8080,4191" })) {
    // As the kubelet would: fields of the pod, then references to what stands before.
    env[name] = (value ?? (name === "_pod_ips" ? "10.0.0.7" : name)).replace(
      /\$\((\w+)\)/g,
      (_, other) => env[other] ?? "",
    );
  }
  const warnings: string[] = [];
  const config = readConfig(env, (warning) => warnings.push(warning));
  assert.equal(warnings, []);
  assert.equal(config.inbound.ports, [4191, 8080]);
  assert.equal(config.inbound.ips, ["10.0.0.7"]);
  assert.match(config.identity.localName, /^_pod_sa\._pod_ns\.serviceaccount\.identity\.mesh-system\./);
  assert.match(config.identity.service.host, /^mesh-identity-headless\.mesh-system\.svc/);
});

test.run();

// The proxy as a process: reads its configuration, proves who it is, opens its ports, serves until told to stop.
//
//   configuration → trust anchors → control-plane clients → certificate → inbound, outbound → ready → drain
import { readFile } from "node:fs/promises";
import { totalmem } from "node:os";
import { createSecureContext, type SecureContext } from "node:tls";
import { createLogger, parseLevel } from "../log/logger.ts";
import { Registry } from "../metrics/registry.ts";
import { systemClock } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";
import { VERSION } from "../util/version.ts";
import { listenAdmin } from "./admin/index.ts";
import { ConfigError, type ControlService, isProfiled, type ProxyConfig, readConfig } from "./config.ts";
import { connectControl } from "./control/connector.ts";
import { GrpcClient } from "./control/grpc-client.ts";
import { ControlDiscovery } from "./control/index.ts";
import { Drain } from "./drain.ts";
import { Identity } from "./identity/index.ts";
import { TrustAnchors } from "./identity/trust-anchors.ts";
import { createInbound } from "./inbound/index.ts";
import { MemoryKeeper, processMemory } from "./memory.ts";
import { createOutbound } from "./outbound/index.ts";
import { registerProcessMetrics } from "./process-metrics.ts";
import { listenTap } from "./tap/server.ts";
import { Taps } from "./tap/watch.ts";
import { AccessLog } from "./telemetry/access-log.ts";
import { resourceAttributes, SpanExporter, Tracing } from "./telemetry/tracing.ts";
import { Watches } from "./telemetry/watches.ts";
import { BufferBudget, defaultBufferLimit } from "./transport/buffer-budget.ts";
import { connectionLimit, maxDescriptors } from "./transport/descriptors.ts";
import { kernelOriginalDestination } from "./transport/original-dst.ts";
import { kernelUserTimeout } from "./transport/user-timeout.ts";

/** EX_USAGE: what Linkerd's proxy ends with when its configuration is wrong. */
const BAD_CONFIG = 64;
/** How often the log says that there is still no certificate, ms. */
const WAIT_NOTICE = 15_000;
/** Ports whose policy is looked up before anyone asks; further ones wait for their first connection. */
const MAX_EAGER_PORTS = 256;

export async function main(): Promise<void> {
  const clock = systemClock;
  const warnings: string[] = [];
  let config: ProxyConfig;
  try {
    config = readConfig(process.env, (warning) => warnings.push(warning));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) process.stderr.write(`${problem}\n`);
    process.exit(BAD_CONFIG);
  }
  const log = createLogger({ level: parseLevel(config.log), format: config.logFormat });
  for (const warning of warnings) log.warn(warning);
  const fail = (what: string, error: unknown): never => {
    log.error(what, { error: errorMessage(error) });
    process.exit(1);
  };
  const registry = new Registry({ retainIdle: config.metricsRetainIdle });
  registerProcessMetrics(registry);

  const anchors = await TrustAnchors.start({
    fallback: config.identity.trustAnchors,
    file: config.identity.trustAnchorsFile,
    clock,
    log,
    onChange: () => identity.rebuild(),
  });
  const clientOf = (service: ControlService, context: () => Promise<SecureContext>) => {
    const last = {};
    return new GrpcClient({
      authority: `${service.host}:${service.port}`,
      clock,
      log,
      registry,
      connect: async () => connectControl(service, await context(), clock, last),
    });
  };
  // Whoever gives us our name is asked without one: an expired certificate must not keep us from a new one.
  const identityClient = clientOf(config.identity.service, async () =>
    createSecureContext({ ca: anchors.pem, minVersion: "TLSv1.3" }),
  );
  // All others see who asks.
  const certified = async () => {
    await identity.ready;
    return identity.current!.clientContext;
  };
  const identity: Identity = new Identity({
    ...config.identity,
    client: identityClient,
    anchors,
    clock,
    log,
    registry,
  });
  const clients = {
    destination: clientOf(config.destination.service, certified),
    policy: clientOf(config.policy.service, certified),
  };
  const discovery = new ControlDiscovery({
    ...clients,
    clock,
    context: config.destination.context,
    workload: config.policy.workload,
    profiled: (ip) => isProfiled(config, ip),
    profileTimeout: config.outbound.profileTimeout,
    streamTimeout: config.outbound.policyTimeout,
    defaultPolicy: config.inbound.defaultPolicy,
    clusterNetworks: config.policy.clusterNetworks,
    opaquePorts: config.inbound.opaquePorts,
  });

  const descriptors = maxDescriptors();
  const limited = <T extends { maxConnections: number }>(side: T): T => ({
    ...side,
    maxConnections: connectionLimit(side.maxConnections, descriptors),
  });
  const sides = { inbound: limited(config.inbound), outbound: limited(config.outbound) };
  if (
    sides.inbound.maxConnections < config.inbound.maxConnections ||
    sides.outbound.maxConnections < config.outbound.maxConnections
  )
    log.warn("fewer connections are accepted than configured: the limit of open files is low", {
      descriptors,
      inbound: sides.inbound.maxConnections,
      outbound: sides.outbound.maxConnections,
    });
  const shared = {
    buffers: new BufferBudget({
      clock,
      registry,
      limit: config.maxBufferBytes ?? defaultBufferLimit(memoryLimit()),
    }),
    discovery,
    identity,
    originalDestination: await kernelOriginalDestination(),
    setUserTimeout: await kernelUserTimeout(),
    registry,
    clock,
    log,
  };
  const watches = { inbound: new Watches(), outbound: new Watches() };
  if (config.accessLog) watches.inbound.add(new AccessLog({ format: config.accessLog, clock, log }));
  if (config.trace) {
    const { collector, samplingRatio: ratio } = config.trace;
    const resource = await resourceOf(config.trace, process.env["OTEL_RESOURCE_ATTRIBUTES"]);
    const client = clientOf(collector, certified);
    const exporter = new SpanExporter({ client, clock, log, registry, resource });
    for (const side of [watches.inbound, watches.outbound]) side.add(new Tracing({ exporter, clock, ratio }));
  }
  const paths = [
    createInbound({ ...shared, config: sides.inbound, watches: watches.inbound }),
    createOutbound({ ...shared, config: sides.outbound, watches: watches.outbound }),
  ];
  let unready: string | undefined = "waiting for the first certificate";
  const drain = new Drain({
    paths,
    gracePeriod: config.shutdown.gracePeriod,
    log,
    onEnd: () => {
      admin.close();
      process.exit(0);
    },
  });
  const admin = await listenAdmin({
    host: config.admin.host,
    port: config.admin.port,
    registry,
    identity,
    clock,
    log,
    unready: () => (drain.reason === undefined ? unready : "shutting down"),
    shutdown: config.shutdown.endpointEnabled ? () => drain.begin("POST /shutdown") : undefined,
  }).catch((error) => fail("cannot open the admin port", error));
  process.on("SIGTERM", () => drain.begin("SIGTERM"));
  process.on("SIGINT", () => drain.begin("SIGINT"));

  // What the pod serves is looked up at once, so that the first request finds its policy.
  for (const port of config.inbound.ports.slice(0, MAX_EAGER_PORTS)) discovery.serverPolicy(port);

  try {
    for (const path of paths) await path.listen();
  } catch (error) {
    fail("cannot open the proxy's ports", error);
  }
  log.info("starting", { version: VERSION, identity: config.identity.localName, admin: admin.port });
  const notice = setInterval(() => log.warn("still waiting for the first certificate"), WAIT_NOTICE).unref();
  identity.start();
  await identity.ready;
  clearInterval(notice);
  if (drain.reason !== undefined) return;
  try {
    if (config.tap) {
      const taps = new Taps([watches.inbound, watches.outbound], clock);
      await listenTap({ ...config.tap, identity, taps, clock, log, registry });
    }
  } catch (error) {
    fail("cannot open the tap port", error);
  }
  unready = undefined;
  log.info("ready");
  new MemoryKeeper(await processMemory(), clock, log);
}

/** Bytes that the process may have; 0 when there is no limit. */
function memoryLimit(): number {
  // Without a limit it may be a number that no machine has.
  const limit = process.constrainedMemory();
  return limit < totalmem() ? limit : 0;
}

/** What the pod says of itself in its spans. */
async function resourceOf(
  trace: NonNullable<ProxyConfig["trace"]>,
  otel: string | undefined,
): Promise<Record<string, string>> {
  const { attributesPath, extraAttributes: extra, serviceName } = trace;
  const labels = attributesPath && (await readFile(attributesPath, "utf8").catch(() => undefined));
  return resourceAttributes({ otel, extra, labels, serviceName });
}

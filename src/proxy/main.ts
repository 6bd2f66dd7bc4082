// The proxy as a process: reads its configuration, proves who it is, opens its ports, serves until told to stop.
//
//   configuration → trust anchors → control-plane clients → certificate → inbound, outbound → ready → drain
import { createSecureContext } from "node:tls";
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
import { Identity } from "./identity/index.ts";
import { TrustAnchors } from "./identity/trust-anchors.ts";
import { createInbound } from "./inbound/index.ts";
import { createOutbound } from "./outbound/index.ts";
import { registerProcessMetrics } from "./process-metrics.ts";
import { kernelOriginalDestination } from "./transport/original-dst.ts";

/** EX_USAGE: what Linkerd's proxy ends with when its configuration is wrong. */
const BAD_CONFIG = 64;
/** How often the log says that there is still no certificate, ms. */
const WAIT_NOTICE = 15_000;

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
  const registry = new Registry({ retainIdle: config.metricsRetainIdle });
  registerProcessMetrics(registry);

  const anchors = await TrustAnchors.start({
    fallback: config.identity.trustAnchors,
    file: config.identity.trustAnchorsFile,
    clock,
    log,
    onChange: () => identity.rebuild(),
  });
  const clientOf = (service: ControlService) =>
    new GrpcClient({
      authority: `${service.host}:${service.port}`,
      clock,
      log,
      registry,
      // Before there is a certificate the identity service is asked without one.
      connect: () =>
        connectControl(
          service,
          () =>
            identity.current?.clientContext ??
            createSecureContext({ ca: anchors.pem, minVersion: "TLSv1.3" }),
          clock,
        ),
    });
  const identityClient = clientOf(config.identity.service);
  const identity: Identity = new Identity({
    ...config.identity,
    client: identityClient,
    anchors,
    clock,
    log,
    registry,
  });
  const clients = {
    destination: clientOf(config.destination.service),
    policy: clientOf(config.policy.service),
  };
  const discovery = new ControlDiscovery({
    ...clients,
    clock,
    context: config.destination.context,
    workload: config.policy.workload,
    profiled: (ip) => isProfiled(config, ip),
    profileTimeout: config.outbound.profileTimeout,
    defaultPolicy: config.inbound.defaultPolicy,
    clusterNetworks: config.policy.clusterNetworks,
    opaquePorts: config.inbound.opaquePorts,
  });

  let unready: string | undefined = "waiting for the first certificate";
  let stopping = false;
  const shutdown = (reason: string) => {
    if (stopping) return;
    stopping = true;
    void drain(reason);
  };
  const admin = await listenAdmin({
    host: config.admin.host,
    port: config.admin.port,
    registry,
    identity,
    log,
    unready: () => (stopping ? "shutting down" : unready),
    shutdown: config.shutdown.endpointEnabled ? () => shutdown("POST /shutdown") : undefined,
  });

  const shared = {
    discovery,
    identity,
    originalDestination: await kernelOriginalDestination(),
    registry,
    clock,
    log,
  };
  const paths = [
    createInbound({ ...shared, config: config.inbound }),
    createOutbound({ ...shared, config: config.outbound }),
  ];
  const drain = async (reason: string) => {
    const open = () => paths.reduce((sum, path) => sum + path.connections(), 0);
    log.info("draining", { reason, connections: open() });
    await Promise.all(paths.map((path) => path.drain(config.shutdown.gracePeriod)));
    log.info("stopped", { connections: open() });
    admin.close();
    process.exit(0);
  };
  process.on("SIGTERM", () => shutdown("SIGTERM"));
  process.on("SIGINT", () => shutdown("SIGINT"));

  // What the pod serves is looked up at once, so that the first request finds its policy.
  for (const port of config.inbound.ports) discovery.serverPolicy(port);

  log.info("starting", { version: VERSION, identity: config.identity.localName, admin: admin.port });
  const notice = setInterval(() => log.warn("still waiting for the first certificate"), WAIT_NOTICE).unref();
  identity.start();
  await identity.ready;
  clearInterval(notice);
  try {
    for (const path of paths) await path.listen();
  } catch (error) {
    log.error("cannot open the proxy's ports", { error: errorMessage(error) });
    process.exit(1);
  }
  // The identity service is asked once a day: no connection is kept for it.
  identityClient.reconnect();
  unready = undefined;
  log.info("ready");
}

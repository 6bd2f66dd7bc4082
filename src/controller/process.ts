// What every controller's process does the same way: environment, log, client, admin port, graceful end.
import type { Server } from "node:http";
import { KubeClient } from "../kube/client.ts";
import { type ClusterConfig, loadInCluster } from "../kube/config.ts";
import { Reflector, type ReflectorOptions } from "../kube/reflector.ts";
import type { KubeObject } from "../kube/types.ts";
import { createLogger, type Logger, parseLevel } from "../log/logger.ts";
import { Registry } from "../metrics/registry.ts";
import { errorMessage } from "../util/error.ts";
import { VERSION } from "../util/version.ts";
import { listenAdmin } from "./admin.ts";

/** What a controller is given, and what it registers. */
export interface ControllerProcess {
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  readonly client: KubeClient;
  readonly registry: Registry;
  readonly namespace: string;
  /** Port to serve on. */
  readonly port: number;
  /** A started reflector; the process is not ready before it is synced. */
  reflect<T extends KubeObject>(options: ReflectorOptions<T>): Reflector<T>;
  /** Another condition of readiness. */
  readyWhen(condition: () => boolean): void;
  /** Runs at the end, in order; the process leaves when all are done or after the grace. */
  onStop(stop: () => void | Promise<void>): void;
}

/** Time that ending takes at most, ms. */
const STOP_GRACE = 5_000;

/**
 * Runs a controller: `setUp` builds it, then the process is ready when its reflectors are synced.
 *
 * Environment: MESH_NAMESPACE, MESH_PORT, MESH_ADMIN_PORT, MESH_LOG_LEVEL, MESH_LOG_FORMAT (plain|json).
 */
export async function runController(
  name: string,
  ports: { readonly port: number; readonly adminPort: number },
  setUp: (process: ControllerProcess) => void | Promise<void>,
): Promise<void> {
  const { env } = process;
  const log = createLogger({
    level: parseLevel(env["MESH_LOG_LEVEL"]),
    format: env["MESH_LOG_FORMAT"] === "json" ? "json" : "plain",
  });
  const config = inCluster(name);
  const client = new KubeClient(config);
  const registry = new Registry();
  observeProcess(registry);
  const conditions: (() => boolean)[] = [];
  const stops: (() => void | Promise<void>)[] = [];
  let ready = false;
  let stopping = false;
  const admin: Server = await listenAdmin({
    port: Number(env["MESH_ADMIN_PORT"] ?? ports.adminPort),
    registry,
    ready: () => ready && !stopping && conditions.every((condition) => condition()),
  });

  const stop = async (signal: string) => {
    if (stopping) return;
    stopping = true;
    log.info("stopping", { signal });
    setTimeout(() => process.exit(0), STOP_GRACE).unref();
    for (const each of stops) await each();
    admin.close();
    process.exit(0);
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);

  try {
    await setUp({
      env,
      log,
      client,
      registry,
      namespace: env["MESH_NAMESPACE"] ?? config.namespace,
      port: Number(env["MESH_PORT"] ?? ports.port),
      reflect(options) {
        const reflector = new Reflector(client, {
          onError: (error) =>
            log.warn("watching failed, trying again", { path: options.path, error: errorMessage(error) }),
          ...options,
        });
        conditions.push(() => reflector.isSynced);
        stops.push(() => reflector.stop());
        return reflector.start();
      },
      readyWhen: (condition) => void conditions.push(condition),
      onStop: (each) => void stops.push(each),
    });
  } catch (error) {
    log.error(`${name} cannot start`, { error: errorMessage(error) });
    process.exit(1);
  }
  ready = true;
  log.info(`${name} is serving`, { version: VERSION });
}

function inCluster(name: string): ClusterConfig {
  try {
    return loadInCluster();
  } catch (error) {
    process.stderr.write(`${name}: ${errorMessage(error)}\n`);
    process.exit(1);
  }
}

/** The metrics of a process that every dashboard knows. */
function observeProcess(registry: Registry): void {
  const cpu = registry.counter("process_cpu_seconds_total", "CPU time used, user and system.").labels();
  const memory = registry.gauge("process_resident_memory_bytes", "Resident memory.").labels();
  const start = registry.gauge("process_start_time_seconds", "Start, since the epoch.").labels();
  start.set(Math.round(Date.now() / 1000 - process.uptime()));
  registry.onCollect(() => {
    const { user, system } = process.cpuUsage();
    cpu.inc((user + system) / 1e6 - cpu.value);
    memory.set(process.memoryUsage.rss());
  });
}

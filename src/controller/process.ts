// What every controller's process does the same way: environment, log, client, admin port, readiness, leadership, and an
// end that hands over what it serves.
//
// Ready means: it can answer now. It stays ready while the API server is away, because what is known serves on.
//
// The end (SIGTERM): not ready, so that nobody new is sent here → what is served goes to other replicas (`onHandover`) →
// what was opened is closed, last opened first (`onStop`) → exit. A second signal exits at once.
import type { Server } from "node:http";
import { hostname } from "node:os";
import { KubeClient } from "../kube/client.ts";
import { type ClusterConfig, loadInCluster } from "../kube/config.ts";
import { LeaderElection } from "../kube/lease.ts";
import { Reflector, type ReflectorOptions } from "../kube/reflector.ts";
import type { KubeObject } from "../kube/types.ts";
import { createLogger, type Logger, parseLevel } from "../log/logger.ts";

import { Registry } from "../metrics/registry.ts";
import { type Clock, systemClock } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";
import { VERSION } from "../util/version.ts";
import { listenAdmin } from "./admin.ts";
import { GrpcServer, type GrpcServerOptions } from "./grpc-server.ts";
import { reflectorMetrics } from "./reflector-metrics.ts";

/** What a controller is given, and what it registers. */
export interface ControllerProcess {
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  readonly client: KubeClient;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly namespace: string;
  /** Port to serve on. */
  readonly port: number;
  /** A server for the methods of this process; `serve` opens it. */
  grpcServer(): GrpcServer;
  /** Opens the server on the port; at the end its streams are handed over, and it is closed. */
  serve(server: GrpcServer): Promise<void>;
  /** A reflector that is counted, not yet started; whoever starts it stops it. */
  reflector<T extends KubeObject>(options: ReflectorOptions<T>): Reflector<T>;
  /** A started reflector; the process is not ready before it is synced. */
  reflect<T extends KubeObject>(options: ReflectorOptions<T>): Reflector<T>;
  /** A started election among the replicas for the Lease of this name. */
  elect(name: string): LeaderElection;
  /** Another condition of readiness. @param what is waited for, as /ready says it */
  readyWhen(what: string, condition: () => boolean): void;
  /** Runs at the end, when the process is not ready any more and still serves; all together. */
  onHandover(hand: () => Promise<void>): void;
  /** Runs after the handover, last registered first. */
  onStop(stop: () => void | Promise<void>): void;
}

/** How long a port serves on after we say that we leave, ms: until kube-proxy and API server know it. */
const FAREWELL = 2_000;
/** Handing over takes at most this long, ms. */
const HANDOVER_GRACE = 12_000;
/** Closing takes at most this long, ms; both together stay below the 30 s after which a pod is killed. */
const STOP_GRACE = 5_000;

/** The part of a process that does not touch the process itself. */
export interface Controller extends ControllerProcess {
  /** What it still waits for; nothing when it is ready. */
  unready(): readonly string[];
  /** `setUp` is through. */
  started(): void;
  /** Not ready, handed over, closed. Asked again, it is the same end. */
  stop(): Promise<void>;
}

export interface ControllerOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  readonly client: KubeClient;
  readonly registry: Registry;
  readonly port: number;
  readonly clock?: Clock;
  /** Who it is among its replicas, different for each. Default: the host's name, which in a pod is the pod's. */
  readonly identity?: string;
  /** Bounds of what it serves other than the usual ones. */
  readonly limits?: Pick<GrpcServerOptions, "maxQueued">;
  /** How a server comes to its connections. Default: it listens on the port. */
  readonly listen?: (server: GrpcServer) => Promise<unknown>;
}

export function createController(options: ControllerOptions): Controller {
  const { env, log, client, registry, clock = systemClock, limits } = options;
  const { identity = hostname(), listen = (server) => server.listen(options.port) } = options;
  const conditions: { readonly what: string; readonly met: () => boolean }[] = [];
  const handovers: (() => Promise<void>)[] = [];
  const stops: (() => void | Promise<void>)[] = [];
  const observeReflector = reflectorMetrics(registry, clock);
  let started = false;
  let ending: Promise<void> | undefined;
  const attempt = async (what: string, step: () => void | Promise<void>) => {
    try {
      await step();
    } catch (error) {
      log.warn(`${what} failed`, { error: errorMessage(error) });
    }
  };
  const within = (ms: number, work: Promise<unknown>) => {
    const limit = new Promise<void>((resolve) => {
      const timer = clock.after(ms, resolve);
      void work.finally(() => {
        clock.clear(timer);
        resolve();
      });
    });
    return limit;
  };
  return {
    env,
    log,
    client,
    registry,
    clock,
    namespace: env["MESH_NAMESPACE"] ?? client.config.namespace,
    port: options.port,
    grpcServer: () => new GrpcServer({ log, registry, clock, ...limits }),
    async serve(server) {
      await listen(server);
      handovers.push(() => server.drain());
      stops.push(() => server.close());
    },
    reflector(reflecting) {
      const { path } = reflecting;
      const reflector = new Reflector(client, {
        clock,
        onError: (error) => log.warn("watching failed, trying again", { path, error: errorMessage(error) }),
        ...reflecting,
      });
      observeReflector(path, reflector);
      return reflector;
    },
    reflect(reflecting) {
      const { path } = reflecting;
      const reflector = this.reflector(reflecting);
      conditions.push({ what: `the first list of ${path}`, met: () => reflector.isSynced });
      stops.push(() => reflector.stop());
      return reflector.start();
    },
    elect(name) {
      const election = new LeaderElection({
        client,
        namespace: this.namespace,
        name,
        identity,
        labels: { "linkerd.io/control-plane-ns": this.namespace },
        clock,
        registry,
        onError: (error) =>
          log.info("the Lease could not be taken or renewed", { lease: name, error: errorMessage(error) }),
      });
      election.onChange((leading) =>
        log.info(leading ? "this replica leads" : "this replica leads no more", { lease: name }),
      );
      stops.push(() => election.stop());
      return election.start();
    },
    readyWhen: (what, met) => void conditions.push({ what, met }),
    onHandover: (hand) => void handovers.push(hand),
    onStop: (stop) => void stops.push(stop),
    unready() {
      if (ending) return ["the end: this replica is leaving"];
      const missing = conditions.filter(({ met }) => !met()).map(({ what }) => what);
      return started || missing.length > 0 ? missing : ["the start"];
    },
    started() {
      started = true;
    },
    stop() {
      ending ??= (async () => {
        const handing = handovers.map((hand) => attempt("handing over", hand));
        await within(HANDOVER_GRACE, Promise.all(handing));
        await within(
          STOP_GRACE,
          (async () => {
            for (const each of stops.reverse()) await attempt("closing", each);
          })(),
        );
      })();
      return ending;
    },
  };
}

/** A handover for servers whose callers choose a replica for each request: serve until they choose none of ours. */
export const serveOn = (clock: Clock) => (): Promise<void> =>
  new Promise((resolve) => void clock.after(FAREWELL, resolve));

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
  const client = new KubeClient(inCluster(name));
  const registry = new Registry();
  observeProcess(registry);
  const controller = createController({
    env,
    log,
    client,
    registry,
    port: Number(env["MESH_PORT"] ?? ports.port),
  });
  const admin: Server = await listenAdmin({
    port: Number(env["MESH_ADMIN_PORT"] ?? ports.adminPort),
    registry,
    log,
    unready: () => controller.unready(),
  });

  let asked = false;
  const stop = async (signal: string) => {
    if (asked) process.exit(0);
    asked = true;
    log.info("stopping", { signal });
    // The bounds of its steps keep it below this; a bug there must not.
    setTimeout(() => process.exit(0), HANDOVER_GRACE + STOP_GRACE + 1_000).unref();
    await controller.stop();
    admin.close();
    process.exit(0);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);

  try {
    await setUp(controller);
  } catch (error) {
    log.error(`${name} cannot start`, { error: errorMessage(error) });
    process.exit(1);
  }
  controller.started();
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

// The whole cluster in one process, inside the namespaces that `sandbox up` has made for it: network, API server,
// controllers, scheduler and kubelet put together.
import { mkdirSync, realpathSync } from "node:fs";
import { rm } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { createLogger, parseLevel } from "../../log/logger.ts";
import { systemClock } from "../../util/clock.ts";
import { errorMessage, MeshError } from "../../util/error.ts";
import { packageRoot } from "../../util/package-root.ts";
import { advertise, createCluster, startApiServer } from "../apiserver/index.ts";
import { nodeName, startControllers } from "../controllers/index.ts";
import { installLauncher, Kubelet, planRoot } from "../kubelet/index.ts";
import { GATEWAY_IP, setupNodeNetwork, startServiceNetwork } from "../network/index.ts";
import { startScheduler } from "../scheduler/index.ts";
import { openCredentials, writeDurably } from "./credentials.ts";
import { renderKubeconfig } from "./kubeconfig.ts";
import { prepareDevices } from "./node-files.ts";
import { packageForContainers } from "./package-files.ts";
import { readSettings } from "./settings.ts";

/** Where the API server listens for pods. */
const POD_API_PORT = 6443;
/** Descriptor of the listening socket in the host's network namespace. */
const LISTEN_FD = 3;
/** Own directory in the namespaces' fresh /run. */
const RUN = "/run/kubectl-mesh";
/** Time that pods get when the sandbox goes down, ms. */
const POD_GRACE_MS = 3_000;

/** Runs until SIGTERM. @throws MeshError when the machine lacks something. */
export async function main(environment: NodeJS.ProcessEnv): Promise<void> {
  // What is made for containers must be open to their users, whatever the caller's habit is.
  process.umask(0o022);
  const settings = readSettings(environment);
  const log = createLogger({ level: parseLevel(environment["MESH_SANDBOX_LOG"]) });
  const clock = systemClock;
  const { state } = settings;

  await setupNodeNetwork({ nodes: settings.nodes });
  const devices = join(RUN, "dev");
  await prepareDevices(devices);
  // On disk if the file system can carry a writable layer, else in memory.
  const bases = [join(state, "roots"), join(RUN, "roots")];
  // Containers of an earlier start are gone; what they wrote goes with them.
  await Promise.all(bases.map((base) => rm(base, { recursive: true, force: true })));
  for (const base of bases) mkdirSync(base, { recursive: true });
  const plan = await planRoot(bases);
  for (const { name, kind } of plan.entries) {
    if (kind === "bind") log.info("directory without a writable layer", { directory: `/${name}` });
  }

  const credentials = openCredentials(join(state, "pki"), clock.now());
  const cluster = await createCluster({ dir: join(state, "cluster"), clock, log });
  const context = { cluster, clock, log };
  const network = await startServiceNetwork(context);
  const nodes = Array.from({ length: settings.nodes }, (_, index) => nodeName(index));
  const kubelet = new Kubelet({
    ...context,
    nodes,
    directory: join(state, "pods"),
    runtime: {
      plan,
      launcher: installLauncher(RUN),
      dev: devices,
      packageRoot: packageForContainers(packageRoot(), join(RUN, "app")),
      nodeBinary: realpathSync(process.execPath),
      hidden: [settings.hostDirectory],
      clock,
    },
    allocatable: {
      cpu: String(availableParallelism()),
      memory: `${Math.floor(totalmem() / 1024)}Ki`,
    },
  });
  const controllers = await startControllers({ ...context, nodes: settings.nodes, rootCa: credentials.ca });
  const api = await startApiServer({
    cluster,
    nodeApi: kubelet,
    listen: [{ fd: LISTEN_FD }, { host: GATEWAY_IP, port: POD_API_PORT }],
    tls: { ...credentials.server, clientCa: credentials.ca },
    frontProxy: credentials.frontProxy,
  });
  await advertise(cluster, { ip: GATEWAY_IP, port: POD_API_PORT });
  const scheduler = startScheduler(context);
  kubelet.start();
  writeDurably(
    join(state, "kubeconfig"),
    renderKubeconfig({ port: settings.port, ca: credentials.ca, ...credentials.admin }),
  );
  // What etcd's compaction does on a real cluster, for trying what a client makes of it.
  process.on("SIGUSR2", () => {
    cluster.compact();
    log.info("compacted: watches from before are answered by 410");
  });
  log.info("the sandbox is up", { port: settings.port, nodes: settings.nodes });

  await stopSignal();
  log.info("the sandbox goes down");
  // Nothing is placed or replaced any more while the pods end.
  const steps: [string, () => Promise<void>][] = [
    ["scheduler", () => scheduler.stop()],
    ["controllers", () => controllers.stop()],
    ["kubelet", () => kubelet.stop(POD_GRACE_MS)],
    ["API server", () => api.close()],
    ["network", () => network.stop()],
    ["state", () => cluster.close()],
  ];
  for (const [name, stop] of steps) {
    await stop();
    log.debug("stopped", { part: name });
  }
}

function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
}

/** What a failed start says on stderr for the launcher to show: one line of JSON. */
export function failureLine(error: unknown): string {
  const hints = error instanceof MeshError ? error.hints : [];
  return `${JSON.stringify({ failure: errorMessage(error), hints })}\n`;
}

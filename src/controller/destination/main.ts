// The destination controller as a process.
//
// Environment besides runController's: MESH_TRUST_DOMAIN, MESH_CLUSTER_DOMAIN, MESH_DEFAULT_OPAQUE_PORTS.
import { parsePortSet } from "../../util/port-set.ts";
import { followCluster } from "../cluster-feed.ts";
import { GrpcServer } from "../grpc-server.ts";
import { runController } from "../process.ts";
import { DestinationIndex } from "./index.ts";
import { serveDestination } from "./service.ts";

export function main(run: typeof runController = runController): Promise<void> {
  return run("destination", { port: 8086, adminPort: 9996 }, async (process) => {
    const { env, log, registry, namespace } = process;
    const clusterDomain = env["MESH_CLUSTER_DOMAIN"] ?? "cluster.local";
    const index = new DestinationIndex({
      namespace,
      trustDomain: env["MESH_TRUST_DOMAIN"] ?? "cluster.local",
      clusterDomain,
      defaultOpaquePorts: parsePortSet(env["MESH_DEFAULT_OPAQUE_PORTS"] ?? ""),
    });
    const synced = followCluster(process, {
      service: {
        put: (service) => index.putService(service),
        remove: (ns, name) => index.removeService(ns, name),
      },
      slice: { put: (slice) => index.putSlice(slice), remove: (ns, name) => index.removeSlice(ns, name) },
      pod: { put: (pod) => index.putPod(pod), remove: (ns, name) => index.removePod(ns, name) },
      namespace: { put: (ns) => index.putNamespace(ns), remove: (_, name) => index.removeNamespace(name) },
    });
    const watched = registry
      .gauge("destination_watched_views", "Services, ports and addresses that proxies watch.")
      .labels();
    registry.onCollect(() => watched.set(index.watched));

    const server = new GrpcServer({ log, registry });
    serveDestination(server, index, clusterDomain);
    // Before the cluster is known every Service would seem to have no endpoints.
    await synced;
    await server.listen(process.port);
    process.onHandover(() => server.drain());
    process.onStop(() => server.close());
  });
}

// The destination controller as a process.
//
// Environment besides runController's: MESH_TRUST_DOMAIN, MESH_CLUSTER_DOMAIN, MESH_DEFAULT_OPAQUE_PORTS.

import type { EndpointSlice } from "../../kube/types.ts";
import { DESTINATION_LEASE } from "../../manifests/names.ts";
import { paced } from "../../util/paced.ts";
import { parsePortSet } from "../../util/port-set.ts";
import { collectLists, followCluster, followKinds, TELLING_PACE } from "../cluster-feed.ts";
import { type ControllerProcess, runController } from "../process.ts";
import { ExternalSliceWriter } from "./external-slice-writer.ts";
import { MANAGED_BY, MANAGED_BY_LABEL } from "./external-slices.ts";
import { DestinationIndex } from "./index.ts";
import { destinationKinds } from "./kinds.ts";
import { serveDestination } from "./service.ts";

export function main(run: typeof runController = runController): Promise<void> {
  return run("destination", { port: 8086, adminPort: 9996 }, async (process) => {
    await setUpDestination(process).serving;
  });
}

/** The index at once, and when it is served. */
export interface DestinationController {
  readonly index: DestinationIndex;
  readonly serving: Promise<void>;
}

export function setUpDestination(process: ControllerProcess): DestinationController {
  const { env, registry, namespace, clock } = process;
  const mesh = {
    namespace,
    trustDomain: env["MESH_TRUST_DOMAIN"] ?? "cluster.local",
    clusterDomain: env["MESH_CLUSTER_DOMAIN"] ?? "cluster.local",
    defaultOpaquePorts: parsePortSet(env["MESH_DEFAULT_OPAQUE_PORTS"] ?? ""),
  };
  const index = new DestinationIndex(mesh, paced(clock, TELLING_PACE));
  const writer = sliceWriter(process);
  const cluster = followCluster(process, {
    service: {
      put(service) {
        index.putService(service);
        writer.putService(service);
      },
      remove(ns, name) {
        index.removeService(ns, name);
        writer.removeService(ns, name);
      },
    },
    slice: { put: (slice) => index.putSlice(slice), remove: (ns, name) => index.removeSlice(ns, name) },
    pod: { put: (pod) => index.putPod(pod), remove: (ns, name) => index.removePod(ns, name) },
    namespace: { put: (ns) => index.putNamespace(ns), remove: (_, name) => index.removeNamespace(name) },
    node: { put: (node) => index.putNode(node), remove: (_, name) => index.removeNode(name) },
  });
  const kinds = followKinds(
    process,
    destinationKinds(index, writer),
    "the first lists of profiles, Servers and workloads",
  );
  const watched = registry
    .gauge("destination_watched_views", "Services, ports and addresses that proxies watch.")
    .labels();
  registry.onCollect(() => watched.set(index.watched));

  const server = process.grpcServer();
  serveDestination(server, { local: index, clusters: new Map() }, mesh);
  // Before the cluster is known every Service would seem to have no endpoints.
  const serving = Promise.all([cluster, kinds.synced]).then(() => {
    collectLists();
    return process.serve(server);
  });
  return { index, serving };
}

function sliceWriter(process: ControllerProcess): ExternalSliceWriter {
  const { client, clock, log } = process;
  const leadership = process.elect(DESTINATION_LEASE);
  const writer = new ExternalSliceWriter({ leadership, client: client.fencedBy(leadership), clock, log });
  process
    .reflect<EndpointSlice>({
      path: "/apis/discovery.k8s.io/v1/endpointslices",
      labelSelector: `${MANAGED_BY_LABEL}=${MANAGED_BY}`,
    })
    .on({
      added: (slice) => writer.putSlice(slice),
      updated: (slice) => writer.putSlice(slice),
      deleted: (slice) => writer.removeSlice(slice),
    });
  process.onStop(() => writer.stop());
  return writer;
}

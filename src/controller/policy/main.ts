// The policy controller as a process.
//
// Environment besides runController's: MESH_DEFAULT_POLICY, MESH_CLUSTER_NETWORKS (CIDRs), MESH_CLUSTER_DOMAIN,
// MESH_DEFAULT_OPAQUE_PORTS.
import { DEFAULT_POLICIES, isDefaultPolicy } from "../../rules/default-policy.ts";
import { parseCidr } from "../../util/ip.ts";
import { parsePortSet } from "../../util/port-set.ts";
import { followCluster } from "../cluster-feed.ts";
import { GrpcServer } from "../grpc-server.ts";
import { runController } from "../process.ts";
import { PolicyIndex } from "./index.ts";
import { servePolicy } from "./service.ts";

export function main(): Promise<void> {
  return runController("policy", { port: 8090, adminPort: 9991 }, async (process) => {
    const { env, log, registry } = process;
    const defaultPolicy = env["MESH_DEFAULT_POLICY"] ?? "all-unauthenticated";
    if (!isDefaultPolicy(defaultPolicy)) {
      throw new Error(
        `MESH_DEFAULT_POLICY: expected one of ${DEFAULT_POLICIES.join(", ")}, got ${defaultPolicy}`,
      );
    }
    const clusterNetworks = (env["MESH_CLUSTER_NETWORKS"] ?? "").split(",").filter((cidr) => cidr !== "");
    for (const cidr of clusterNetworks) parseCidr(cidr);
    const clusterDomain = env["MESH_CLUSTER_DOMAIN"] ?? "cluster.local";
    const index = new PolicyIndex({
      defaultPolicy,
      clusterNetworks,
      clusterDomain,
      defaultOpaquePorts: parsePortSet(env["MESH_DEFAULT_OPAQUE_PORTS"] ?? ""),
    });
    const synced = followCluster(process, {
      service: {
        put: (service) => index.putService(service),
        remove: (ns, name) => index.removeService(ns, name),
      },
      pod: { put: (pod) => index.putPod(pod), remove: (ns, name) => index.removePod(ns, name) },
      namespace: { put: (ns) => index.putNamespace(ns), remove: (_, name) => index.removeNamespace(name) },
    });
    const server = new GrpcServer({ log, registry });
    servePolicy(server, index, clusterDomain);
    // Before the cluster is known every pod and Service would seem not to exist.
    await synced;
    await server.listen(process.port);
    process.onStop(() => server.close());
  });
}

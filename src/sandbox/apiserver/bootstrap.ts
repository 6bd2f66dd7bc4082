// What every cluster has from its first start: the system namespaces, the default roles and the Service of the API
// server itself. Run at each start; what exists is left alone.

import type { NewObject } from "../cluster.ts";
import { defaultRoles } from "./auth/default-roles.ts";
import type { LocalCluster } from "./local-cluster.ts";

const NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"];
/** `kubernetes.default`: where pods find the API server. */
export const API_ADDRESS = "10.96.0.1";

export async function bootstrap(cluster: LocalCluster): Promise<void> {
  const ensure = async (
    group: string,
    resource: string,
    namespace: string | undefined,
    object: NewObject,
  ) => {
    if (cluster.get({ group, resource, namespace, name: object.metadata.name as string })) return;
    await cluster.create(group, resource, namespace, object);
  };
  for (const name of NAMESPACES) await ensure("", "namespaces", undefined, { metadata: { name } });
  for (const { resource, namespace, object } of defaultRoles()) {
    await ensure("rbac.authorization.k8s.io", resource, namespace, object);
  }
  await ensure("", "services", "default", {
    metadata: { name: "kubernetes", labels: { component: "apiserver", provider: "kubernetes" } },
    spec: {
      clusterIP: API_ADDRESS,
      ports: [{ name: "https", port: 443, protocol: "TCP", targetPort: 6443 }],
      type: "ClusterIP",
    },
  });
}

/** Publishes where the API server listens for pods, as the endpoints of Service kubernetes. */
export async function advertise(
  cluster: LocalCluster,
  endpoint: { ip: string; port: number },
): Promise<void> {
  const { ip, port } = endpoint;
  const namespace = "default";
  const name = "kubernetes";
  const subsets = [{ addresses: [{ ip }], ports: [{ name: "https", port, protocol: "TCP" }] }];
  const legacy = { group: "", resource: "endpoints", namespace, name };
  if (!(await cluster.modify(legacy, (known) => ({ ...known, subsets })))) {
    await cluster.create("", "endpoints", namespace, {
      metadata: { name, labels: { "endpointslice.kubernetes.io/skip-mirror": "true" } },
      subsets,
    });
  }
  const body = {
    addressType: "IPv4",
    endpoints: [{ addresses: [ip], conditions: { ready: true } }],
    ports: [{ name: "https", port, protocol: "TCP" }],
  };
  const slice = { group: "discovery.k8s.io", resource: "endpointslices", namespace, name };
  if (!(await cluster.modify(slice, (known) => ({ ...known, ...body })))) {
    await cluster.create(slice.group, slice.resource, namespace, {
      metadata: { name, labels: { "kubernetes.io/service-name": name } },
      ...body,
    });
  }
  await cluster.modify({ group: "", resource: "services", namespace, name }, (known) => ({
    ...known,
    spec: { ...known.spec, ports: [{ name: "https", port: 443, protocol: "TCP", targetPort: port }] },
  }));
}

// The Service under which pods find the cluster's DNS server: kube-system/kube-dns, served by the node itself.
import type { Cluster, NewObject } from "../cluster.ts";
import { DNS_SERVICE_IP, GATEWAY_IP } from "../network/addresses.ts";

const PORTS = [
  { name: "dns", protocol: "UDP", port: 53, targetPort: 53 },
  { name: "dns-tcp", protocol: "TCP", port: 53, targetPort: 53 },
];

/** Creates what is missing of it. Needs the namespace kube-system. */
export async function publishDnsService(cluster: Cluster): Promise<void> {
  const name = "kube-dns";
  const namespace = "kube-system";
  const labels = { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" };
  const ensure = async (group: string, resource: string, object: NewObject) => {
    if (!cluster.get({ group, resource, namespace, name }))
      await cluster.create(group, resource, namespace, object);
  };
  const targets = PORTS.map(({ targetPort, ...port }) => ({ ...port, port: targetPort }));
  await ensure("", "services", {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace, labels },
    spec: { type: "ClusterIP", clusterIP: DNS_SERVICE_IP, ports: PORTS },
  });
  await ensure("", "endpoints", {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: { name, namespace, labels: { ...labels, "endpointslice.kubernetes.io/skip-mirror": "true" } },
    subsets: [{ addresses: [{ ip: GATEWAY_IP }], ports: targets }],
  });
  await ensure("discovery.k8s.io", "endpointslices", {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name, namespace, labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    endpoints: [{ addresses: [GATEWAY_IP], conditions: { ready: true } }],
    ports: targets,
  });
}

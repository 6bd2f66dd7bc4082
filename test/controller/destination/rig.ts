// The destination index behind a real gRPC server, and objects to fill it with.
import { addressText } from "../../../src/api/address.ts";
import type { MessageOf } from "../../../src/api/codec.ts";
import type { Update } from "../../../src/api/destination.ts";
import { podRecord, serviceRecord, sliceRecord } from "../../../src/controller/cluster-objects.ts";
import type { MeshFacts } from "../../../src/controller/destination/address.ts";
import { workloadRecord } from "../../../src/controller/destination/external-workload.ts";
import { type ClusterEndpoints, DestinationIndex } from "../../../src/controller/destination/index.ts";
import { serveDestination } from "../../../src/controller/destination/service.ts";
import { GrpcServer } from "../../../src/controller/grpc-server.ts";
import type { ExternalWorkload } from "../../../src/crds/external-workload.ts";
import type { EndpointSlice, Pod, Service } from "../../../src/kube/types.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { parsePortSet } from "../../../src/util/port-set.ts";
import { TestGrpcClient } from "../../support/grpc-client.ts";

export type UpdateMessage = MessageOf<typeof Update>;

export const MESH: MeshFacts = {
  namespace: "mesh-system",
  trustDomain: "cluster.local",
  clusterDomain: "cluster.local",
  defaultOpaquePorts: parsePortSet("3306"),
};

interface PodChange extends Partial<Pod["metadata"]> {
  readonly meshed?: boolean;
  readonly phase?: string;
  readonly ips?: readonly string[];
  readonly spec?: Partial<Pod["spec"]>;
  readonly status?: Partial<Pod["status"]>;
}

/** A pod of Deployment and ServiceAccount `web` in namespace `emoji`, meshed by our control plane. */
export function pod(name: string, ip: string, change: PodChange = {}) {
  const { meshed = true, phase = "Running", ips = [ip], spec, status, labels, ...metadata } = change;
  return podRecord({
    metadata: {
      name,
      namespace: "emoji",
      uid: `uid-${name}`,
      labels: {
        "pod-template-hash": "abc",
        ...(meshed ? { "linkerd.io/control-plane-ns": "mesh-system" } : {}),
        ...labels,
      },
      ownerReferences: [
        { apiVersion: "apps/v1", kind: "ReplicaSet", name: "web-abc", uid: "rs", controller: true },
      ],
      ...metadata,
    },
    spec: { serviceAccountName: "web", containers: [{ name: "c" }], ...spec },
    status: { phase, podIPs: ips.filter((each) => each !== "").map((each) => ({ ip: each })), ...status },
  } as Pod);
}

export const service = (change: Partial<Service["spec"]> = {}, metadata: Partial<Service["metadata"]> = {}) =>
  serviceRecord({
    metadata: { name: "web", namespace: "emoji", uid: "uid-svc", ...metadata },
    spec: {
      clusterIP: "10.96.1.1",
      clusterIPs: ["10.96.1.1"],
      ports: [{ name: "http", port: 80 }],
      ...change,
    },
  });

export interface EndpointChange {
  readonly ip: string;
  readonly ready?: boolean;
  readonly terminating?: boolean;
  readonly zone?: string;
  readonly forZones?: readonly string[];
  readonly forNodes?: readonly string[];
  readonly node?: string;
  readonly uid?: string;
  readonly kind?: string;
}

/** A slice of Service `web`, whose endpoints are pods by name. */
export const slice = (
  name: string,
  endpoints: Record<string, string | EndpointChange>,
  change: {
    port?: number;
    addressType?: string;
    annotations?: Record<string, string>;
    targets?: boolean;
  } = {},
) =>
  sliceRecord({
    metadata: {
      name,
      namespace: "emoji",
      labels: { "kubernetes.io/service-name": "web" },
      annotations: change.annotations ?? {},
    },
    addressType: change.addressType ?? "IPv4",
    ports: [{ name: "http", port: change.port ?? 8080 }],
    endpoints: Object.entries(endpoints).map(([target, given]) => {
      const endpoint: EndpointChange = typeof given === "string" ? { ip: given } : given;
      const {
        ip,
        ready = true,
        terminating = false,
        zone = "east",
        forZones,
        forNodes,
        node,
        uid,
      } = endpoint;
      return {
        addresses: [ip],
        conditions: { ready, serving: ready || terminating, terminating },
        hostname: target,
        zone,
        ...(node ? { nodeName: node } : {}),
        hints: {
          ...(forZones ? { forZones: forZones.map((each) => ({ name: each })) } : {}),
          ...(forNodes ? { forNodes: forNodes.map((each) => ({ name: each })) } : {}),
        },
        ...(change.targets === false
          ? {}
          : {
              targetRef: {
                kind: endpoint.kind ?? "Pod",
                name: target,
                namespace: "emoji",
                ...(uid ? { uid } : {}),
              },
            }),
      };
    }),
  } as EndpointSlice);

export const workload = (
  name: string,
  ip: string,
  change: Partial<ExternalWorkload["spec"]> = {},
  ready = true,
) =>
  workloadRecord({
    metadata: { name, namespace: "emoji", uid: `uid-${name}`, labels: { app: "web" } },
    spec: {
      meshTLS: { identity: "spiffe://root.linkerd.cluster.local/vm", serverName: "vm.cluster.local" },
      workloadIPs: [{ ip }],
      ports: [{ name: "http", port: 9090, protocol: "TCP" }],
      ...change,
    },
    status: { conditions: [{ type: "Ready", status: ready ? "True" : "False" }] },
  } as ExternalWorkload);

export interface Rig {
  readonly index: DestinationIndex;
  readonly client: TestGrpcClient;
  readonly registry: Registry;
}

export async function withServer(
  run: (rig: Rig) => Promise<void>,
  clusters: ReadonlyMap<string, ClusterEndpoints> = new Map(),
): Promise<void> {
  const registry = new Registry();
  const index = new DestinationIndex(MESH);
  const server = new GrpcServer({ log: createLogger({ level: "off" }), registry });
  serveDestination(server, { local: index, clusters }, MESH);
  const client = new TestGrpcClient(await server.listen(0, "127.0.0.1"));
  try {
    await run({ index, client, registry });
  } finally {
    client.close();
    await server.close();
  }
}

export const added = (update: UpdateMessage) => update.add?.addrs.map((a) => addressText(a.addr)?.ip) ?? [];
export const removed = (update: UpdateMessage) => update.remove?.addrs.map((a) => addressText(a)?.ip) ?? [];
export const AUTHORITY = { path: "web.emoji.svc.cluster.local:80" };

// What should be, computed anew from what the API server holds: endpoints by their definition, without any index; messages
// by fresh indexes behind the same services.
import { decode, type Message, type Method } from "../../src/api/codec.ts";
import {
  namespaceRecord,
  nodeRecord,
  podRecord,
  serviceRecord,
  sliceRecord,
} from "../../src/controller/cluster-objects.ts";
import { workloadRecord } from "../../src/controller/destination/external-workload.ts";
import { DestinationIndex } from "../../src/controller/destination/index.ts";
import { serveDestination } from "../../src/controller/destination/service.ts";
import { profileRecord } from "../../src/controller/destination/service-profile.ts";
import type { InvolvedObject } from "../../src/controller/event-recorder.ts";
import { encodeFrame, type GrpcServer, type Sender } from "../../src/controller/grpc-server.ts";
import type { SubjectSink } from "../../src/controller/policy/kinds.ts";
import { serverRecord, trafficSplitRecord } from "../../src/controller/policy/records.ts";
import { servePolicy } from "../../src/controller/policy/service.ts";
import { type StatusSubject, statusOf, warningsOf } from "../../src/controller/policy/status.ts";
import { Reading } from "../../src/controller/policy/tables.ts";
import type { EndpointSlice, KubeObject, Pod, Service } from "../../src/kube/types.ts";
import { systemClock } from "../../src/util/clock.ts";
import { parsePortSet } from "../../src/util/port-set.ts";
import { POLICY_FACTS, PolicyCluster } from "../support/policy-cluster.ts";
import type { SimulatedApiServer } from "./api-server.ts";
import { COLLECTION, identityOf, isLive, isMeshed, MESH } from "./cluster.ts";

const MESH_FACTS = {
  namespace: MESH,
  trustDomain: "cluster.local",
  clusterDomain: "cluster.local",
  defaultOpaquePorts: parsePortSet("3306"),
};

export const textOf = (value: unknown): string =>
  JSON.stringify(value, (_key, part) => {
    if (typeof part === "bigint") return `${part}n`;
    if (part instanceof Map) return [...part];
    return part;
  });

/** Waits for no changes. */
const NOBODY = { changed() {} };

/** Kinds and versions of policy, by collection. */
export const POLICY_KINDS: Record<string, { readonly apiVersion: string; readonly kind: string }> = {
  [COLLECTION.namespaces]: { apiVersion: "v1", kind: "Namespace" },
  [COLLECTION.pods]: { apiVersion: "v1", kind: "Pod" },
  [COLLECTION.services]: { apiVersion: "v1", kind: "Service" },
  [COLLECTION.servers]: { apiVersion: "policy.linkerd.io/v1beta3", kind: "Server" },
  [COLLECTION.serverAuthorizations]: { apiVersion: "policy.linkerd.io/v1beta1", kind: "ServerAuthorization" },
  [COLLECTION.policies]: { apiVersion: "policy.linkerd.io/v1alpha1", kind: "AuthorizationPolicy" },
  [COLLECTION.meshTls]: { apiVersion: "policy.linkerd.io/v1alpha1", kind: "MeshTLSAuthentication" },
  [COLLECTION.networks]: { apiVersion: "policy.linkerd.io/v1alpha1", kind: "NetworkAuthentication" },
  [COLLECTION.routes]: { apiVersion: "gateway.networking.k8s.io/v1", kind: "HTTPRoute" },
  [COLLECTION.workloads]: { apiVersion: "workload.linkerd.io/v1beta1", kind: "ExternalWorkload" },
  [COLLECTION.rateLimits]: { apiVersion: "policy.linkerd.io/v1alpha1", kind: "HTTPLocalRateLimitPolicy" },
  [COLLECTION.egressNetworks]: { apiVersion: "policy.linkerd.io/v1alpha1", kind: "EgressNetwork" },
  [COLLECTION.grpcRoutes]: { apiVersion: "gateway.networking.k8s.io/v1", kind: "GRPCRoute" },
  [COLLECTION.splits]: { apiVersion: "split.smi-spec.io/v1alpha2", kind: "TrafficSplit" },
};

/** The policy of a cluster that holds just these objects. */
export function policyOf(
  objects: readonly (readonly [collection: string, object: KubeObject])[],
  subjects?: SubjectSink,
): PolicyCluster {
  const cluster = new PolicyCluster({}, subjects);
  for (const [collection, object] of objects) cluster.apply({ ...object, ...POLICY_KINDS[collection] });
  return cluster;
}

/** Whom a Service's path leads to: the identity by address, empty where there is none. */
export function endpointsOf(
  api: SimulatedApiServer,
  namespace: string,
  name: string,
): Map<string, string> | undefined {
  const service = api.get<Service>(COLLECTION.services, namespace, name);
  if (!service?.spec.ports?.some(({ port }) => port === 80)) return undefined;
  const all: { address: string; identity: string; ready: boolean }[] = [];
  for (const slice of api.list<EndpointSlice>(COLLECTION.slices)) {
    const { metadata, endpoints = [], ports = [] } = slice;
    if (metadata.namespace !== namespace || metadata.labels?.["kubernetes.io/service-name"] !== name)
      continue;
    const port = ports.find((each) => each.name === "http")?.port;
    for (const { addresses, conditions, targetRef } of endpoints) {
      const [ip] = addresses;
      if (targetRef?.kind === "Pod") {
        const pod = api.get<Pod>(COLLECTION.pods, namespace, targetRef.name!);
        if (!pod || pod.metadata.uid !== targetRef.uid || !isLive(pod) || pod.status?.podIP !== ip) continue;
        const identity = isMeshed(pod) ? identityOf(namespace, pod.spec.serviceAccountName!) : "";
        all.push({ address: `${ip}:${port}`, identity, ready: conditions?.ready !== false });
      } else {
        const workload = api.get(COLLECTION.workloads, namespace, targetRef!.name!) as unknown as
          | {
              metadata: { uid: string };
              spec: { meshTLS: { identity: string }; workloadIPs: { ip: string }[] };
              status: { conditions: { status: string }[] };
            }
          | undefined;
        if (!workload || workload.metadata.uid !== targetRef!.uid || workload.spec.workloadIPs[0]!.ip !== ip)
          continue;
        if (workload.status.conditions[0]!.status !== "True") continue;
        all.push({ address: `${ip}:${port}`, identity: workload.spec.meshTLS.identity, ready: true });
      }
    }
  }
  const ready = all.filter((each) => each.ready);
  return new Map((ready.length > 0 ? ready : all).map(({ address, identity }) => [address, identity]));
}

/** The services of the control plane, from scratch, asked without a network. */
export class FreshControlPlane {
  readonly #methods = new Map<
    string,
    { response: Message<unknown>; handle: (request: never, sender: never) => void }
  >();
  readonly #policy: PolicyCluster;
  readonly #subjects: StatusSubject[] = [];

  constructor(api: SimulatedApiServer) {
    const server = {
      stream: (method: Method<unknown, unknown>, handle: (request: never, sender: never) => void) =>
        this.#methods.set(method.path, { response: method.response, handle }),
      unary: () => {},
      clock: systemClock,
    } as unknown as GrpcServer;
    const index = new DestinationIndex(MESH_FACTS);
    const each = <T extends KubeObject>(collection: string, put: (object: T) => void) => {
      for (const object of api.list<T>(collection)) put(object);
    };
    each(COLLECTION.namespaces, (object) => index.putNamespace(namespaceRecord(object)));
    each(COLLECTION.nodes, (object) => index.putNode(nodeRecord(object as never)));
    each<Service>(COLLECTION.services, (object) => index.putService(serviceRecord(object)));
    each<Pod>(COLLECTION.pods, (object) => index.putPod(podRecord(object)));
    each<EndpointSlice>(COLLECTION.slices, (object) => index.putSlice(sliceRecord(object)));
    each(COLLECTION.servers, (object) => index.putServer(serverRecord(object)));
    each(COLLECTION.workloads, (object) => index.putWorkload(workloadRecord(object as never)));
    each(COLLECTION.splits, (object) => index.putSplit(trafficSplitRecord(object)));
    each(COLLECTION.profiles, (object) => index.putProfile(profileRecord(object as never)));
    serveDestination(server, { local: index, clusters: new Map() }, MESH_FACTS);
    this.#policy = policyOf(
      Object.keys(POLICY_KINDS).flatMap((collection) =>
        api.list(collection).map((object) => [collection, object] as const),
      ),
      { put: (subject) => this.#subjects.push(subject), remove: () => {} },
    );
    servePolicy(server, this.#policy.index, "cluster.local");
  }

  /** Objects whose status is not what it should be, with what it should be. */
  statuses(): string[] {
    return this.#subjects.flatMap((subject) => {
      const status = statusOf(this.#policy.index.store, POLICY_FACTS, subject, new Reading(NOBODY), "now");
      return status ? [`${subject.objectKind} ${subject.key} should have the status ${textOf(status)}`] : [];
    });
  }

  /** What the authors of objects are to be told by events. */
  warnings(): { readonly involved: InvolvedObject; readonly reason: string; readonly message: string }[] {
    return this.#subjects.flatMap((subject) =>
      warningsOf(this.#policy.index.store, subject, new Reading(NOBODY)).map(({ reason, message }) => {
        const { objectKind: kind, namespace, name, uid, apiVersion } = subject;
        return { involved: { apiVersion, kind, namespace, name, uid }, reason, message };
      }),
    );
  }

  /** The text of the first message; undefined: the call is refused. */
  first<Q, R>(method: Method<Q, R>, request: unknown): string | undefined {
    const { response, handle } = this.#methods.get(method.path)!;
    let first: string | undefined;
    const take = (bytes: Buffer) => {
      first ??= textOf(decode(response, bytes.subarray(5)));
    };
    const sender: Sender<object> = {
      send: (message) => take(encodeFrame(response as never, message as never)),
      sendFrame: take,
      end: () => {},
      closed: false,
      whenClosed: () => {},
      channel: { sendFrame: (_, bytes) => take(bytes), end: () => {} },
      stream: undefined as never,
    };
    try {
      handle(request as never, sender as never);
    } catch {
      return undefined;
    }
    return first;
  }
}

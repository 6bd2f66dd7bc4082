// A policy index fed with whole Kubernetes objects on the way that production takes them, for tests.
import type { Message, MessageOf } from "../../src/api/codec.ts";
import { Server } from "../../src/api/inbound.ts";
import { OutboundPolicy } from "../../src/api/outbound.ts";
import { namespaceRecord, podRecord, serviceRecord } from "../../src/controller/cluster-objects.ts";
import type { ServerMessage, WorkloadRef } from "../../src/controller/policy/inbound.ts";
import { type OutboundTarget, type PolicyFacts, PolicyIndex } from "../../src/controller/policy/index.ts";
import { policyKinds, type SubjectSink } from "../../src/controller/policy/kinds.ts";
import { type Followed, type Listener, messageIn } from "../../src/controller/policy/listener.ts";
import { pluralOf } from "../../src/kube/path.ts";
import type { KubeObject, Namespace, Pod, Service } from "../../src/kube/types.ts";
import { parsePortSet } from "../../src/util/port-set.ts";

export const POLICY_FACTS: PolicyFacts = {
  defaultPolicy: "all-unauthenticated",
  clusterNetworks: ["10.0.0.0/8"],
  defaultOpaquePorts: parsePortSet("3306"),
  clusterDomain: "cluster.local",
  domain: { controlPlane: "mesh-system", trustDomain: "cluster.local" },
  globalEgressNamespace: "linkerd-egress",
  allowHeaders: false,
};

const DEAF: SubjectSink = { put() {}, remove() {} };

export class PolicyCluster {
  readonly index: PolicyIndex;
  readonly #kinds: ReturnType<typeof policyKinds>;
  readonly #objects = new Map<string, KubeObject>();

  /** @param schedule the index's; by default every change is told at once */
  constructor(
    facts: Partial<PolicyFacts> = {},
    subjects: SubjectSink = DEAF,
    schedule?: (fn: () => void) => void,
  ) {
    this.index = new PolicyIndex({ ...POLICY_FACTS, ...facts }, schedule);
    this.#kinds = policyKinds(this.index, subjects);
  }

  get objects(): readonly KubeObject[] {
    return [...this.#objects.values()];
  }

  apply(...objects: readonly object[]): this {
    for (const given of objects) {
      const object = given as KubeObject;
      this.#objects.set(nameOf(object), object);
      if (object.kind === "Pod") this.index.putPod(podRecord(object as Pod));
      else if (object.kind === "Service") this.index.putService(serviceRecord(object as Service));
      else if (object.kind === "Namespace") this.index.putNamespace(namespaceRecord(object as Namespace));
      else {
        const kind = this.#kindOf(object);
        kind.put(kind.keep(object, object.apiVersion!));
      }
    }
    return this;
  }

  delete(...objects: readonly object[]): this {
    for (const given of objects) {
      const object = given as KubeObject;
      const { namespace = "", name } = object.metadata;
      this.#objects.delete(nameOf(object));
      if (object.kind === "Pod") this.index.removePod(namespace, name);
      else if (object.kind === "Service") this.index.removeService(namespace, name);
      else if (object.kind === "Namespace") this.index.removeNamespace(name);
      else {
        const kind = this.#kindOf(object);
        kind.remove(kind.keep(object, object.apiVersion!));
      }
    }
    return this;
  }

  /** What a proxy is told of a port, as it comes over the wire. Returns the way to stop. */
  watchServer(
    workload: WorkloadRef,
    port: number,
    hear: (server: ServerMessage | undefined) => void,
  ): () => void {
    return follow(Server, hear, (listener) => this.index.watchServer(workload, port, listener));
  }

  /** The same of what it talks to. */
  watchOutbound(
    target: OutboundTarget,
    client: string,
    hear: (policy: MessageOf<typeof OutboundPolicy> | undefined) => void,
  ): () => void {
    return follow(OutboundPolicy, hear, (listener) => this.index.watchOutbound(target, client, listener));
  }

  #kindOf({ apiVersion = "", kind = "" }: KubeObject) {
    const [group, version] = apiVersion.split("/");
    const found = this.#kinds.find(
      (one) => one.group === group && one.resource === pluralOf(kind) && one.versions.includes(version!),
    );
    if (!found) throw new Error(`policy does not follow ${apiVersion} ${kind}`);
    return found;
  }
}

function follow<R, Q>(
  type: Message<R>,
  hear: (message: R | undefined) => void,
  watch: (listener: Listener<Q>) => Followed<Q>,
): () => void {
  const listener: Listener<Q> = { update: (frame) => hear(frame && messageIn(type, frame)) };
  const followed = watch(listener);
  return () => followed.leave(listener);
}

const nameOf = ({ apiVersion, kind, metadata }: KubeObject): string =>
  `${apiVersion?.split("/")[0]} ${kind} ${metadata.namespace}/${metadata.name}`;

let age = Date.parse("2026-01-01T00:00:00Z");

/** An object as the API server has it, younger than those made before it. */
export function policyObject(
  apiVersion: string,
  kind: string,
  name: string,
  rest: { namespace?: string; spec?: object; labels?: object; annotations?: object; status?: object } = {},
): KubeObject {
  const { namespace = "emoji", labels, annotations, ...body } = rest;
  age += 1_000;
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      ...(kind === "Namespace" ? {} : { namespace }),
      uid: `uid-${name}`,
      generation: 1,
      resourceVersion: String(age),
      creationTimestamp: new Date(age).toISOString(),
      ...(labels ? { labels } : {}),
      ...(annotations ? { annotations } : {}),
    },
    ...body,
  } as KubeObject;
}

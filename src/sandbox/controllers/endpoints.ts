// Keeps EndpointSlices, and the classic Endpoints beside them, in step with Services that select pods.
import { isDeepStrictEqual } from "node:util";
import type { Json, KubeObject } from "../cluster.ts";
import { Controller, type ControllerContext, keyOf, splitKey, timestamp } from "./controller.ts";
import { endpointSubsets, sliceContents } from "./endpoint-slices.ts";
import { controllerReference, isControlledBy } from "./ownership.ts";
import { isFinished, isReady } from "./pods.ts";

const SLICES = { group: "discovery.k8s.io", resource: "endpointslices" };
const SERVICE_NAME = "kubernetes.io/service-name";
const MANAGED_BY = "endpointslice.kubernetes.io/managed-by";
const MANAGER = "endpointslice-controller.k8s.io";
const HEADLESS = "service.kubernetes.io/headless";
const TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time";

export class EndpointsController extends Controller {
  constructor(context: ControllerContext) {
    super("endpoint-slice-controller", context, { workers: 8 });
  }

  start(): void {
    this.watch("", "services", (_, service) => this.queue.add(keyOf(service)));
    this.watch("", "pods", (type, pod, previous) => {
      if (type === "MODIFIED" && previous && sameForServices(pod, previous)) return;
      this.#podChanged(pod);
      if (previous && !isDeepStrictEqual(previous.metadata.labels, pod.metadata.labels))
        this.#podChanged(previous);
    });
    this.watch("discovery.k8s.io", "endpointslices", (type, slice) => {
      const service = slice.metadata.labels?.[SERVICE_NAME];
      if (type !== "ADDED" && service && slice.metadata.labels?.[MANAGED_BY] === MANAGER) {
        this.queue.add(`${slice.metadata.namespace}/${service}`);
      }
    });
  }

  #podChanged(pod: KubeObject): void {
    for (const service of this.cluster.list("", "services", pod.metadata.namespace)) {
      if (selects(service, pod)) this.queue.add(keyOf(service));
    }
  }

  protected async sync(key: string): Promise<void> {
    const { namespace, name } = splitKey(key);
    const service = this.cluster.get({ group: "", resource: "services", namespace, name });
    // Without a selector the endpoints are somebody else's; without a service they are garbage (by ownership).
    if (!service || !hasSelector(service)) {
      if (!service) await this.cluster.delete({ group: "", resource: "endpoints", namespace, name });
      return;
    }
    if (service.metadata.deletionTimestamp) return;
    const pods = this.cluster.list("", "pods", namespace).filter((pod) => selects(service, pod));
    await this.#slices(service, pods);
    await this.#endpoints(service, pods);
  }

  async #slices(service: KubeObject, pods: readonly KubeObject[]): Promise<void> {
    const { namespace, name } = service.metadata;
    const wanted = sliceContents(service, pods, (node) => this.#zone(node));
    // A service without endpoints still has one slice: "known, and empty" is not "unknown".
    if (wanted.length === 0) wanted.push({ ports: [], endpoints: [] });
    const labels = sliceLabels(service);
    const existing = this.cluster
      .list(SLICES.group, SLICES.resource, namespace)
      .filter((slice) => slice.metadata.labels?.[SERVICE_NAME] === name)
      .filter((slice) => slice.metadata.labels?.[MANAGED_BY] === MANAGER && isControlledBy(slice, service));
    const now = timestamp(this.clock.now());
    for (const content of wanted) {
      // Prefer the slice that already has these ports, so that a change stays a change of one slice.
      const index = existing.findIndex((slice) => isDeepStrictEqual(slice["ports"] ?? [], content.ports));
      const [slice] = existing.splice(Math.max(index, 0), 1);
      if (!slice) {
        await this.cluster.create(SLICES.group, SLICES.resource, namespace, {
          apiVersion: "discovery.k8s.io/v1",
          kind: "EndpointSlice",
          metadata: {
            generateName: `${name}-`,
            namespace: namespace!,
            labels,
            annotations: { [TRIGGER]: now },
            ownerReferences: [controllerReference(service, "v1", "Service")],
          },
          addressType: "IPv4",
          ...content,
        });
        continue;
      }
      await this.cluster.modify({ ...SLICES, namespace, name: slice.metadata.name }, (current) => {
        const same =
          isDeepStrictEqual(current["ports"] ?? [], content.ports) &&
          isDeepStrictEqual(current["endpoints"] ?? [], content.endpoints);
        if (same && isDeepStrictEqual(current.metadata.labels, labels)) return undefined;
        const annotations = { ...current.metadata.annotations, [TRIGGER]: now };
        return { ...current, metadata: { ...current.metadata, labels, annotations }, ...content };
      });
    }
    for (const slice of existing) {
      await this.cluster.delete({ ...SLICES, namespace, name: slice.metadata.name });
    }
  }

  async #endpoints(service: KubeObject, pods: readonly KubeObject[]): Promise<void> {
    const { namespace, name } = service.metadata;
    const subsets = endpointSubsets(service, pods);
    const labels = { ...service.metadata.labels, ...headlessLabel(service) };
    const annotations = { [TRIGGER]: timestamp(this.clock.now()) };
    const ref = { group: "", resource: "endpoints", namespace, name };
    if (!this.cluster.get(ref)) {
      await this.cluster.create("", "endpoints", namespace, {
        apiVersion: "v1",
        kind: "Endpoints",
        metadata: { name, namespace: namespace!, labels, annotations },
        subsets,
      });
      return;
    }
    await this.cluster.modify(ref, (current) => {
      const same = isDeepStrictEqual(current["subsets"] ?? [], subsets as Json[]);
      if (same && isDeepStrictEqual(current.metadata.labels ?? {}, labels)) return undefined;
      const metadata = {
        ...current.metadata,
        labels,
        annotations: { ...current.metadata.annotations, ...annotations },
      };
      return { ...current, metadata, subsets };
    });
  }

  #zone(node: string): string | undefined {
    return this.cluster.get({ group: "", resource: "nodes", name: node })?.metadata.labels?.[
      "topology.kubernetes.io/zone"
    ];
  }
}

function sliceLabels(service: KubeObject): Record<string, string> {
  return {
    ...service.metadata.labels,
    [SERVICE_NAME]: service.metadata.name,
    [MANAGED_BY]: MANAGER,
    ...headlessLabel(service),
  };
}

function headlessLabel(service: KubeObject): Record<string, string> {
  return service["spec"].clusterIP === "None" ? { [HEADLESS]: "" } : {};
}

function hasSelector(service: KubeObject): boolean {
  return service["spec"].type !== "ExternalName" && Object.keys(service["spec"].selector ?? {}).length > 0;
}

/** A Service's selector is a plain map: every pair must be among the pod's labels. */
function selects(service: KubeObject, pod: KubeObject): boolean {
  if (!hasSelector(service)) return false;
  const labels = pod.metadata.labels ?? {};
  return Object.entries(service["spec"].selector).every(([key, value]) => labels[key] === value);
}

/** Whether a pod's change shows in no EndpointSlice. */
function sameForServices(a: KubeObject, b: KubeObject): boolean {
  return (
    isReady(a) === isReady(b) &&
    isFinished(a) === isFinished(b) &&
    a["status"]?.podIP === b["status"]?.podIP &&
    a["spec"].nodeName === b["spec"].nodeName &&
    Boolean(a.metadata.deletionTimestamp) === Boolean(b.metadata.deletionTimestamp) &&
    isDeepStrictEqual(a.metadata.labels, b.metadata.labels)
  );
}

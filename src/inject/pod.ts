// The one mutation: a pod (template) in, the operations that mesh it out. The CLI and the webhook both call it.
import { createHash } from "node:crypto";
import { KEYS } from "../manifests/names.ts";
import type { Values } from "../manifests/values.ts";
import { decideInjection, type InjectionVerdict } from "../rules/injection.ts";
import type { Trace } from "../rules/trace.ts";
import { parsePortSet, portSetHas } from "../util/port-set.ts";
import { VERSION } from "../util/version.ts";
import { applyAnnotations, SETTING_KEYS } from "./annotations.ts";
import {
  debugContainer,
  isAwaited,
  networkContainer,
  type PodFacts,
  proxyContainer,
  proxyVolumes,
} from "./containers.ts";
import type { LocalComponent } from "./env.ts";
import { type Operation, setEntries } from "./patch.ts";
import { resourceAttributes, tracingProblem } from "./tracing.ts";
import { inboundPorts, longRunning, type PodTemplate, type StringMap } from "./workload.ts";

export interface PodInjection {
  readonly template: PodTemplate;
  /** JSON pointer of the template inside the object that is patched; empty for a pod. */
  readonly path: string;
  /** Name (when known) and annotations of the pod's namespace. */
  readonly namespace: { readonly name?: string | undefined; readonly annotations?: StringMap | undefined };
  /** The workload that the pod belongs to, for the label `linkerd.io/proxy-<kind>`. */
  readonly owner?: { readonly kind: string; readonly name: string } | undefined;
  readonly values: Values;
  readonly origin: "webhook" | "cli";
  /** What `linkerd.io/created-by` says. */
  readonly createdBy: string;
  readonly local?: LocalComponent | undefined;
  readonly mountTrustRoots?: boolean;
  readonly trace?: Trace;
}

export interface PodInjected {
  readonly verdict: InjectionVerdict;
  /** Empty when the verdict is not to inject. */
  readonly operations: readonly Operation[];
  /** Annotations that are wrong and therefore have no effect. */
  readonly problems: readonly string[];
}

/** Decides by {@link decideInjection} and builds the operations that turn the template into a meshed one. */
export function injectPod(request: PodInjection): PodInjected {
  const { template, path, namespace, origin } = request;
  const spec = template.spec ?? {};
  const annotations = template.metadata?.annotations ?? {};
  const inherited = namespace.annotations ?? {};
  const verdict = decideInjection(
    {
      origin,
      supported: true,
      namespaceAnnotation: inherited[KEYS.inject],
      workloadAnnotation: annotations[KEYS.inject],
      hostNetwork: spec.hostNetwork === true,
      containers: spec.containers ?? [],
      initContainers: spec.initContainers ?? [],
      udpPorts: hasUdpPorts(template),
      tokenProjected: true,
      automountToken: spec.automountServiceAccountToken !== false,
    },
    request.trace,
  );
  if (!verdict.inject) return { verdict, operations: [], problems: [] };

  const settings = applyAnnotations(request.values, inherited, annotations, portNames(template));
  const values = settled(settings.values, request, verdict.ingress);
  const tracing = tracingProblem(settings.values);
  const pod: PodFacts = {
    inboundPorts: values.proxy.podInboundPorts || inboundPorts(spec).join(","),
    local: request.local,
    mountTrustRoots: request.mountTrustRoots,
    resourceAttributes: resourceAttributes(inherited, template),
    addedCapabilities: spec.containers?.[0]?.securityContext?.capabilities?.add ?? [],
  };
  return {
    verdict,
    problems: tracing === undefined ? settings.problems : [...settings.problems, tracing],
    operations: [
      ...metadataOperations(request, values, pod),
      ...append(`${path}/spec/volumes`, spec.volumes, proxyVolumes(values, pod)),
      ...containerOperations(path, template, values, pod),
    ],
  };
}

/** What follows from the kind of workload and from the wish for ingress. */
function settled(values: Values, request: PodInjection, ingress: boolean): Values {
  const { proxy } = values;
  const asked = [request.namespace.annotations, request.template.metadata?.annotations].some(
    (annotations) => annotations?.[KEYS.adminShutdown] !== undefined,
  );
  // A Job with a proxy that is no native sidecar ends only when the proxy is told to.
  const jobs = !proxy.nativeSidecar && !asked && ["Job", "CronJob"].includes(request.owner?.kind ?? "");
  return {
    ...values,
    proxy: {
      ...proxy,
      isIngress: proxy.isIngress || ingress,
      enableShutdownEndpoint: proxy.enableShutdownEndpoint || jobs,
      tracing: tracingProblem(values) === undefined ? proxy.tracing : { ...proxy.tracing, enabled: false },
    },
  };
}

export function hasUdpPorts(template: PodTemplate): boolean {
  return longRunning(template.spec ?? {}).some((container) =>
    (container.ports ?? []).some((port) => port.protocol === "UDP"),
  );
}

export function portNames(template: PodTemplate): Map<string, number> {
  const names = new Map<string, number>();
  for (const container of longRunning(template.spec ?? {})) {
    for (const port of container.ports ?? []) if (port.name) names.set(port.name, port.containerPort);
  }
  return names;
}

/** Kubernetes' bound on the length of a label's value. */
const MAX_LABEL = 63;

function metadataOperations(request: PodInjection, values: Values, pod: PodFacts): Operation[] {
  const { template, path, namespace, owner } = request;
  const labels: Record<string, string> = { [KEYS.controlPlaneNs]: values.namespace };
  if (namespace.name) labels[KEYS.workloadNs] = namespace.name;
  if (owner && owner.name.length <= MAX_LABEL) {
    labels[`${KEYS.proxyLabelPrefix}${owner.kind.toLowerCase()}`] = owner.name;
  }
  const added = addedAnnotations(request, values, pod);
  const foreign = Object.keys(added).filter((key) => !key.startsWith(KEYS.domain));
  const annotations: Record<string, string> = {
    ...added,
    ...(foreign.length > 0 ? { [KEYS.addedAnnotations]: foreign.join(",") } : {}),
    [KEYS.createdBy]: request.createdBy,
    [KEYS.proxyVersion]: values.proxy.image.version || values.image.version || VERSION,
    [KEYS.trustRootSha256]: createHash("sha256").update(values.identityTrustAnchorsPEM).digest("hex"),
  };
  const { metadata } = template;
  if (!metadata) return [{ op: "add", path: `${path}/metadata`, value: { labels, annotations } }];
  return [
    ...setEntries(`${path}/metadata/labels`, metadata.labels, labels),
    ...setEntries(`${path}/metadata/annotations`, metadata.annotations, annotations),
  ];
}

/**
 * What sticks to a pod: its namespace's settings as they were at its birth, which of its own ports are opaque by
 * default, and what tools ask about it.
 */
function addedAnnotations(request: PodInjection, values: Values, pod: PodFacts): Record<string, string> {
  const own = request.template.metadata?.annotations ?? {};
  const namespace = request.namespace.annotations ?? {};
  const out: Record<string, string> = {};
  for (const key of [...SETTING_KEYS, KEYS.inject]) {
    const inherited = namespace[key];
    if (inherited !== undefined && own[key] === undefined) out[key] = inherited;
  }
  const spec = request.template.spec ?? {};
  if (own[KEYS.opaquePorts] === undefined && out[KEYS.opaquePorts] === undefined) {
    const ports = defaultOpaquePorts(values, inboundPorts(spec));
    if (ports.length > 0) out[KEYS.opaquePorts] = ports.join(",");
  }
  const { tap } = values.proxy;
  if (tap.serviceName !== "" && !tap.disabled) out[KEYS.tapEnabled] = "true";
  // The proxy comes first where it is awaited; `kubectl logs` and `exec` should still mean the application.
  const app = spec.containers?.[0]?.name;
  if (app !== undefined && isAwaited(values, pod)) out[KEYS.defaultContainer] = app;
  return Object.fromEntries(Object.entries(out).filter(([key]) => own[key] === undefined));
}

/** Those of `ports` that the default list holds. */
export function defaultOpaquePorts(values: Values, ports: readonly number[]): number[] {
  const opaque = parsePortSet(values.proxy.opaquePorts);
  return ports.filter((port) => portSetHas(opaque, port));
}

function append(
  path: string,
  existing: readonly unknown[] | null | undefined,
  items: readonly unknown[],
): Operation[] {
  if (!existing) return [{ op: "add", path, value: items }];
  return items.map((value) => ({ op: "add", path: `${path}/-`, value }));
}

function containerOperations(
  path: string,
  template: PodTemplate,
  values: Values,
  pod: PodFacts,
): Operation[] {
  const prepend = (
    list: string,
    existing: readonly unknown[] | null | undefined,
    items: readonly unknown[],
  ) =>
    existing
      ? items.map((value, index): Operation => ({ op: "add", path: `${path}/spec/${list}/${index}`, value }))
      : [{ op: "add" as const, path: `${path}/spec/${list}`, value: items }];
  const { initContainers, containers } = template.spec ?? {};
  const network = networkContainer(values);
  const proxy = proxyContainer(values, pod);
  const debug = values.debugContainer.enabled ? [debugContainer(values)] : [];
  const { nativeSidecar } = values.proxy;
  const first = !nativeSidecar && isAwaited(values, pod);
  const last = nativeSidecar || first ? debug : [proxy, ...debug];
  return [
    ...prepend("initContainers", initContainers, nativeSidecar ? [network, proxy] : [network]),
    ...(first ? prepend("containers", containers, [proxy]) : []),
    ...(last.length > 0
      ? append(`${path}/spec/containers`, first ? (containers ?? []) : containers, last)
      : []),
  ];
}

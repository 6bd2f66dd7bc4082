// What a meshed pod's spans say, and where they go: from values, annotations and labels to the proxy's environment.
import { identityName, KEYS, PROXY_CONTAINER } from "../manifests/names.ts";
import type { Values } from "../manifests/values.ts";
import type { PodTemplate, StringMap } from "./workload.ts";

export const PODINFO_DIR = "/var/run/linkerd/podinfo";
export const PODINFO_LABELS = "labels";

/** Whether the proxies of an installation make spans. */
export const isTraced = ({ proxy: { tracing } }: Values): boolean =>
  tracing.enabled && tracing.collector.name !== "";

/** Why spans that are asked for would go nowhere; undefined when they do not. */
export function tracingProblem({ proxy: { tracing } }: Values): string | undefined {
  const { name, meshIdentity } = tracing.collector;
  if (!tracing.enabled) return undefined;
  if (name === "")
    return "value proxy.tracing.collector.name: expected host:port of the collector, it is empty";
  return meshIdentity.serviceAccountName !== "" && meshIdentity.namespace !== ""
    ? undefined
    : "value proxy.tracing.collector.meshIdentity: expected serviceAccountName and namespace of the collector, which the proxy verifies";
}

/** OpenTelemetry's rule for pods: the annotation, then either label of the application's. */
const SERVICE_NAME_LABELS = ["app.kubernetes.io/instance", "app.kubernetes.io/name"];

/** Attributes of the pod's spans; what the pod says wins over its namespace. */
export function resourceAttributes(namespace: StringMap, { metadata }: PodTemplate): Record<string, string> {
  const out: Record<string, string> = {};
  const label = SERVICE_NAME_LABELS.map((name) => metadata?.labels?.[name]).find((name) => name);
  if (label !== undefined) out["service.name"] = label;
  for (const annotations of [namespace, metadata?.annotations ?? {}]) {
    for (const [key, value] of Object.entries(annotations)) {
      const name = key.slice(KEYS.otelResource.length);
      if (key.startsWith(KEYS.otelResource) && name !== "") out[name] = value;
    }
  }
  return out;
}

/** The proxy's settings of traces, without their prefix; none where nothing is traced. */
export function traceEnv(values: Values, attributes: StringMap = {}): Record<string, string | undefined> {
  if (!isTraced(values)) return {};
  const { collector, labels, traceServiceName, samplingRatio } = values.proxy.tracing;
  const { serviceAccountName, namespace } = collector.meshIdentity;
  const { "service.name": serviceName, ...own } = attributes;
  const extra = {
    "k8s.pod.ip": "$(_pod_ip)",
    "k8s.pod.uid": "$(_pod_uid)",
    "k8s.container.name": PROXY_CONTAINER,
    ...(labels as StringMap),
    ...own,
  };
  return {
    TRACE_ATTRIBUTES_PATH: `${PODINFO_DIR}/${PODINFO_LABELS}`,
    TRACE_COLLECTOR_SVC_ADDR: collector.name,
    TRACE_COLLECTOR_SVC_NAME:
      serviceAccountName === ""
        ? undefined
        : identityName(serviceAccountName, namespace, {
            namespace: values.namespace,
            trustDomain: values.identityTrustDomain,
          }),
    TRACE_PROTOCOL: "opentelemetry",
    TRACE_SERVICE_NAME: serviceName ?? traceServiceName,
    TRACE_SAMPLING_RATIO: samplingRatio > 0 ? String(samplingRatio) : undefined,
    // A line each: a value may hold commas, and none a line break.
    TRACE_EXTRA_ATTRIBUTES: Object.entries(extra)
      .map(([name, value]) => `${name}=${value.replaceAll(/[\r\n]+/g, " ")}`)
      .join("\n"),
  };
}

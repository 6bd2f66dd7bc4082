// The environment a container starts with: its own variables, those of its services, references resolved.
import type { Json, KubeObject } from "../cluster.ts";
import { divideQuantity } from "./quantity.ts";

/** What the container cannot start without is missing: the pod waits with CreateContainerConfigError. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ConfigError";
  }
}

export interface EnvironmentSources {
  readonly pod: KubeObject;
  readonly container: Json;
  readonly podIP: string;
  readonly hostIP: string;
  /** What limits that are not set default to. */
  readonly allocatable: { readonly cpu: string; readonly memory: string };
  /** `data` of a ConfigMap of the pod's namespace, or undefined. */
  configMap(name: string): Record<string, string> | undefined;
  /** Decoded data of a Secret of the pod's namespace, or undefined. */
  secret(name: string): Record<string, string> | undefined;
  /** Services whose addresses the pod is told (its namespace's, and default/kubernetes). */
  services(): readonly KubeObject[];
}

/** Variables in the order of precedence of a real kubelet: services, envFrom, env. @throws ConfigError */
export function buildEnvironment(sources: EnvironmentSources): Record<string, string> {
  const { container, pod } = sources;
  const services = serviceVariables(sources.services(), pod);
  const result: Record<string, string> = {};
  for (const from of container.envFrom ?? []) {
    const [kind, ref] = from.configMapRef ? ["configmap", from.configMapRef] : ["secret", from.secretRef];
    if (!ref) continue;
    const data = kind === "configmap" ? sources.configMap(ref.name) : sources.secret(ref.name);
    if (!data) {
      if (ref.optional) continue;
      throw new ConfigError(`${kind} ${JSON.stringify(ref.name)} not found`);
    }
    for (const [key, value] of Object.entries(data)) {
      const name = `${from.prefix ?? ""}${key}`;
      if (isName(name)) result[name] = value;
    }
  }
  for (const variable of container.env ?? []) {
    if (!isName(variable.name)) continue;
    const value = variable.valueFrom
      ? reference(variable.valueFrom, sources)
      : expand(variable.value ?? "", (name) => result[name] ?? services[name]);
    if (value !== undefined) result[variable.name] = value;
  }
  return { ...services, ...result };
}

/** `$(NAME)` from `lookup`; `$$` is a literal `$`; unknown names stay as they are. */
export function expand(text: string, lookup: (name: string) => string | undefined): string {
  return text.replace(/\$\$|\$\(([^()]*)\)/g, (whole, name: string | undefined) =>
    name === undefined ? "$" : (lookup(name) ?? whole),
  );
}

function isName(name: unknown): name is string {
  return typeof name === "string" && name !== "" && !/[=\0]/.test(name);
}

function reference(from: Json, sources: EnvironmentSources): string | undefined {
  if (from.fieldRef) return fieldValue(from.fieldRef.fieldPath, sources);
  if (from.resourceFieldRef) return resourceValue(from.resourceFieldRef, sources);
  const ref = from.configMapKeyRef ?? from.secretKeyRef;
  if (!ref) return undefined;
  const kind = from.configMapKeyRef ? "configmap" : "secret";
  const data = from.configMapKeyRef ? sources.configMap(ref.name) : sources.secret(ref.name);
  if (data?.[ref.key] !== undefined) return data[ref.key];
  if (ref.optional) return undefined;
  throw new ConfigError(
    data
      ? `couldn't find key ${ref.key} in ${kind === "secret" ? "Secret" : "ConfigMap"} ${sources.pod.metadata.namespace}/${ref.name}`
      : `${kind} ${JSON.stringify(ref.name)} not found`,
  );
}

/** A field of the downward API as text. @throws ConfigError for a path that does not exist. */
export function fieldValue(
  path: string,
  { pod, podIP, hostIP }: Pick<EnvironmentSources, "pod" | "podIP" | "hostIP">,
): string {
  const { metadata, spec } = pod;
  const keyed = /^metadata\.(labels|annotations)\['(.*)'\]$/.exec(path);
  if (keyed) return metadata[keyed[1] as "labels" | "annotations"]?.[keyed[2]!] ?? "";
  switch (path) {
    case "metadata.name":
      return metadata.name;
    case "metadata.namespace":
      return metadata.namespace ?? "";
    case "metadata.uid":
      return metadata.uid ?? "";
    case "metadata.labels":
    case "metadata.annotations":
      return Object.entries(metadata[path.slice(9) as "labels" | "annotations"] ?? {})
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
        .join("\n");
    case "spec.nodeName":
      return spec.nodeName ?? "";
    case "spec.serviceAccountName":
      return spec.serviceAccountName ?? "";
    case "status.hostIP":
    case "status.hostIPs":
      return hostIP;
    case "status.podIP":
    case "status.podIPs":
      return podIP;
    default:
      throw new ConfigError(`unsupported fieldPath: ${path}`);
  }
}

/** A resource of a container in units of its divisor. `containerName` (volumes) picks the container. */
export function resourceValue(
  ref: Json,
  sources: Pick<EnvironmentSources, "pod" | "allocatable"> & { container?: Json },
): string {
  const { pod } = sources;
  const container = ref.containerName
    ? [...(pod.spec.containers ?? []), ...(pod.spec.initContainers ?? [])].find(
        (each: Json) => each.name === ref.containerName,
      )
    : sources.container;
  if (!container) throw new ConfigError(`container ${ref.containerName} not found`);
  const [kind, ...name] = String(ref.resource).split(".");
  const resource = name.join(".");
  const given = container.resources?.[kind!]?.[resource];
  const missing = kind === "limits" ? (sources.allocatable as Record<string, string>)[resource] : undefined;
  return String(divideQuantity(given ?? missing ?? "0", ref.divisor));
}

function serviceVariables(services: readonly KubeObject[], pod: KubeObject): Record<string, string> {
  const result: Record<string, string> = {};
  const links = pod.spec.enableServiceLinks !== false;
  for (const service of services) {
    const { name, namespace } = service.metadata;
    const ip = service.spec?.clusterIP;
    const ports: Json[] = service.spec?.ports ?? [];
    const master = name === "kubernetes" && namespace === "default";
    if (!ip || ip === "None" || ports.length === 0 || !(master || links)) continue;
    const prefix = name.toUpperCase().replaceAll("-", "_");
    result[`${prefix}_SERVICE_HOST`] = ip;
    result[`${prefix}_SERVICE_PORT`] = String(ports[0].port);
    for (const [i, port] of ports.entries()) {
      const protocol = port.protocol ?? "TCP";
      const url = `${protocol.toLowerCase()}://${ip}:${port.port}`;
      if (port.name)
        result[`${prefix}_SERVICE_PORT_${port.name.toUpperCase().replaceAll("-", "_")}`] = String(port.port);
      if (i === 0) result[`${prefix}_PORT`] = url;
      const base = `${prefix}_PORT_${port.port}_${protocol}`;
      result[base] = url;
      result[`${base}_PROTO`] = protocol.toLowerCase();
      result[`${base}_PORT`] = String(port.port);
      result[`${base}_ADDR`] = ip;
    }
  }
  return result;
}

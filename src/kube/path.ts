// URL paths of Kubernetes resources.
import type { KubeObject } from "./types.ts";

export interface ResourceRef {
  /** `v1`, or `group/version`. */
  readonly apiVersion: string;
  /** The plural, lower-case resource name; derived from `kind` when absent. */
  readonly resource?: string;
  readonly kind?: string;
  readonly namespace?: string | undefined;
  readonly name?: string;
  readonly subresource?: string;
}

/** Kinds whose plural is not formed by rule. */
const IRREGULAR: Record<string, string> = { Endpoints: "endpoints" };

/** The resource name of a kind: `Deployment` → `deployments`, `NetworkPolicy` → `networkpolicies`. */
export function pluralOf(kind: string): string {
  const word = kind.toLowerCase();
  if (IRREGULAR[kind]) return IRREGULAR[kind];
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`;
  return /(s|x|ch|sh)$/.test(word) ? `${word}es` : `${word}s`;
}

/** `/apis/apps/v1/namespaces/ns/deployments/name`; names are escaped. */
export function resourcePath(ref: ResourceRef): string {
  const base = ref.apiVersion.includes("/") ? `/apis/${ref.apiVersion}` : `/api/${ref.apiVersion}`;
  const namespace = ref.namespace === undefined ? "" : `/namespaces/${encodeURIComponent(ref.namespace)}`;
  const resource = ref.resource ?? pluralOf(ref.kind ?? "");
  const name = ref.name === undefined ? "" : `/${encodeURIComponent(ref.name)}`;
  return `${base}${namespace}/${resource}${name}${ref.subresource ? `/${ref.subresource}` : ""}`;
}

/** Kinds without a namespace that the mesh and its users apply. */
const CLUSTER_SCOPED = new Set([
  "Namespace",
  "Node",
  "PersistentVolume",
  "ClusterRole",
  "ClusterRoleBinding",
  "CustomResourceDefinition",
  "MutatingWebhookConfiguration",
  "ValidatingWebhookConfiguration",
  "APIService",
  "PriorityClass",
  "StorageClass",
  "IngressClass",
  "RuntimeClass",
  "GatewayClass",
]);

/** The path of an object as it stands; namespaced kinds without a namespace go to `defaultNamespace`. */
export function objectPath(object: KubeObject, defaultNamespace = "default"): string {
  const kind = object.kind ?? "";
  return resourcePath({
    apiVersion: object.apiVersion ?? "",
    kind,
    name: object.metadata.name,
    namespace: CLUSTER_SCOPED.has(kind) ? undefined : (object.metadata.namespace ?? defaultNamespace),
  });
}

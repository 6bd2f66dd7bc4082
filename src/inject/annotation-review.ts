// Annotations of the mesh that do nothing: keys that are misspelt or on the wrong object, and values that cannot be read.
// Nothing of the kind is ignored in silence: admission warns of it, `check` lists it, events tell it.
import { refersTo } from "../crds/index.ts";
import { KEYS } from "../manifests/names.ts";
import { GATEWAY_GROUP, POLICY_GROUP, ROUTE_KINDS } from "../rules/policy-records.ts";
import {
  type AnnotationProblem,
  TRAFFIC_KEYS,
  type TrafficPlace,
  trafficSettings,
} from "../rules/traffic-annotations.ts";
import { isMap, type Problem, shown } from "../schema/index.ts";
import { nearest } from "../util/nearest.ts";
import { SETTING_KEYS, settingProblem } from "./annotations.ts";
import { portNames } from "./pod.ts";
import { isBuiltIn, type Resource, type StringMap, templateOf } from "./workload.ts";

/** Prefixes of which every key is known: whatever else is there is a mistake. */
const CLOSED = [
  KEYS.config,
  KEYS.configAlpha,
  KEYS.configBeta,
  "retry.linkerd.io/",
  "timeout.linkerd.io/",
  "balancer.linkerd.io/",
  "balancer.alpha.linkerd.io/",
];
const isTraffic = (key: string) => CLOSED.slice(3).some((prefix) => key.startsWith(prefix));
const isSetting = (key: string) => CLOSED.slice(0, 3).some((prefix) => key.startsWith(prefix));

/** Keys of Linkerd's and of its extensions besides those above; others may have more under these prefixes. */
export const OPEN_KEYS: readonly string[] = [
  KEYS.inject,
  KEYS.createdBy,
  KEYS.proxyVersion,
  KEYS.trustRootSha256,
  "linkerd.io/helm-release-version",
  "linkerd.io/identity-issuer-expiry",
  KEYS.addedAnnotations,
  KEYS.tapEnabled,
  "viz.linkerd.io/external-prometheus",
  "mirror.linkerd.io/remote-svc-fq-name",
  "mirror.linkerd.io/remote-gateway-identity",
  "mirror.linkerd.io/remote-resource-version",
  "mirror.linkerd.io/remote-gateway-resource-version",
  "mirror.linkerd.io/remote-mirror-service-name",
  "mirror.linkerd.io/gateway-identity",
  "mirror.linkerd.io/multicluster-gateway",
  "mirror.linkerd.io/probe-path",
  "mirror.linkerd.io/probe-period",
  "mirror.linkerd.io/probe-timeout",
  "multicluster.linkerd.io/remote-discovery",
  "multicluster.linkerd.io/local-discovery",
];
/** Labels that are often written as annotations. */
const LABELS = [
  "mirror.linkerd.io/exported",
  "mirror.linkerd.io/federated",
  "mirror.linkerd.io/mirrored-service",
  "mirror.linkerd.io/cluster-name",
  KEYS.admissionWebhooks,
];
const KNOWN = [...SETTING_KEYS, ...OPEN_KEYS, ...LABELS, ...TRAFFIC_KEYS.parent];
const domainOf = (key: string) => key.slice(0, Math.max(key.indexOf("/"), 0));
const DOMAINS = [...new Set([...KNOWN, ...CLOSED].map(domainOf))];

/** On what the annotations are. */
type Place = "namespace" | "pod" | "workload" | "service" | TrafficPlace;

/** How annotations about traffic are read there; undefined: not at all. */
const trafficPlace = (place: Place): TrafficPlace | undefined =>
  place === "service"
    ? "parent"
    : place === "namespace" || place === "pod" || place === "workload"
      ? undefined
      : place;

const INJECT_VALUES = ["enabled", "disabled", "ingress"];
/** Names in a namespace's opaque ports are those of pods that may come. */
const ANY_PORT_NAME = {
  get: (name: string) => (/^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$/.test(name) ? 1 : undefined),
} as unknown as ReadonlyMap<string, number>;

export interface AnnotationFinding extends Problem {
  readonly key: string;
}

/** What of an object's annotations for the mesh has no effect, by path; nothing for objects that take none. */
export function reviewAnnotations(object: Resource): AnnotationFinding[] {
  const path = "metadata.annotations";
  const own = object.metadata?.annotations;
  const template = templateOf(object);
  if (template) {
    const names = portNames(template.template);
    if (template.path === "") return review(own, path, "pod", names);
    const inner = `${template.path.slice(1).replaceAll("/", ".")}.${path}`;
    return [
      ...review(own, path, "workload"),
      ...review(template.template.metadata?.annotations, inner, "pod", names),
    ];
  }
  const place = placeOf(object);
  if (place === undefined) return [];
  const names =
    place === "namespace" ? ANY_PORT_NAME : place === "service" ? servicePorts(object) : undefined;
  return review(own, path, place, names);
}

function placeOf(object: Resource): Place | undefined {
  const { apiVersion = "", kind = "" } = object;
  if (isBuiltIn(object) && apiVersion === "v1")
    return kind === "Service" ? "service" : kind === "Namespace" ? "namespace" : undefined;
  const ref = { group: apiVersion.split("/")[0]!, kind };
  if (refersTo(ref, POLICY_GROUP, "EgressNetwork")) return "parent";
  if (refersTo(ref, POLICY_GROUP, "HTTPRoute")) return "HTTPRoute";
  return ROUTE_KINDS.find((name) => refersTo(ref, GATEWAY_GROUP, name));
}

function servicePorts(object: Resource): ReadonlyMap<string, number> {
  const ports = isMap(object.spec) && Array.isArray(object.spec["ports"]) ? object.spec["ports"] : [];
  return new Map(
    ports.flatMap((port) =>
      isMap(port) && typeof port["name"] === "string" ? [[port["name"], Number(port["port"])] as const] : [],
    ),
  );
}

function review(
  annotations: StringMap | null | undefined,
  path: string,
  place: Place,
  names: ReadonlyMap<string, number> = new Map(),
): AnnotationFinding[] {
  if (!annotations) return [];
  const found: AnnotationFinding[] = [];
  const tell = (key: string, message: string) =>
    found.push({ path: `${path}[${JSON.stringify(key)}]`, key, message });
  const on = trafficPlace(place);
  if (on) {
    const traffic: AnnotationProblem[] = [];
    trafficSettings(annotations, on, traffic);
    for (const { key, message } of traffic) tell(key, message);
  }
  for (const [key, text] of Object.entries(annotations)) {
    const message = reviewOne(key, text, place, names);
    if (message !== undefined) tell(key, message);
  }
  return found;
}

function reviewOne(
  key: string,
  text: string,
  place: Place,
  names: ReadonlyMap<string, number>,
): string | undefined {
  if (LABELS.includes(key)) return "it is a label; as an annotation it has no effect";
  if (key === KEYS.inject) return injectProblem(text, place);
  if (isTraffic(key))
    return trafficPlace(place)
      ? undefined
      : "it has no effect here: it belongs on a Service, EgressNetwork or route";
  if (isSetting(key) || key === KEYS.disableTap) return settingHere(key, text, place, names);
  if (OPEN_KEYS.includes(key)) return undefined;
  const domain = domainOf(key);
  if (DOMAINS.includes(domain)) return meant(key, "it is not known");
  // Somebody else's, unless it is a slip away from ours.
  return nearest(domain, DOMAINS, 2) === undefined ? undefined : meant(key, "it is not known");
}

/** Undefined when nothing near is known: then it is somebody else's. */
function meant(key: string, what: string): string | undefined {
  const name = key.slice(key.indexOf("/") + 1);
  const near =
    KNOWN.find((known) => known.endsWith(`/${name}`)) ?? nearest(key, KNOWN, Math.ceil(name.length / 3));
  return near === undefined ? undefined : `${what} and has no effect; did you mean ${near}?`;
}

function injectProblem(text: string, place: Place): string | undefined {
  if (place === "workload")
    return "it has no effect here: it belongs on the pod template (spec.template.metadata.annotations) or the namespace";
  if (place !== "pod" && place !== "namespace")
    return "it has no effect here: it belongs on pods, their templates or the namespace";
  return INJECT_VALUES.includes(text)
    ? undefined
    : `expected one of ${INJECT_VALUES.join(", ")}, got ${shown(text)}`;
}

function settingHere(
  key: string,
  text: string,
  place: Place,
  names: ReadonlyMap<string, number>,
): string | undefined {
  const problem = settingProblem(key, text, names);
  if (place === "pod" || place === "namespace") return problem;
  if (place === "service" && key === KEYS.opaquePorts) return problem;
  // A misspelt key is told of as such first: where the right one belongs comes after.
  if (problem?.startsWith("unknown")) return problem;
  if (place === "workload")
    return "it has no effect here: it belongs on the pod template (spec.template.metadata.annotations)";
  return place === "service"
    ? "it has no effect on a Service: it belongs on pods, their templates or the namespace"
    : "it has no effect here: it belongs on pods, their templates or the namespace";
}

// Injection and its undoing for any Kubernetes object: what happened to it, and the operations that do it.
import { KEYS } from "../manifests/names.ts";
import { DEFAULT_VALUES, type Values } from "../manifests/values.ts";
import { decideInjection, type InjectionVerdict, type SkipReason } from "../rules/injection.ts";
import { VERSION } from "../util/version.ts";
import { applyAnnotations } from "./annotations.ts";
import { applyPatch, type Operation, setEntries } from "./patch.ts";
import { hasUdpPorts, injectPod } from "./pod.ts";
import { uninjectAnnotation, uninjectPod } from "./uninject.ts";
import { ANNOTATED_KINDS, isBuiltIn, type PodTemplate, type Resource, templateOf } from "./workload.ts";

export interface InjectOptions {
  /** annotate: ask the cluster's webhook for it. manual: write everything here. */
  readonly mode: "annotate" | "manual";
  readonly ingress: boolean;
  /** Settings to write as annotations, by full key. */
  readonly annotations: Readonly<Record<string, string>>;
  /** What a manual injection is made of. */
  readonly values?: Values;
}

export type Outcome = "injected" | "annotated" | "uninjected" | "skipped" | "untouched";

export interface ResourceResult {
  readonly outcome: Outcome;
  readonly operations: readonly Operation[];
  readonly reasons: readonly SkipReason[];
  readonly warnings: readonly SkipReason[];
  readonly problems: readonly string[];
}

const result = (outcome: Outcome, parts: Partial<Omit<ResourceResult, "outcome">> = {}): ResourceResult => ({
  outcome,
  operations: [],
  reasons: [],
  warnings: [],
  problems: [],
  ...parts,
});

/** Meshes one object. Kinds without pods pass untouched; what injection left behind before is replaced. */
export function injectResource(resource: Resource, options: InjectOptions): ResourceResult {
  const found = templateOf(resource);
  if (!found) return annotateOnly(resource, options);
  const { template, path } = found;
  const clean = uninjectPod(template, path);
  const bare = templateAt(applyPatch(resource, clean), path);
  if (template.metadata?.labels?.[KEYS.controlPlaneComponent] !== undefined && options.mode !== "manual") {
    return result("skipped", { reasons: ["sidecar_already_exists"] });
  }
  const ingress = options.ingress || template.metadata?.annotations?.[KEYS.inject] === "ingress";
  if (options.mode === "annotate") return annotateTemplate(bare, path, clean, { ...options, ingress });
  const annotations = { ...(ingress ? { [KEYS.inject]: "ingress" } : {}), ...options.annotations };
  const marking = setTemplateAnnotations(bare, path, annotations);
  const name = resource.metadata?.name;
  const injected = injectPod({
    template: templateAt(applyPatch(applyPatch(resource, clean), marking), path),
    path,
    namespace: { name: resource.metadata?.namespace },
    owner: typeof name === "string" && resource.kind !== "Pod" ? { kind: resource.kind!, name } : undefined,
    values: options.values ?? DEFAULT_VALUES,
    origin: "cli",
    createdBy: `linkerd/cli ${VERSION}`,
  });
  const { inject, reasons, warnings } = injected.verdict;
  if (!inject) return result("skipped", { reasons, warnings });
  return result("injected", {
    operations: [...clean, ...marking, ...injected.operations],
    warnings,
    problems: injected.problems,
  });
}

const templateAt = (resource: Resource, path: string): PodTemplate =>
  templateOf(resource)?.template ?? (path === "" ? (resource as PodTemplate) : {});

const wishAndSettings = (options: InjectOptions): Record<string, string> => ({
  [KEYS.inject]: options.ingress ? "ingress" : "enabled",
  ...options.annotations,
});

function annotateTemplate(
  bare: PodTemplate,
  path: string,
  clean: readonly Operation[],
  options: InjectOptions,
): ResourceResult {
  const spec = bare.spec ?? {};
  const own = bare.metadata?.annotations ?? {};
  const verdict: InjectionVerdict = decideInjection({
    origin: "cli",
    supported: true,
    workloadAnnotation: own[KEYS.inject],
    hostNetwork: spec.hostNetwork === true,
    containers: spec.containers ?? [],
    initContainers: spec.initContainers ?? [],
    udpPorts: hasUdpPorts(bare),
    tokenProjected: true,
    automountToken: true,
  });
  const { reasons, warnings } = verdict;
  if (!verdict.inject) return result("skipped", { reasons, warnings });
  const annotations = wishAndSettings(options);
  const { problems } = applyAnnotations(DEFAULT_VALUES, {}, { ...own, ...annotations });
  return result("annotated", {
    operations: [...clean, ...setTemplateAnnotations(bare, path, annotations)],
    warnings,
    problems: problems.filter((problem) => !problem.includes("no port is named")),
  });
}

function setTemplateAnnotations(
  template: PodTemplate,
  path: string,
  annotations: Readonly<Record<string, string>>,
): Operation[] {
  if (Object.keys(annotations).length === 0) return [];
  if (!template.metadata) return [{ op: "add", path: `${path}/metadata`, value: { annotations } }];
  return setEntries(`${path}/metadata/annotations`, template.metadata.annotations, annotations);
}

/** Namespaces take everything for the pods to come; Services only which of their ports are opaque. */
function annotateOnly(resource: Resource, options: InjectOptions): ResourceResult {
  if (!ANNOTATED_KINDS.includes(resource.kind ?? "") || !isBuiltIn(resource)) {
    return result("untouched", { reasons: ["unsupported_resource"] });
  }
  const opaque = options.annotations[KEYS.opaquePorts];
  const annotations: Record<string, string> =
    resource.kind === "Service"
      ? opaque === undefined
        ? {}
        : { [KEYS.opaquePorts]: opaque }
      : wishAndSettings(options);
  if (Object.keys(annotations).length === 0) {
    return result("untouched", { reasons: ["unsupported_resource"] });
  }
  if (resource.metadata?.annotations?.[KEYS.inject] === "disabled") {
    return result("skipped", { reasons: ["injection_disable_annotation_present"] });
  }
  return result("annotated", {
    operations: setTemplateAnnotations({ metadata: resource.metadata ?? null }, "", annotations),
  });
}

/** Takes injection out of one object again. */
export function uninjectResource(resource: Resource): ResourceResult {
  const found = templateOf(resource);
  const operations = found
    ? uninjectPod(found.template, found.path)
    : ANNOTATED_KINDS.includes(resource.kind ?? "") && isBuiltIn(resource)
      ? uninjectAnnotation(resource.metadata)
      : [];
  return result(operations.length > 0 ? "uninjected" : "untouched", { operations });
}

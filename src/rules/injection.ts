// Whether a workload gets a proxy, decided once for the webhook, `inject` and `explain`.
import type { Trace } from "./trace.ts";

/** Why a workload is left alone; Linkerd's codes, as events and metrics carry them. */
export type SkipReason =
  | "host_network_enabled"
  | "sidecar_already_exists"
  | "unsupported_resource"
  | "injection_enable_annotation_absent"
  | "injection_disable_annotation_present"
  | "invalid_inject_annotation_at_ns"
  | "invalid_inject_annotation_at_workload"
  | "disabled_automount_service_account_token_account"
  | "udp_ports_enabled";

export const SKIP_TEXT: Record<SkipReason, string> = {
  host_network_enabled: "hostNetwork is enabled: the redirect would capture the node's traffic",
  sidecar_already_exists: "pod has a service mesh sidecar already",
  unsupported_resource: "this resource cannot be injected",
  injection_enable_annotation_absent:
    "neither the namespace nor the workload has the annotation linkerd.io/inject: enabled",
  injection_disable_annotation_present: "the workload has the annotation linkerd.io/inject: disabled",
  invalid_inject_annotation_at_ns:
    "the namespace's annotation linkerd.io/inject is not one of enabled, disabled, ingress",
  invalid_inject_annotation_at_workload:
    "the workload's annotation linkerd.io/inject is not one of enabled, disabled, ingress",
  disabled_automount_service_account_token_account:
    "automountServiceAccountToken is false and there is no token of the proxy's own",
  udp_ports_enabled: "pod has UDP ports, which bypass the mesh",
};

export interface ContainerFacts {
  readonly name: string;
  readonly image?: string | undefined;
}

/** What the decision looks at. */
export interface InjectionFacts {
  /** The webhook asks for consent by annotation; the CLI was asked by the user. */
  readonly origin: "webhook" | "cli";
  /** Whether the kind has a pod template (or is a pod). */
  readonly supported: boolean;
  /** `linkerd.io/inject` of the namespace and of the pod (template). */
  readonly namespaceAnnotation?: string | undefined;
  readonly workloadAnnotation?: string | undefined;
  readonly hostNetwork: boolean;
  readonly containers: readonly ContainerFacts[];
  readonly initContainers: readonly ContainerFacts[];
  readonly udpPorts: boolean;
  /** Whether the proxy gets a projected token of its own; without, it needs the pod's. */
  readonly tokenProjected: boolean;
  readonly automountToken: boolean;
}

export interface InjectionVerdict {
  readonly inject: boolean;
  /** `linkerd.io/inject: ingress`, on the pod or inherited. */
  readonly ingress: boolean;
  /** Every reason that forbids it, the first being the one to show. Empty when injected. */
  readonly reasons: readonly SkipReason[];
  /** Where a deciding annotation was found. */
  readonly annotationAt: "" | "namespace" | "workload";
  readonly warnings: readonly SkipReason[];
}

const SIDECARS = ["linkerd-proxy", "istio-proxy"];
const INITS = ["linkerd-init", "istio-init"];
/** Image names without registry and tag. */
const SIDECAR_IMAGES =
  /(^|\/)(linkerd\/proxy|linkerd-io\/proxy|istio\/proxyv2|istio-release\/proxyv2)(?=[:@]|$)/;
const INIT_IMAGES =
  /(^|\/)(linkerd\/proxy-init|linkerd-io\/proxy-init|istio\/proxy_init|istio-release\/proxy_init)(?=[:@]|$)/;

/** The container of a mesh that a pod already has, if any. */
function existingSidecar(
  facts: Pick<InjectionFacts, "containers" | "initContainers">,
): ContainerFacts | undefined {
  const isSidecar = ({ name, image = "" }: ContainerFacts) =>
    SIDECARS.includes(name) || SIDECAR_IMAGES.test(image);
  const isInit = ({ name, image = "" }: ContainerFacts) => INITS.includes(name) || INIT_IMAGES.test(image);
  return facts.containers.find(isSidecar) ?? facts.initContainers.find((c) => isInit(c) || isSidecar(c));
}

const VALID = ["enabled", "disabled", "ingress"];
const asksFor = (annotation: string | undefined) => annotation === "enabled" || annotation === "ingress";

/** Decides injection; truth table and codes as Linkerd's (pkg/inject/report.go, webhook.go). */
export function decideInjection(facts: InjectionFacts, trace?: Trace): InjectionVerdict {
  const reasons: SkipReason[] = [];
  const refuse = (rule: string, refused: boolean, reason: SkipReason, otherwise: string): void => {
    trace?.add(rule, refused, refused ? SKIP_TEXT[reason] : otherwise);
    if (refused) reasons.push(reason);
  };
  refuse("kind", !facts.supported, "unsupported_resource", "the kind has a pod template");
  refuse("host network", facts.hostNetwork, "host_network_enabled", "the pod has its own network namespace");
  const sidecar = existingSidecar(facts);
  refuse("existing sidecar", sidecar !== undefined, "sidecar_already_exists", "no container of a mesh");
  refuse(
    "service account token",
    !facts.tokenProjected && !facts.automountToken,
    "disabled_automount_service_account_token_account",
    "the proxy can prove its ServiceAccount",
  );
  const consent = decideAnnotations(facts);
  trace?.add("annotation linkerd.io/inject", consent.reason === undefined, consent.why);
  if (consent.reason) reasons.push(consent.reason);
  const warnings: SkipReason[] = [];
  if (facts.udpPorts) {
    warnings.push("udp_ports_enabled");
    trace?.add("UDP ports", true, SKIP_TEXT.udp_ports_enabled);
  }
  const inject = reasons.length === 0;
  const ingress =
    facts.workloadAnnotation === "ingress" ||
    (facts.workloadAnnotation === undefined && facts.namespaceAnnotation === "ingress");
  return { inject, ingress: inject && ingress, reasons, annotationAt: consent.at, warnings };
}

interface Consent {
  readonly reason?: SkipReason;
  readonly at: InjectionVerdict["annotationAt"];
  readonly why: string;
}

function decideAnnotations(facts: InjectionFacts): Consent {
  const { namespaceAnnotation: ns, workloadAnnotation: pod } = facts;
  const invalid = (value: string | undefined) => value !== undefined && !VALID.includes(value);
  const refusal = (reason: SkipReason, at: Consent["at"]): Consent => ({
    reason,
    at,
    why: SKIP_TEXT[reason],
  });
  if (facts.origin === "cli") {
    if (pod === "disabled") return refusal("injection_disable_annotation_present", "workload");
    return { at: "", why: "asked for on the command line" };
  }
  if (invalid(ns)) return refusal("invalid_inject_annotation_at_ns", "namespace");
  if (invalid(pod)) return refusal("invalid_inject_annotation_at_workload", "workload");
  if (asksFor(pod)) return { at: "workload", why: `the workload says ${pod}` };
  if (asksFor(ns)) {
    if (pod === "disabled") return refusal("injection_disable_annotation_present", "workload");
    return { at: "namespace", why: `the namespace says ${ns}` };
  }
  return refusal("injection_enable_annotation_absent", "");
}

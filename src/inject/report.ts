// What injection did, told on stderr in Linkerd's shape: check-like lines, then one line a resource.
import { SKIP_TEXT, type SkipReason } from "../rules/injection.ts";
import type { TransformedResource } from "./documents.ts";

interface Line {
  readonly good: string;
  readonly bad: string;
  readonly level: "warn" | "error";
  readonly reason: SkipReason;
}

const LINES: readonly Line[] = [
  {
    good: "pods do not use host networking",
    bad: "hostNetwork is enabled in",
    level: "warn",
    reason: "host_network_enabled",
  },
  {
    good: "pods do not have a 3rd party proxy or initContainer already injected",
    bad: "known 3rd party sidecar detected in",
    level: "warn",
    reason: "sidecar_already_exists",
  },
  {
    good: "pods are not annotated to disable injection",
    bad: 'skipped because of the annotation "linkerd.io/inject: disabled":',
    level: "warn",
    reason: "injection_disable_annotation_present",
  },
  {
    good: "pod specs do not include UDP ports",
    bad: "UDP ports bypass the mesh in",
    level: "warn",
    reason: "udp_ports_enabled",
  },
  {
    good: "pods can prove their ServiceAccount",
    bad: 'automountServiceAccountToken is "false" in',
    level: "error",
    reason: "disabled_automount_service_account_token_account",
  },
];

export interface ReportStyle {
  readonly ok: (text: string) => string;
  readonly warn: (text: string) => string;
  readonly error: (text: string) => string;
}

/** @param verb `inject` shows its checks too, the passing ones with `verbose`. */
export function renderReport(
  resources: readonly TransformedResource[],
  style: ReportStyle,
  options: { verb: "inject" | "uninject"; verbose: boolean },
): string {
  const out: string[] = [];
  if (options.verb === "inject") out.push(...checkLines(resources, style, options.verbose));
  const named = resources.filter((resource) => resource.kind !== "");
  for (const resource of named) {
    if (resource.outcome === "untouched" && !options.verbose && named.length > 1) continue;
    const outcome = resource.outcome === "untouched" ? "skipped" : resource.outcome;
    out.push(`${resource.label} ${outcome}`);
    for (const problem of resource.problems) out.push(`    ${style.warn("‼")} ${problem}`);
  }
  return out.length === 0 ? "" : `\n${out.join("\n")}\n\n`;
}

function checkLines(
  resources: readonly TransformedResource[],
  style: ReportStyle,
  verbose: boolean,
): string[] {
  const out: string[] = [];
  for (const line of LINES) {
    const hit = resources.filter(
      ({ reasons, warnings }) => reasons.includes(line.reason) || warnings.includes(line.reason),
    );
    if (hit.length > 0) {
      const symbol = line.level === "warn" ? style.warn("‼") : style.error("×");
      out.push(`${symbol} ${line.bad} ${hit.map((resource) => resource.label).join(", ")}`);
    } else if (verbose) out.push(`${style.ok("√")} ${line.good}`);
  }
  const done = resources.some(({ outcome }) => outcome === "injected" || outcome === "annotated");
  if (!done) out.push(`${style.error("×")} no supported objects found`);
  else if (verbose) out.push(`${style.ok("√")} at least one resource can be injected or annotated`);
  return [...out, ...(out.length > 0 ? [""] : [])];
}

/** The sentence for a stream in which nothing could be injected; undefined when something was. */
export function failure(resources: readonly TransformedResource[]): string | undefined {
  if (resources.some(({ outcome }) => outcome === "injected" || outcome === "annotated")) return undefined;
  const first =
    resources.find(({ outcome, reasons }) => outcome === "skipped" && reasons.length > 0) ?? resources[0];
  if (!first) return "failed to inject: the input holds no object";
  const reason = first.reasons[0] ?? "unsupported_resource";
  return `failed to inject ${first.label}: ${SKIP_TEXT[reason]}`;
}

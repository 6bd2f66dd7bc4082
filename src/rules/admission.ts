// Whether an object that a user writes for the mesh may be stored: its form, the rules of its kind, and that the proxy
// can apply what it says. The webhook refuses by it, and whoever looks at a file or a cluster is told the same.
import {
  checkSpec,
  type GRPCRoute,
  type HTTPRoute,
  type Kind,
  type KubeObject,
  kindOf,
  type ParentReference,
  type RequestMatch,
  refersTo,
  type ServiceProfile,
  type ValueMatch,
} from "../crds/index.ts";
import { isMap, join, type Problem, shown } from "../schema/index.ts";
import { errorMessage } from "../util/error.ts";
import { ROUTE_KINDS, type RouteKind } from "./policy-records.ts";
import { compileRegex } from "./regex.ts";
import { routeRecord } from "./route-record.ts";
import { type AnnotationProblem, trafficSettings } from "./traffic-annotations.ts";

export interface Verdict {
  /** None: it may be stored. */
  readonly problems: readonly Problem[];
  /** Legal, but probably not meant. */
  readonly warnings: readonly Problem[];
}

const FINE: Verdict = { problems: [], warnings: [] };
const POLICY = "policy.linkerd.io";

/** Of the object's kind; undefined for kinds that are not the mesh's. */
export function kindOfObject(object: unknown): Kind | undefined {
  const { apiVersion = "", kind = "" } = (isMap(object) ? object : {}) as Record<string, string | undefined>;
  const slash = apiVersion.indexOf("/");
  return slash < 0 ? undefined : kindOf(apiVersion.slice(0, slash), kind);
}

/** What is wrong with an object, and what is strange about it; nothing for kinds that are not the mesh's. */
export function reviewObject(object: unknown): Verdict {
  const kind = kindOfObject(object);
  if (!kind) return FINE;
  if (kind.owner === "gateway-api") {
    // Routes of gateways are none of ours; and a newer Gateway API may say what this version cannot read.
    if (!attachedToMesh(object)) return FINE;
    const { problems } = checkSpec(kind, object, false);
    if (problems.length > 0)
      return {
        problems: [],
        warnings: problems.map(({ path, message }) => ({
          path,
          message: `the mesh cannot read it and ignores the route: ${message}`,
        })),
      };
  }
  const { value, problems, warnings } = checkSpec(kind, object);
  if (problems.length > 0) return { problems, warnings };
  const found: Findings = { problems: [], warnings: [...warnings] };
  const { metadata = {} } = object as { metadata?: Metadata };
  RULES[`${kind.group}/${kind.kind}`]?.(value, found, metadata);
  const routeKind = ROUTE_KINDS.find((name) => name === kind.kind);
  if (routeKind) route(kind.group, routeKind, { metadata, spec: value } as AnyRoute, found);
  return found;
}

interface Metadata {
  readonly name?: string;
  readonly namespace?: string;
  readonly annotations?: Readonly<Record<string, string>> | null;
}

interface Findings {
  readonly problems: Problem[];
  readonly warnings: Problem[];
}

type Rule = (spec: unknown, found: Findings, metadata: Metadata) => void;

const GATEWAY = "gateway.networking.k8s.io";
const RULES: Readonly<Record<string, Rule>> = {
  [`${POLICY}/AuthorizationPolicy`]: ownNamespace,
  [`${POLICY}/HTTPRoute`]: (spec, found) => httpRoute(spec as HTTPRoute["spec"], found, false),
  [`${GATEWAY}/HTTPRoute`]: (spec, found) => httpRoute(spec as HTTPRoute["spec"], found, true),
  [`${GATEWAY}/GRPCRoute`]: (spec, found) => grpcRoute(spec as GRPCRoute["spec"], found),
  "linkerd.io/ServiceProfile": serviceProfile,
};

function ownNamespace(spec: unknown, { problems }: Findings, { namespace = "" }: Metadata): void {
  const { targetRef } = spec as { targetRef: { group?: string; kind: string; name: string } };
  if (refersTo(targetRef, "", "Namespace") && targetRef.name !== namespace) {
    problems.push({
      path: "spec.targetRef.name",
      message: `expected the own namespace (${namespace}), got ${shown(targetRef.name)}`,
    });
  }
}

/** The proxy must be able to run every expression; what it cannot run would never match. */
function expression(found: Findings, path: string, pattern: string): void {
  try {
    compileRegex(pattern);
  } catch (error) {
    found.problems.push({
      path,
      message: `expected a regular expression that the proxy can run, got ${shown(pattern)}: ${errorMessage(error)}`,
    });
  }
}

function valueExpressions(found: Findings, path: string, matches: readonly ValueMatch[] = []): void {
  matches.forEach(({ type, value }, index) => {
    if (type === "RegularExpression") expression(found, `${path}[${index}].value`, value);
  });
}

const isEgress = (parent: ParentReference): boolean => refersTo(parent, POLICY, "EgressNetwork");
const isService = (ref: { group?: string; kind?: string }): boolean => refersTo(ref, "", "Service");
/** Whether the mesh is what the route is for; else it is a gateway's. */
const isOurs = (parent: ParentReference): boolean =>
  isEgress(parent) || isService(parent) || refersTo(parent, POLICY, "Server");

/** Whether one of a route's parents is the mesh's, as far as that can be read. */
function attachedToMesh(object: unknown): boolean {
  const { spec } = object as { spec?: { parentRefs?: unknown } | null };
  const refs = spec?.parentRefs;
  return (
    Array.isArray(refs) &&
    refs.some(
      (ref) =>
        isMap(ref) &&
        typeof (ref["group"] ?? "") === "string" &&
        typeof ref["kind"] === "string" &&
        isOurs(ref as unknown as ParentReference),
    )
  );
}

function parents(parentRefs: readonly ParentReference[] = [], found: Findings): void {
  const seen = new Map<string, number>();
  parentRefs.forEach((parent, index) => {
    if (isEgress(parent) && parent.port === undefined) {
      found.problems.push({
        path: `spec.parentRefs[${index}].port`,
        message: "expected a port for an EgressNetwork, but it is missing",
      });
    }
    const key = JSON.stringify([
      parent.group.replace("core", ""),
      parent.kind,
      parent.namespace,
      parent.name,
      parent.sectionName,
      parent.port,
    ]);
    const known = seen.get(key);
    if (known === undefined) seen.set(key, index);
    else {
      found.warnings.push({
        path: `spec.parentRefs[${index}]`,
        message: `it is the same as [${known}] and has no effect`,
      });
    }
  });
}

type AnyRoute = KubeObject & { readonly spec: { readonly parentRefs?: readonly ParentReference[] } };

/** What routes of every kind have: parents, annotations about traffic, and a proxy that must be able to do what they say. */
function route(group: string, kind: RouteKind, object: AnyRoute, found: Findings): void {
  const { parentRefs = [] } = object.spec;
  parents(parentRefs, found);
  if (parentRefs.some((parent) => isService(parent) || isEgress(parent)))
    routeAnnotations(kind, object, found);
  if (found.problems.length > 0) return;
  const { problem, serverProblem } = routeRecord(group, kind, object);
  const onServer = parentRefs.some((parent) => refersTo(parent, POLICY, "Server"));
  if (problem !== undefined) found.warnings.push(notApplied(problem, "the mesh does not accept the route"));
  else if (serverProblem !== undefined && onServer)
    found.warnings.push(notApplied(serverProblem, "the route is not accepted on a Server"));
}

/** @param problem a place within the spec, and what is wrong there */
function notApplied(problem: string, what: string): Problem {
  const colon = problem.indexOf(": ");
  return { path: `spec.${problem.slice(0, colon)}`, message: `${what}: ${problem.slice(colon + 2)}` };
}

/** Retries and timeouts that cannot be read are refused where the mesh would go by them (Linkerd's admission.rs). */
function routeAnnotations(kind: RouteKind, { metadata }: AnyRoute, found: Findings): void {
  const traffic: AnnotationProblem[] = [];
  trafficSettings(metadata.annotations, kind, traffic);
  for (const { key, message, unreadable } of traffic) {
    // Keys that are not known are another matter: they are warned of (inject/annotation-review.ts).
    if (unreadable) found.problems.push({ path: `metadata.annotations[${JSON.stringify(key)}]`, message });
  }
}

interface Backend {
  readonly group: string;
  readonly kind: string;
  readonly port?: number;
}

function backends(refs: readonly Backend[] = [], path: string, found: Findings, required: boolean): void {
  refs.forEach((ref, index) => {
    if (!isService(ref) || ref.port !== undefined) return;
    const at = join(path, `backendRefs[${index}].port`);
    if (required)
      found.problems.push({ path: at, message: "expected a port for a Service, but it is missing" });
    else found.warnings.push({ path: at, message: "without a port requests to this Service fail" });
  });
}

function ruleNames(rules: readonly { readonly name?: string }[], found: Findings): void {
  const seen = new Map<string, number>();
  rules.forEach(({ name }, index) => {
    if (name === undefined) return;
    const known = seen.get(name);
    if (known === undefined) seen.set(name, index);
    else {
      found.problems.push({
        path: `spec.rules[${index}].name`,
        message: `expected a name that no other rule has, got that of [${known}]: ${name}`,
      });
    }
  });
}

function httpRoute(spec: HTTPRoute["spec"], found: Findings, gateway: boolean): void {
  ruleNames(spec.rules, found);
  spec.rules.forEach((rule, index) => {
    const path = `spec.rules[${index}]`;
    rule.matches.forEach((match, at) => {
      const here = `${path}.matches[${at}]`;
      if (match.path?.type === "RegularExpression") expression(found, `${here}.path.value`, match.path.value);
      valueExpressions(found, `${here}.headers`, match.headers);
      valueExpressions(found, `${here}.queryParams`, match.queryParams);
    });
    backends(rule.backendRefs, path, found, gateway);
  });
}

function grpcRoute(spec: GRPCRoute["spec"], found: Findings): void {
  ruleNames(spec.rules ?? [], found);
  spec.rules?.forEach((rule, index) => {
    const path = `spec.rules[${index}]`;
    rule.matches?.forEach(({ headers }, at) => {
      valueExpressions(found, `${path}.matches[${at}].headers`, headers);
    });
    backends(rule.backendRefs, path, found, true);
  });
}

function serviceProfile(spec: unknown, found: Findings, { name = "" }: Metadata): void {
  const { routes = [] } = spec as ServiceProfile["spec"];
  if (!name.includes("."))
    found.warnings.push({
      path: "metadata.name",
      message: `expected the full name of a service, such as ${name}.NAMESPACE.svc.cluster.local, got ${shown(name)}`,
    });
  routes.forEach(({ condition }, index) => {
    pathExpressions(condition, `spec.routes[${index}].condition`, found);
  });
}

function pathExpressions(match: RequestMatch, path: string, found: Findings): void {
  if (match.pathRegex) expression(found, `${path}.pathRegex`, match.pathRegex);
  match.all?.forEach((inner, at) => {
    pathExpressions(inner, `${path}.all[${at}]`, found);
  });
  match.any?.forEach((inner, at) => {
    pathExpressions(inner, `${path}.any[${at}]`, found);
  });
  if (match.not) pathExpressions(match.not, `${path}.not`, found);
}

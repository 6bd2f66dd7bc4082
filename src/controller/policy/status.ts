// What the status of an object should say, and what its author should be told by an event, looked up in the store.
import { isDeepStrictEqual } from "node:util";
import type { Condition } from "../../crds/index.ts";
import { appProtocolOf } from "../../rules/outbound-policy.ts";
import {
  CONTROLLER_NAME,
  egressCondition,
  overlapCondition,
  type ParentFacts,
  type PolicyCondition,
  rateLimitCondition,
  routeConditions,
} from "../../rules/policy-conditions.ts";
import {
  type BackendRef,
  byAge,
  type ParentRef,
  type RouteRecord,
  type RouteRuleRecord,
  type ServerRecord,
  type Workload,
} from "../../rules/policy-records.ts";
import { parentKind } from "../../rules/route-parents.ts";
import type { RouteParentStatus } from "../../rules/route-record.ts";
import { chooseServer, mayOverlap, portsOf, selectsWorkload } from "../../rules/server-choice.ts";
import type { AnnotationProblem } from "../../rules/traffic-annotations.ts";
import type { PortRange } from "../../util/port-set.ts";
import { portOf, problemOf } from "./outbound.ts";
import { keyOf, type PolicyStore, parentKey, targetKey } from "./store.ts";
import type { Reading } from "./tables.ts";

/** The kinds of objects that are told something. */
export type SubjectKind = "route" | "rateLimit" | "egressNetwork" | "server" | "service";

/** An object as far as its status goes. */
export interface StatusSubject {
  readonly kind: SubjectKind;
  /** Of its record in the store's table. */
  readonly key: string;
  readonly apiVersion: string;
  readonly objectKind: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number | undefined;
  readonly resourceVersion: string | undefined;
  /** Of a route's status, all controllers'. */
  readonly parents: readonly RouteParentStatus[];
  /** Of another status. */
  readonly conditions: readonly Condition[];
  /** Annotations that are not understood. */
  readonly problems: readonly AnnotationProblem[];
}

export interface Warning {
  readonly reason: string;
  readonly message: string;
}

export interface StatusFacts {
  readonly clusterNetworks: readonly string[];
  readonly defaultOpaquePorts: readonly PortRange[];
}

/**
 * The status that the object should have; undefined: it has it, or it is not for us to say.
 * @param now an RFC 3339 time for conditions that change
 */
export function statusOf(
  store: PolicyStore,
  facts: StatusFacts,
  subject: StatusSubject,
  reading: Reading,
  now: string,
): object | undefined {
  switch (subject.kind) {
    case "route":
      return routeStatus(store, facts, subject, reading, now);
    case "rateLimit": {
      const record = store.rateLimits.get(subject.key, reading);
      if (!record) return undefined;
      const server = store.servers.get(keyOf(record.target), reading);
      const others = store.rateLimits.group("target", targetKey(record.target), reading);
      const conditions = timed(
        [rateLimitCondition(record, server, others)],
        subject,
        subject.conditions,
        now,
      );
      if (sameConditions(conditions, subject.conditions)) return undefined;
      const { group, kind, name } = record.target;
      return { conditions, targetRef: { group, kind, name } };
    }
    case "egressNetwork": {
      const record = store.egressNetworks.get(subject.key, reading);
      if (!record) return undefined;
      const others = subject.conditions.filter(({ type }) => type !== "Accepted");
      const own = timed([egressCondition(record, facts.clusterNetworks)], subject, subject.conditions, now);
      const conditions = [...others, ...own];
      return sameConditions(conditions, subject.conditions) ? undefined : { conditions };
    }
    case "server": {
      const server = store.servers.get(subject.key, reading);
      const where = server && overlapOf(store, server, reading);
      const had = subject.conditions.some(({ type }) => type === "Overlapped");
      // Those that never overlapped have nothing to tell.
      if (!server || (where === undefined && !had)) return undefined;
      const others = subject.conditions.filter(({ type }) => type !== "Overlapped");
      const conditions = [...others, ...timed([overlapCondition(where)], subject, subject.conditions, now)];
      return sameConditions(conditions, subject.conditions) ? undefined : { conditions };
    }
    default:
      return undefined;
  }
}

function routeStatus(
  store: PolicyStore,
  facts: StatusFacts,
  subject: StatusSubject,
  reading: Reading,
  now: string,
): object | undefined {
  const route = store.routes.get(subject.key, reading);
  if (!route) return undefined;
  const ours: RouteParentStatus[] = [];
  for (const ref of route.parents) {
    const conditions = conditionsOn(store, facts, route, ref, reading);
    const parentRef = writtenRef(ref);
    if (!conditions || ours.some((other) => isDeepStrictEqual(other.parentRef, parentRef))) continue;
    const old = subject.parents.find(
      (status) =>
        status.controllerName === CONTROLLER_NAME && isDeepStrictEqual({ ...status.parentRef }, parentRef),
    );
    ours.push({
      parentRef,
      controllerName: CONTROLLER_NAME,
      conditions: timed(conditions, subject, old?.conditions ?? [], now),
    });
  }
  const before = subject.parents.filter(({ controllerName }) => controllerName === CONTROLLER_NAME);
  const same =
    before.length === ours.length &&
    ours.every(
      ({ parentRef, conditions }, index) =>
        isDeepStrictEqual({ ...before[index]!.parentRef }, parentRef) &&
        sameConditions(conditions!, before[index]!.conditions ?? []),
    );
  if (same) return undefined;
  // What other controllers say of their parents is theirs.
  const others = subject.parents.filter(({ controllerName }) => controllerName !== CONTROLLER_NAME);
  return { parents: [...others, ...ours] };
}

/** A parent as its route's author may find it: as written, with the namespace that it means. */
function writtenRef({ group, kind, namespace, name, port, sectionName }: ParentRef) {
  return {
    // Linkerd's word for the group without a name.
    group: group === "" ? "core" : group,
    kind,
    namespace,
    name,
    ...(sectionName === undefined ? {} : { sectionName }),
    ...(port === undefined ? {} : { port }),
  };
}

function conditionsOn(
  store: PolicyStore,
  facts: StatusFacts,
  route: RouteRecord,
  ref: ParentRef,
  reading: Reading,
): PolicyCondition[] | undefined {
  const kind = parentKind(ref);
  if (!kind) return undefined;
  const parent = { kind, namespace: ref.namespace, name: ref.name };
  const others = store.routes.group(
    "parent",
    parentKey(parent),
    reading,
    ({ namespace }) => namespace === route.namespace,
  );
  const backendProblems =
    kind === "Server"
      ? []
      : route.rules.flatMap((rule) =>
          referencesOf(rule).flatMap((backend) => problemOf(store, backend, parent, reading) ?? []),
        );
  return routeConditions({
    route,
    ref,
    parent: parentFacts(store, facts, kind, keyOf(parent), reading),
    others,
    clusterNetworks: facts.clusterNetworks,
    backendProblems,
  });
}

/** Everything that a rule sends requests to, copies of them too. */
function referencesOf({ backends, extras }: RouteRuleRecord): BackendRef[] {
  const filters = [...extras, ...backends.flatMap((backend) => backend.extras)];
  return [...backends, ...filters.flatMap((filter) => ("mirror" in filter ? [filter.mirror] : []))];
}

function parentFacts(
  store: PolicyStore,
  facts: StatusFacts,
  kind: "Server" | "Service" | "EgressNetwork",
  key: string,
  reading: Reading,
): ParentFacts {
  if (kind === "Server") {
    const server = store.servers.get(key, reading);
    return server ? { kind: "server", server } : { kind: "missing" };
  }
  if (kind === "EgressNetwork") {
    const network = store.egressNetworks.get(key, reading);
    return network ? { kind: "egress", network } : { kind: "missing" };
  }
  const service = store.services.get(key, reading);
  if (!service) return { kind: "missing" };
  const { headless, externalName } = service;
  const ports = service.ports.map(({ name, ...port }) => ({
    name,
    port: port.port,
    protocol: appProtocolOf(portOf(store, facts, service, { name, ...port }, reading)),
  }));
  return { kind: "service", headless, externalName, ports };
}

function timed(
  conditions: readonly PolicyCondition[],
  { generation }: StatusSubject,
  old: readonly Condition[],
  now: string,
): (PolicyCondition & { observedGeneration?: number; lastTransitionTime: string })[] {
  return conditions.map((condition) => {
    const before = old.find(({ type, status }) => type === condition.type && status === condition.status);
    return {
      ...condition,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      // The time when its status, not its wording, changed.
      lastTransitionTime: before?.lastTransitionTime ?? now,
    };
  });
}

const shown = ({ type, status, reason, message, observedGeneration }: Condition) =>
  JSON.stringify([type, status, reason, message ?? "", observedGeneration]);

function sameConditions(a: readonly Condition[], b: readonly Condition[]): boolean {
  return a.length === b.length && a.every((condition, index) => shown(condition) === shown(b[index]!));
}

/** What the object's author should hear, beside its status. */
export function warningsOf(store: PolicyStore, subject: StatusSubject, reading: Reading): Warning[] {
  const warnings: Warning[] = subject.problems.map(({ key, message }) => ({
    reason: "InvalidAnnotation",
    message: `annotation ${key}: ${message}`,
  }));
  const server = subject.kind === "server" ? store.servers.get(subject.key, reading) : undefined;
  const overlap = server && overlapOf(store, server, reading);
  return overlap === undefined ? warnings : [...warnings, { reason: "ServerOverlap", message: overlap }];
}

/** Where an older Server speaks for ports that this one selects too; undefined: nowhere. */
function overlapOf(store: PolicyStore, server: ServerRecord, reading: Reading): string | undefined {
  const { namespace } = server;
  // Only an older one can win. Nearly all Servers select pods of their own: then no pod is looked at.
  const older = store.servers.group(
    "namespace",
    namespace,
    reading,
    (other) => byAge(other, server) < 0 && mayOverlap(other, server),
  );
  if (older.length === 0) return undefined;
  const pods = store.pods.group("namespace", namespace, reading, (pod) =>
    selectsWorkload(server, { ...pod, kind: "Pod" }),
  );
  const machines = store.externalWorkloads.group("namespace", namespace, reading, (machine) =>
    selectsWorkload(server, machine),
  );
  const workloads: Workload[] = [...pods.map((pod) => ({ ...pod, kind: "Pod" as const })), ...machines];
  const found = new Map<string, string>();
  for (const workload of workloads) {
    for (const port of portsOf(server, workload)) {
      const winner = chooseServer(older, workload, port);
      if (winner && !found.has(winner.name)) found.set(winner.name, `${port}`);
    }
  }
  if (found.size === 0) return undefined;
  const where = [...found].map(([name, port]) => `port ${port} where Server ${name} selects it too`);
  return `this Server has no effect on ${where.join(", ")}: the older Server speaks for a port`;
}

// The Server of a workload's port, in two steps: which rule holds there, and what that says. Looks up in the store what the
// rules of rules/ decide from.
import type { MessageOf } from "../../api/codec.ts";
import type { Authz, Server } from "../../api/inbound.ts";
import {
  type DefaultPolicy,
  defaultServer,
  isDefaultPolicy,
  type Probe,
} from "../../rules/default-policy.ts";
import { type InboundRoute, inboundServer } from "../../rules/inbound-server.ts";
import { selectorMatches } from "../../rules/label-selector.ts";
import {
  byAge,
  POLICY_GROUP,
  type RouteRecord,
  type ServerRecord,
  type Workload,
} from "../../rules/policy-records.ts";
import { attachedRoutes } from "../../rules/route-parents.ts";
import {
  type Authentications,
  type IdentityDomain,
  policyAuthorization,
  serverAuthorization,
} from "../../rules/server-authorizations.ts";
import { chooseServer, selectsPort } from "../../rules/server-choice.ts";
import type { Trace } from "../../rules/trace.ts";
import { type PortRange, portSetHas } from "../../util/port-set.ts";
import { keyOf, labelKeys, type PolicyStore, parentKey, targetKey } from "./store.ts";
import type { Reading } from "./tables.ts";

export interface InboundFacts {
  readonly defaultPolicy: DefaultPolicy;
  readonly clusterNetworks: readonly string[];
  readonly defaultOpaquePorts: readonly PortRange[];
  readonly domain: IdentityDomain;
}

/** What names a workload to the policy API. */
export interface WorkloadRef {
  readonly kind: Workload["kind"];
  readonly namespace: string;
  readonly name: string;
}

export type ServerMessage = MessageOf<typeof Server>;
type AuthzMessage = MessageOf<typeof Authz>;

/** What of a Pod or an ExternalWorkload decides about its ports. */
interface Subject {
  readonly workload: Workload;
  readonly defaultPolicy: string | undefined;
  readonly opaquePorts: readonly PortRange[] | undefined;
  readonly probes: readonly (Probe & { readonly port: number })[];
}

function subjectOf(store: PolicyStore, ref: WorkloadRef, reading: Reading): Subject | undefined {
  if (ref.kind === "ExternalWorkload") {
    const record = store.externalWorkloads.get(keyOf(ref), reading);
    return (
      record && {
        workload: record,
        defaultPolicy: record.defaultPolicy,
        opaquePorts: record.opaquePorts,
        probes: [],
      }
    );
  }
  const pod = store.pods.get(keyOf(ref), reading);
  if (!pod) return undefined;
  const { namespace, name, labels, ports, defaultPolicy, opaquePorts, probes } = pod;
  return { workload: { kind: "Pod", namespace, name, labels, ports }, defaultPolicy, opaquePorts, probes };
}

/** What rules a port: the Server that speaks for it, or a default. Ports of many pods have the same rule. */
export type PortRule = { readonly port: number; readonly probes: readonly Probe[] } & (
  | { readonly server: { readonly namespace: string; readonly name: string } }
  | { readonly policy: DefaultPolicy; readonly opaque: boolean }
);

/** The rule of a port; undefined when there is no such workload. */
export function ruleOf(
  store: PolicyStore,
  facts: InboundFacts,
  ref: WorkloadRef,
  port: number,
  reading: Reading,
  trace?: Trace,
): PortRule | undefined {
  const subject = subjectOf(store, ref, reading);
  if (!subject) return undefined;
  const { workload } = subject;
  const probes = subject.probes.filter((probe) => probe.port === port);
  const candidates = new Set(
    labelKeys(workload).flatMap((key) =>
      store.servers.group("selected", key, reading, (server) => selectsPort(server, workload, port)),
    ),
  );
  const server = chooseServer([...candidates], workload, port, trace);
  if (server) return { port, probes, server: { namespace: server.namespace, name: server.name } };
  const inherited = store.namespaces.get(workload.namespace, reading)?.defaultPolicy;
  return {
    port,
    probes,
    policy: [subject.defaultPolicy, inherited].find(isDefaultPolicy) ?? facts.defaultPolicy,
    opaque: portSetHas(subject.opaquePorts ?? facts.defaultOpaquePorts, port),
  };
}

/** The Server message of a rule; undefined when its Server is not there any more. */
export function serverOf(
  store: PolicyStore,
  facts: InboundFacts,
  rule: PortRule,
  reading: Reading,
  trace?: Trace,
): ServerMessage | undefined {
  const { port, probes } = rule;
  const { clusterNetworks, domain } = facts;
  if ("policy" in rule)
    return defaultServer({ policy: rule.policy, opaque: rule.opaque, clusterNetworks, probes }, trace);
  const server = store.servers.get(keyOf(rule.server), reading);
  return (
    server &&
    inboundServer(
      {
        server,
        authorizations: authorizationsOf(store, facts, server, reading, trace),
        routes: routesOf(store, facts, server, port, reading, trace),
        rateLimit: rateLimitOf(store, server, reading),
        probes,
        clusterNetworks,
        domain,
      },
      trace,
    )
  );
}

/** Whom a Server admits, beside its access policy: by ServerAuthorizations, then by AuthorizationPolicies. */
function authorizationsOf(
  store: PolicyStore,
  facts: InboundFacts,
  server: ServerRecord,
  reading: Reading,
  trace?: Trace,
): AuthzMessage[] {
  const legacy = store.serverAuthorizations
    .group("namespace", server.namespace, reading, ({ server: selected }) =>
      "name" in selected ? selected.name === server.name : selectorMatches(selected.selector, server.labels),
    )
    .sort(byAge)
    .flatMap((record) => serverAuthorization(record, facts.domain, facts.clusterNetworks, trace) ?? []);
  const { namespace, name } = server;
  return [
    ...legacy,
    ...policiesOn(store, facts, { group: POLICY_GROUP, kind: "Server", namespace, name }, reading, trace),
    // A policy on a namespace holds for every Server in it.
    ...policiesOn(store, facts, { group: "", kind: "Namespace", namespace, name: namespace }, reading, trace),
  ];
}

function policiesOn(
  store: PolicyStore,
  facts: InboundFacts,
  target: { group: string; kind: string; namespace: string; name: string },
  reading: Reading,
  trace?: Trace,
): AuthzMessage[] {
  const found: Authentications = {
    meshTls: (namespace, name) => store.meshTlsAuthentications.get(keyOf({ namespace, name }), reading),
    network: (namespace, name) => store.networkAuthentications.get(keyOf({ namespace, name }), reading),
  };
  return store.authorizationPolicies
    .group("target", targetKey(target), reading, (policy) => policy.target.group === target.group)
    .sort(byAge)
    .flatMap((policy) => policyAuthorization(policy, found, facts.domain, trace) ?? []);
}

function routesOf(
  store: PolicyStore,
  facts: InboundFacts,
  server: ServerRecord,
  port: number,
  reading: Reading,
  trace?: Trace,
): InboundRoute[] {
  const { namespace, name } = server;
  const parent = { kind: "Server", namespace, name } as const;
  const routes: RouteRecord[] = store.routes.group("parent", parentKey(parent), reading);
  return attachedRoutes(routes, { ...parent, port, portName: undefined }, undefined, trace)
    .filter(({ kind }) => kind === "HTTPRoute" || kind === "GRPCRoute")
    .map((route) => ({ route, authorizations: policiesOn(store, facts, route, reading, trace) }));
}

/** Of several rate limits of one Server the oldest holds. */
export function rateLimitOf(store: PolicyStore, { namespace, name }: ServerRecord, reading: Reading) {
  const key = targetKey({ kind: "Server", namespace, name });
  return store.rateLimits
    .group("target", key, reading, ({ target }) => target.group === POLICY_GROUP)
    .sort(byAge)[0];
}

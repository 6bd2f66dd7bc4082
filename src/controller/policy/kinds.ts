// The kinds that policy is made from, beside the core's: how each is kept, and where its records go.
import type { Condition } from "../../crds/index.ts";
import { essentialMetadata } from "../../kube/reflector.ts";
import type { KubeObject } from "../../kube/types.ts";
import { GATEWAY_GROUP, POLICY_GROUP, type RouteKind, routeKey } from "../../rules/policy-records.ts";
import { type RouteObject, routeRecord } from "../../rules/route-record.ts";
import type { ServedKind } from "../served-kinds.ts";
import type { PolicyIndex } from "./index.ts";
import {
  annotationProblems,
  authorizationPolicyRecord,
  egressNetworkRecord,
  externalWorkloadRecord,
  meshTlsAuthenticationRecord,
  networkAuthenticationRecord,
  rateLimitRecord,
  serverAuthorizationRecord,
  serverRecord,
  trafficSplitRecord,
} from "./records.ts";
import type { StatusSubject, SubjectKind } from "./status.ts";
import { keyOf, type PolicyStore } from "./store.ts";

/** Takes objects that have a status, or that are told something by events. */
export interface SubjectSink {
  put(subject: StatusSubject): void;
  remove(subject: Pick<StatusSubject, "kind" | "key">): void;
}

/** An object of which only the record is kept, and what its status is written from. */
interface Kept<R> extends KubeObject {
  readonly record: R;
  readonly subject: StatusSubject | undefined;
}

interface TableOf<R> {
  put(key: string, record: R): void;
  remove(key: string): void;
}

interface KindOptions<R> {
  readonly group: string;
  readonly kind: string;
  readonly resource: string;
  readonly versions: readonly string[];
  table(store: PolicyStore): TableOf<R>;
  key(record: R): string;
  record(object: KubeObject): R;
  readonly subject?: SubjectKind;
}

type WithStatus = KubeObject & {
  readonly status?: RouteObject["status"] & { readonly conditions?: readonly Condition[] };
};

function servedKind<R>(
  index: PolicyIndex,
  subjects: SubjectSink,
  options: KindOptions<R>,
): ServedKind<Kept<R>> {
  const { group, kind, resource, versions, subject } = options;
  return {
    group,
    resource,
    versions,
    keep(object, apiVersion) {
      const record = options.record(object);
      return {
        metadata: essentialMetadata(object),
        record,
        subject:
          subject &&
          subjectOf(object, {
            kind: subject,
            key: options.key(record),
            apiVersion,
            objectKind: kind,
            resource,
          }),
      };
    },
    put({ record, subject: told }) {
      index.change((store) => options.table(store).put(options.key(record), record));
      if (told) subjects.put(told);
    },
    remove({ record, subject: told }) {
      index.change((store) => options.table(store).remove(options.key(record)));
      if (told) subjects.remove(told);
    },
  };
}

function subjectOf(
  object: WithStatus,
  what: Pick<StatusSubject, "kind" | "key" | "apiVersion" | "objectKind" | "resource">,
): StatusSubject {
  const { namespace = "", name, uid = "", generation, resourceVersion } = object.metadata;
  const on =
    what.kind === "route"
      ? (what.objectKind as RouteKind)
      : what.kind === "egressNetwork"
        ? ("parent" as const)
        : undefined;
  return {
    ...what,
    namespace,
    name,
    uid,
    generation,
    resourceVersion,
    parents: object.status?.parents ?? [],
    conditions: object.status?.conditions ?? [],
    problems: on ? annotationProblems(object, on) : [],
  };
}

/** Everything that policy follows beside Namespaces, Services and Pods. */
export function policyKinds(index: PolicyIndex, subjects: SubjectSink): ServedKind[] {
  const of = <R>(options: KindOptions<R>) => servedKind(index, subjects, options) as unknown as ServedKind;
  const policy = <R extends { namespace: string; name: string }>(
    kind: string,
    resource: string,
    versions: readonly string[],
    record: (object: KubeObject) => R,
    table: (store: PolicyStore) => TableOf<R>,
    subject?: SubjectKind,
  ) =>
    of<R>({
      group: POLICY_GROUP,
      kind,
      resource,
      versions,
      record,
      table,
      key: keyOf,
      ...(subject ? { subject } : {}),
    });
  const route = (group: string, kind: RouteKind, resource: string, versions: readonly string[]) =>
    of({
      group,
      kind,
      resource,
      versions,
      record: (object) => routeRecord(group, kind, object),
      table: ({ routes }) => routes,
      key: routeKey,
      subject: "route",
    });
  return [
    policy("Server", "servers", ["v1beta3", "v1beta2", "v1beta1"], serverRecord, (s) => s.servers, "server"),
    policy(
      "ServerAuthorization",
      "serverauthorizations",
      ["v1beta1", "v1alpha1"],
      serverAuthorizationRecord,
      (s) => s.serverAuthorizations,
    ),
    policy(
      "AuthorizationPolicy",
      "authorizationpolicies",
      ["v1alpha1"],
      authorizationPolicyRecord,
      (s) => s.authorizationPolicies,
    ),
    policy(
      "MeshTLSAuthentication",
      "meshtlsauthentications",
      ["v1alpha1"],
      meshTlsAuthenticationRecord,
      (s) => s.meshTlsAuthentications,
    ),
    policy(
      "NetworkAuthentication",
      "networkauthentications",
      ["v1alpha1"],
      networkAuthenticationRecord,
      (s) => s.networkAuthentications,
    ),
    policy(
      "HTTPLocalRateLimitPolicy",
      "httplocalratelimitpolicies",
      ["v1alpha1"],
      rateLimitRecord,
      (s) => s.rateLimits,
      "rateLimit",
    ),
    policy(
      "EgressNetwork",
      "egressnetworks",
      ["v1alpha1"],
      egressNetworkRecord,
      (s) => s.egressNetworks,
      "egressNetwork",
    ),
    route(POLICY_GROUP, "HTTPRoute", "httproutes", ["v1beta3", "v1beta2", "v1beta1", "v1alpha1"]),
    route(GATEWAY_GROUP, "HTTPRoute", "httproutes", ["v1", "v1beta1"]),
    route(GATEWAY_GROUP, "GRPCRoute", "grpcroutes", ["v1", "v1alpha2"]),
    route(GATEWAY_GROUP, "TLSRoute", "tlsroutes", ["v1", "v1alpha3", "v1alpha2"]),
    route(GATEWAY_GROUP, "TCPRoute", "tcproutes", ["v1", "v1alpha2"]),
    of({
      group: "workload.linkerd.io",
      kind: "ExternalWorkload",
      resource: "externalworkloads",
      versions: ["v1beta1", "v1alpha1"],
      record: externalWorkloadRecord,
      table: ({ externalWorkloads }) => externalWorkloads,
      key: keyOf,
    }),
    of({
      group: "split.smi-spec.io",
      kind: "TrafficSplit",
      resource: "trafficsplits",
      versions: ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"],
      record: trafficSplitRecord,
      table: ({ trafficSplits }) => trafficSplits,
      key: keyOf,
    }),
  ];
}

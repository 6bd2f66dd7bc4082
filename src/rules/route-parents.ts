// Which routes hold on a parent. Routes in the parent's namespace are its producer's and hold for everybody; routes in
// a client's namespace are that consumer's, hold for it alone, and there take the producer's place (GAMMA). Of several
// kinds on one port the most specific holds; within a kind all do, the older ones first.
import {
  byAge,
  type ParentRef,
  POLICY_GROUP,
  ROUTE_KINDS,
  type RouteKind,
  type RouteRecord,
} from "./policy-records.ts";
import type { Trace } from "./trace.ts";

export const PARENT_KINDS = ["Server", "Service", "EgressNetwork"] as const;
export type ParentKind = (typeof PARENT_KINDS)[number];

/** What routes attach to. */
export interface Parent {
  readonly kind: ParentKind;
  readonly namespace: string;
  readonly name: string;
}

/** One port of it. */
export interface ParentPort extends Parent {
  readonly port: number;
  /** Name of that port of a Service. */
  readonly portName: string | undefined;
}

/** The kind of parent that a reference means; undefined: none of the mesh's. */
export function parentKind({
  group,
  kind,
}: {
  readonly group: string;
  readonly kind: string;
}): ParentKind | undefined {
  if (kind === "Service") return group === "" || group === "core" ? "Service" : undefined;
  if (group !== POLICY_GROUP) return undefined;
  return kind === "Server" || kind === "EgressNetwork" ? kind : undefined;
}

export const refersTo = (ref: ParentRef, { kind, namespace, name }: Parent): boolean =>
  parentKind(ref) === kind && ref.namespace === namespace && ref.name === name;

/** Why a route cannot be applied to a kind of parent; undefined: it can. */
export const problemOn = ({ problem, serverProblem }: RouteRecord, kind: ParentKind): string | undefined =>
  problem ?? (kind === "Server" ? serverProblem : undefined);

/** Whether a reference to its parent takes in the port. */
function covers(ref: ParentRef, { kind, port, portName }: ParentPort): boolean {
  // A Server is one port, whatever its number.
  if (kind !== "Server" && ref.port !== undefined && ref.port !== port) return false;
  return ref.sectionName === undefined || (kind === "Service" && ref.sectionName === portName);
}

export const rankOf = (kind: RouteKind): number => ROUTE_KINDS.indexOf(kind);

/**
 * The routes that hold on a port for clients of a namespace: all of one kind, those that win first.
 * @param routes any routes; those of other parents are passed over
 * @param client namespace of the clients; undefined: the parent's own, whom consumers' routes do not concern
 */
export function attachedRoutes(
  routes: readonly RouteRecord[],
  parent: ParentPort,
  client: string | undefined,
  trace?: Trace,
): RouteRecord[] {
  const producers: RouteRecord[] = [];
  const consumers: RouteRecord[] = [];
  for (const route of routes) {
    const refs = route.parents.filter((ref) => refersTo(ref, parent));
    if (refs.length === 0) continue;
    const text = `${route.kind} ${route.namespace}/${route.name}`;
    const problem = problemOn(route, parent.kind);
    if (problem !== undefined) trace?.add(text, false, `it cannot be applied: ${problem}`);
    else if (!refs.some((ref) => covers(ref, parent)))
      trace?.add(text, false, `it is attached to another port than ${parent.port}`);
    else if (route.namespace === parent.namespace) producers.push(route);
    else if (parent.kind !== "Server" && route.namespace === client) consumers.push(route);
    else trace?.add(text, false, "it is of another namespace than the parent and the client");
  }
  const holding = consumers.length > 0 ? consumers : producers;
  if (consumers.length > 0)
    for (const route of producers)
      trace?.add(
        `${route.kind} ${route.namespace}/${route.name}`,
        false,
        "the client's namespace has its own routes",
      );
  const best = Math.min(...holding.map(({ kind }) => rankOf(kind)));
  const chosen: RouteRecord[] = [];
  for (const route of holding) {
    const wins = rankOf(route.kind) === best;
    trace?.add(
      `${route.kind} ${route.namespace}/${route.name}`,
      wins,
      wins ? "it is attached to the port" : `a ${ROUTE_KINDS[best]} is attached to the same port`,
    );
    if (wins) chosen.push(route);
  }
  return chosen.sort(byAge);
}

/**
 * The route that keeps another one from holding where `ref` attaches it: of a kind that wins, in the same namespace,
 * on the same port of the same parent or on all its ports. Of several, that which holds there.
 */
export function conflictingRoute(
  route: RouteRecord,
  ref: ParentRef,
  others: readonly RouteRecord[],
): RouteRecord | undefined {
  const kind = parentKind(ref);
  if (!kind) return undefined;
  return others
    .filter(
      (other) =>
        other.namespace === route.namespace &&
        problemOn(other, kind) === undefined &&
        rankOf(other.kind) < rankOf(route.kind) &&
        other.parents.some(
          (theirs) =>
            parentKind(theirs) === kind &&
            theirs.namespace === ref.namespace &&
            theirs.name === ref.name &&
            includes(theirs, ref),
        ),
    )
    .sort((a, b) => rankOf(a.kind) - rankOf(b.kind) || byAge(a, b))[0];
}

/** Whether a reference takes in every port that another one does. */
function includes(outer: ParentRef, inner: ParentRef): boolean {
  const samePort = outer.port === undefined || outer.port === inner.port || parentKind(outer) === "Server";
  return samePort && (outer.sectionName === undefined || outer.sectionName === inner.sectionName);
}

// Which endpoints of a Service a client is told of: those that it can reach and that are meant for it. The rules are
// kube-proxy's (KEP-752, KEP-1669, KEP-2433, KEP-4444), so that a meshed client and another one see the same.
import type { Trace } from "./trace.ts";

/** Where a client is. What is not known of it leaves out nothing. */
export interface ClientPlace {
  readonly node: string | undefined;
  /** Zone of that node. */
  readonly zone: string | undefined;
  /** IP families that it has addresses of, the one that it prefers first; none: unknown. */
  readonly families: readonly (4 | 6)[];
}

/** What is decided by. */
export interface PlacedEndpoint {
  readonly family: 4 | 6;
  /** False: it is ending, and serves on. */
  readonly ready: boolean;
  readonly zone: string | undefined;
  readonly nodeName: string | undefined;
  readonly forZones: readonly string[] | undefined;
  readonly forNodes: readonly string[] | undefined;
  /** What is behind it: two addresses of the same thing are one endpoint. */
  readonly target: object | undefined;
}

export interface TopologyRules {
  /** internalTrafficPolicy: Local */
  readonly nodeLocal: boolean;
  /** trafficDistribution */
  readonly distribution: string | undefined;
}

/** The endpoints of `all` that the client is told of, in their order. */
export function chooseByTopology<E extends PlacedEndpoint>(
  all: readonly E[],
  client: ClientPlace,
  rules: TopologyRules,
  trace?: Trace,
): readonly E[] {
  const say = (what: string, kept: readonly E[], why: string) => {
    trace?.add(what, true, `${why}: ${kept.length} of ${all.length} endpoints`);
    return kept;
  };
  let left = say("IP family", ofFamilies(all, client.families), `client has ${client.families.join(", ")}`);
  if (rules.nodeLocal && client.node !== undefined) {
    left = left.filter(({ nodeName }) => nodeName === client.node);
    say("internalTrafficPolicy Local", left, `on node ${client.node}`);
  }
  // One that is ending is better than none.
  const ready = left.filter((endpoint) => endpoint.ready);
  if (ready.length > 0) left = ready;
  say("readiness", left, ready.length > 0 ? "ready ones" : "none is ready; ending ones serve on");
  const near = rules.nodeLocal ? undefined : (byHints(left, client) ?? byDistribution(left, client, rules));
  return near ? say(near.rule, near.kept, `client in zone ${client.zone}, on node ${client.node}`) : left;
}

/** Of what has addresses of several families, the one of the family that the client likes best. */
function ofFamilies<E extends PlacedEndpoint>(all: readonly E[], families: readonly (4 | 6)[]): readonly E[] {
  const order = families.length === 0 ? ([4, 6] as const) : families;
  const [first] = order;
  // Nearly every cluster has one family.
  if (all.every(({ family }) => family === first)) return all;
  const preferred = new Set<object | undefined>();
  for (const { family, target } of all) if (family === first) preferred.add(target);
  return all.filter(
    ({ family, target }) => family === first || (order.includes(family) && !preferred.has(target)),
  );
}

interface Near<E> {
  readonly rule: string;
  readonly kept: readonly E[];
}

/** Hints count when every endpoint has them, and one is for the client. */
function byHints<E extends PlacedEndpoint>(all: readonly E[], client: ClientPlace): Near<E> | undefined {
  if (all.length === 0) return undefined;
  const { node, zone } = client;
  if (node !== undefined && all.every(({ forNodes }) => forNodes)) {
    const kept = all.filter(({ forNodes }) => forNodes!.includes(node));
    if (kept.length > 0) return { rule: "node hints", kept };
  }
  if (zone === undefined || !all.every(({ forZones }) => forZones)) return undefined;
  const kept = all.filter(({ forZones }) => forZones!.includes(zone));
  return kept.length > 0 ? { rule: "zone hints", kept } : undefined;
}

/** Where whoever makes the slices gives no hints, the Service's wish is followed directly. */
function byDistribution<E extends PlacedEndpoint>(
  all: readonly E[],
  { node, zone }: ClientPlace,
  { distribution }: TopologyRules,
): Near<E> | undefined {
  const wanted =
    distribution === "PreferClose" || distribution === "PreferSameZone" || distribution === "PreferSameNode";
  if (!wanted || all.some(({ forZones, forNodes }) => forZones ?? forNodes)) return undefined;
  const onNode =
    distribution === "PreferSameNode" && node !== undefined
      ? all.filter(({ nodeName }) => nodeName === node)
      : [];
  if (onNode.length > 0) return { rule: "PreferSameNode", kept: onNode };
  const inZone = zone === undefined ? [] : all.filter((endpoint) => endpoint.zone === zone);
  return inZone.length > 0 ? { rule: distribution, kept: inZone } : undefined;
}

/** Whether the choice depends on the client's node, not only on its zone. */
export const dependsOnNode = ({ nodeLocal, distribution }: TopologyRules): boolean =>
  nodeLocal || distribution === "PreferSameNode";

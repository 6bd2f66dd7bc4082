// Turns stored traffic into the rows of stat and edges, the way linkerd's metrics API computes them:
// a workload by what its own proxies saw inbound; a service, --to and --from by what the senders' proxies saw
// outbound. Success is success/(success+failure), latency a histogram quantile, TCP the open connections and
// byte rates.
import type {
  EdgeRow,
  EdgesAnswer,
  EdgesQuery,
  RequestStats,
  ResourceRef,
  StatAnswer,
  StatKind,
  StatQuery,
  StatRow,
  TcpStats,
} from "../../api/stat.ts";
import { histogramQuantile } from "../../metrics/quantile.ts";
import { type LabelSelector, matchesLabels, parseLabelSelector } from "../../util/label-selector.ts";
import { hasEnded, type PodRecord, resourceName } from "./pod.ts";
import { addBuckets, BOUNDS, type SeriesLabels, sumSlots, type Target, type TrafficStore } from "./store.ts";

export interface StatContext {
  readonly store: TrafficStore<PodRecord>;
  /** All pods of the cluster, meshed or not. */
  readonly pods: () => Iterable<PodRecord>;
  readonly now: number;
}

/** @throws RangeError for a selector that cannot be read. */
export function stat(context: StatContext, query: StatQuery): StatAnswer {
  const { resource, to, from } = query;
  const selector = query.selector === undefined ? [] : parseLabelSelector(query.selector);
  const groups = new Map<string, Group>();
  const group = (namespace: string, name: string): Group => {
    const key = `${namespace}/${name}`;
    let found = groups.get(key);
    if (!found) {
      found = new Group(namespace, name);
      groups.set(key, found);
    }
    return found;
  };
  // Workloads show even without traffic; what --from asks for is only where its traffic goes.
  if (!from) countPods(context, resource, selector, group);

  const outbound = to !== undefined || from !== undefined || resource.kind === "service";
  const byDestination = from !== undefined || resource.kind === "service";
  let window = 0;
  for (const target of context.store.targets.values()) {
    const pod = target.info;
    const sender = byDestination ? from : resource;
    if (sender && !podMatches(pod, sender)) continue;
    if (!byDestination && !matchesLabels(selector, pod.labels)) continue;
    const slots = context.store.slots(target, query.window, context.now);
    window = Math.max(window, slots.covered);
    collect(context.store, target, slots, (labels) => {
      if (labels["direction"] !== (outbound ? "outbound" : "inbound")) return undefined;
      if (to && !destinationMatches(labels, to)) return undefined;
      if (!byDestination) return group(pod.namespace, resourceName(pod, resource.kind)!);
      const destination = destinationOf(labels, resource.kind);
      if (!destination || !refMatches(resource, destination.namespace, destination.name)) return undefined;
      return group(destination.namespace, destination.name);
    });
  }
  if (from) countPods(context, resource, selector, (namespace, name) => groups.get(`${namespace}/${name}`));
  const rows = [...groups.values()]
    .map(
      (g): StatRow => ({
        kind: resource.kind,
        name: g.name,
        namespace: g.namespace,
        pods: g.total === 0 ? null : { meshed: g.meshed, total: g.total },
        ...(g.status === undefined ? {} : { status: g.status }),
        requests: g.requests(),
        tcp: g.tcp(),
      }),
    )
    .sort((a, b) => compare(a.namespace, b.namespace) || compare(a.name, b.name));
  return {
    window: Math.min(query.window, window),
    rows,
    incomplete: context.store.incomplete(context.now),
  };
}

/** Who talks to whom, by what the senders' proxies saw. */
export function edges(context: StatContext, query: EdgesQuery): EdgesAnswer {
  const { resource } = query;
  const groups = new Map<string, { from: Group; traffic: Group }>();
  let window = 0;
  for (const target of context.store.targets.values()) {
    const pod = target.info;
    const source = resourceName(pod, resource.kind);
    if (source === undefined) continue;
    const slots = context.store.slots(target, query.window, context.now);
    window = Math.max(window, slots.covered);
    collect(context.store, target, slots, (labels) => {
      if (labels["direction"] !== "outbound") return undefined;
      const to = destinationOf(labels, resource.kind);
      if (!to) return undefined;
      const either =
        refMatches(resource, pod.namespace, source) || refMatches(resource, to.namespace, to.name);
      if (!either) return undefined;
      const key = `${pod.namespace}/${source}>${to.namespace}/${to.name}`;
      let found = groups.get(key);
      if (!found) {
        found = { from: new Group(pod.namespace, source), traffic: new Group(to.namespace, to.name) };
        groups.set(key, found);
      }
      return found.traffic;
    });
  }
  const rows = [...groups.values()]
    .map(
      ({ from, traffic }): EdgeRow => ({
        from: { name: from.name, namespace: from.namespace },
        to: { name: traffic.name, namespace: traffic.namespace },
        requests: traffic.requests(),
        tcp: traffic.tcp(),
      }),
    )
    .filter((row) => row.requests !== null || row.tcp !== null)
    .sort(
      (a, b) =>
        compare(a.from.namespace, b.from.namespace) ||
        compare(a.from.name, b.from.name) ||
        compare(a.to.namespace, b.to.namespace) ||
        compare(a.to.name, b.to.name),
    );
  return {
    window: Math.min(query.window, window),
    rows,
    incomplete: context.store.incomplete(context.now),
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function refMatches(ref: ResourceRef, namespace: string, name: string): boolean {
  if (ref.name !== undefined && ref.name !== name) return false;
  // A namespace lies in no namespace.
  return ref.namespace === undefined || ref.kind === "namespace" || ref.namespace === namespace;
}

function podMatches(pod: PodRecord, ref: ResourceRef): boolean {
  const name = resourceName(pod, ref.kind);
  return name !== undefined && refMatches(ref, pod.namespace, name);
}

function destinationOf(
  labels: SeriesLabels,
  kind: StatKind,
): { namespace: string; name: string } | undefined {
  const namespace = labels["dst_namespace"];
  const name = kind === "namespace" ? namespace : labels[`dst_${kind}`];
  return name === undefined || namespace === undefined ? undefined : { namespace, name };
}

function destinationMatches(labels: SeriesLabels, ref: ResourceRef): boolean {
  const destination = destinationOf(labels, ref.kind);
  return destination !== undefined && refMatches(ref, destination.namespace, destination.name);
}

function countPods(
  context: StatContext,
  resource: ResourceRef,
  selector: LabelSelector,
  group: (namespace: string, name: string) => Group | undefined,
): void {
  for (const pod of context.pods()) {
    const name = resourceName(pod, resource.kind);
    if (name === undefined || hasEnded(pod)) continue;
    if (!refMatches(resource, pod.namespace, name) || !matchesLabels(selector, pod.labels)) continue;
    const found = group(pod.namespace, name);
    if (!found) continue;
    found.total += 1;
    if (pod.meshed) found.meshed += 1;
    if (resource.kind === "pod") found.status = pod.status;
  }
}

/** Adds a pod's traffic to the groups that `groupOf` finds for its series. */
function collect(
  store: TrafficStore<PodRecord>,
  target: Target<PodRecord>,
  { slots, covered }: { slots: readonly number[]; covered: number },
  groupOf: (labels: SeriesLabels) => Group | undefined,
): void {
  const seconds = covered / 1000;
  for (const series of target.series.values()) {
    const group = groupOf(series.labels);
    if (!group) continue;
    const { labels } = series;
    const tcp = labels["peer"] === (labels["direction"] === "inbound" ? "src" : "dst");
    switch (series.family) {
      case "response_total":
        if (seconds > 0) group.addResponses(sumSlots(series, slots), seconds, labels);
        break;
      case "response_latency_ms_bucket":
        addBuckets(series, slots, group.buckets);
        break;
      case "tcp_open_connections":
        if (tcp && !target.gone) group.addOpen(series.ring[store.newest(target)]!, labels);
        break;
      case "tcp_read_bytes_total":
        if (tcp && seconds > 0) group.addRead(sumSlots(series, slots) / seconds);
        break;
      case "tcp_write_bytes_total":
        if (tcp && seconds > 0) group.addWritten(sumSlots(series, slots) / seconds);
        break;
    }
  }
}

/** Sums of one row. */
class Group {
  readonly namespace: string;
  readonly name: string;
  readonly buckets = new Float64Array(BOUNDS.length + 1);
  meshed = 0;
  total = 0;
  status: string | undefined;
  #success = 0;
  #failure = 0;
  #secured = 0;
  #rps = 0;
  #tcpSeen = false;
  #open = 0;
  #openSecured = 0;
  #read = 0;
  #written = 0;

  constructor(namespace: string, name: string) {
    this.namespace = namespace;
    this.name = name;
  }

  addResponses(count: number, seconds: number, labels: SeriesLabels): void {
    if (labels["classification"] === "failure") this.#failure += count;
    else this.#success += count;
    if (labels["tls"] === "true") this.#secured += count;
    this.#rps += count / seconds;
  }

  addOpen(count: number, labels: SeriesLabels): void {
    this.#tcpSeen = true;
    this.#open += count;
    if (labels["tls"] === "true") this.#openSecured += count;
  }

  addRead(rate: number): void {
    this.#tcpSeen = true;
    this.#read += rate;
  }

  addWritten(rate: number): void {
    this.#tcpSeen = true;
    this.#written += rate;
  }

  requests(): RequestStats | null {
    const total = this.#success + this.#failure;
    if (total === 0) return null;
    return {
      success: this.#success,
      failure: this.#failure,
      successRate: this.#success / total,
      rps: this.#rps,
      p50: histogramQuantile(0.5, BOUNDS, this.buckets),
      p95: histogramQuantile(0.95, BOUNDS, this.buckets),
      p99: histogramQuantile(0.99, BOUNDS, this.buckets),
      secured: this.#secured / total,
    };
  }

  tcp(): TcpStats | null {
    if (!this.#tcpSeen) return null;
    return {
      openConnections: this.#open,
      secured: this.#open === 0 ? 0 : this.#openSecured / this.#open,
      readRate: this.#read,
      writeRate: this.#written,
    };
  }
}

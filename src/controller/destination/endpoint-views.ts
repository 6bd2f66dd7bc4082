// Endpoints as clients see them: a view for each port of a Service that somebody watches, and in it a lens for each place
// where clients are. Clients of one place are told the same objects, so that each is encoded once.
import {
  type ClientPlace,
  chooseByTopology,
  dependsOnNode,
  type PlacedEndpoint,
} from "../../rules/endpoint-topology.ts";
import type { EndpointRecord, PodRecord, ServiceRecord, SliceRecord } from "../cluster-objects.ts";
import { type Endpoint, isSame } from "./address.ts";
import { Audience, Seat } from "./audience.ts";
import { addressKey, type ClusterRecords, familyOf, keyOf, type Target } from "./cluster-records.ts";
import type { Client, Listener, Subscription } from "./listener.ts";

/** The endpoints of one port of one Service that a client is told of: added and removed since the last call. */
export interface EndpointChange {
  readonly query: EndpointQuery;
  readonly added: readonly Endpoint[];
  readonly removed: readonly { readonly ip: string; readonly port: number }[];
  /** How many there are now. */
  readonly size: number;
  /** Whether the Service exists with that port. */
  readonly exists: boolean;
  /** The Service is a name for something outside (ExternalName): there will be no endpoints. */
  readonly externalName: boolean;
}

export interface EndpointQuery {
  readonly namespace: string;
  readonly service: string;
  readonly port: number;
  /** One named pod of a headless Service. */
  readonly hostname?: string | undefined;
}

/** An endpoint that any client might be told of. */
interface Candidate extends PlacedEndpoint {
  /** What it is made of; the same record says the same. */
  readonly record: EndpointRecord;
  readonly key: string;
  readonly ip: string;
  readonly port: number;
  readonly target: Target | undefined;
  readonly opaque: boolean;
  readonly gateway: SliceRecord["gateway"];
}

interface View {
  readonly query: EndpointQuery;
  readonly service: string;
  readonly lenses: Map<string, Lens>;
  /** By their keys. What is the same as it was stays the same object: one that is new each time would grow old in vain. */
  readonly candidates: Map<string, Candidate>;
  exists: boolean;
  externalName: boolean;
}

/** A view as clients of one place see it. */
interface Lens {
  readonly owner: EndpointViews;
  readonly view: View;
  readonly key: string;
  readonly place: ClientPlace;
  readonly audience: Audience<EndpointChange, EndpointSubscription>;
  /** By the keys of their candidates. */
  readonly entries: Map<string, Endpoint>;
  /** What a new listener is told; the same object for all until something changes. */
  snapshot: EndpointChange | undefined;
}

class EndpointSubscription extends Seat implements Subscription {
  readonly client: Client;
  lens: Lens;
  constructor(client: Client, lens: Lens) {
    super();
    this.client = client;
    this.lens = lens;
  }
  close(): void {
    this.lens.owner.leave(this);
  }
}

/** A view among those of its Service. */
const partOf = ({ port, hostname = "" }: EndpointQuery) => `${port}/${hostname}`;

export class EndpointViews {
  readonly #records: ClusterRecords;
  /** By Service, then by port and hostname. */
  readonly #views = new Map<string, Map<string, View>>();

  constructor(records: ClusterRecords) {
    this.#records = records;
  }

  /** How many there are. */
  get size(): number {
    let size = 0;
    for (const views of this.#views.values()) size += views.size;
    return size;
  }

  /** Whether somebody watches a Service. */
  has(service: string): boolean {
    return this.#views.has(service);
  }

  watch(
    query: EndpointQuery,
    client: Client,
    listener: Listener<EndpointChange>,
    key?: unknown,
  ): Subscription {
    const lens = this.#lensOf(this.#viewOf(query), client);
    const { view, entries, audience } = lens;
    const subscription = new EndpointSubscription(client, lens);
    lens.snapshot ??= changeOf(view, [...entries.values()], [], entries.size);
    audience.join(subscription, listener, key, lens.snapshot);
    return subscription;
  }

  /** Ends a subscription; for the subscription itself. */
  leave(subscription: EndpointSubscription): void {
    const { lens } = subscription;
    const { view } = lens;
    lens.audience.leave(subscription);
    if (lens.audience.size > 0) return;
    if (view.lenses.get(lens.key) === lens) view.lenses.delete(lens.key);
    if (view.lenses.size > 0) return;
    const views = this.#views.get(view.service);
    if (views?.get(partOf(view.query)) !== view) return;
    views.delete(partOf(view.query));
    if (views.size === 0) this.#views.delete(view.service);
  }

  #viewOf(query: EndpointQuery): View {
    const service = keyOf(query.namespace, query.service);
    const views = this.#views.get(service) ?? new Map<string, View>();
    this.#views.set(service, views);
    let view = views.get(partOf(query));
    if (!view) {
      view = { query, service, lenses: new Map(), candidates: new Map(), exists: false, externalName: false };
      views.set(partOf(query), view);
      this.#refresh(view);
    }
    return view;
  }

  #lensOf(view: View, client: Client): Lens {
    const place = this.#placeOf(view, client);
    const key = `${place.zone ?? ""}|${place.families.join("")}|${place.node ?? ""}`;
    let lens = view.lenses.get(key);
    if (!lens) {
      const [audience, entries] = [new Audience<EndpointChange, EndpointSubscription>(), new Map()];
      lens = { owner: this, view, key, place, audience, entries, snapshot: undefined };
      this.#advance(lens);
      view.lenses.set(key, lens);
    }
    return lens;
  }

  /** Where a client is, as far as it matters for this Service: clients that see the same share a lens. */
  #placeOf(view: View, client: Client): ClientPlace {
    const service = this.#records.serviceOf(view.service);
    const pod = this.#podOf(client);
    const node = client.nodeName ?? pod?.nodeName;
    return {
      node: node !== undefined && service && dependsOnNode(service) ? node : undefined,
      zone: node === undefined ? undefined : this.#records.zoneOf(node),
      families: pod ? [...new Set(pod.ips.map(familyOf))] : [],
    };
  }

  #podOf({ namespace, pod }: Client): PodRecord | undefined {
    return namespace === undefined || pod === undefined ? undefined : this.#records.pod(namespace, pod);
  }

  // ---- changes ----

  /** Tells the listeners of a Service what has changed. */
  tell(service: string): void {
    for (const view of [...(this.#views.get(service)?.values() ?? [])]) {
      const changed = this.#refresh(view);
      for (const lens of [...view.lenses.values()]) {
        const change = this.#advance(lens);
        if (!changed && change.added.length === 0 && change.removed.length === 0) continue;
        lens.snapshot = undefined;
        lens.audience.tell(change);
      }
    }
  }

  /** A node's zone is another now. */
  regroupNode(node: string): void {
    for (const [key, views] of this.#views) {
      for (const view of views.values()) {
        const has = [...view.lenses.values()].some(({ audience }) =>
          audience.seats.some(({ client }) => (client.nodeName ?? this.#podOf(client)?.nodeName) === node),
        );
        if (has) this.regroup(key);
      }
    }
  }

  /** Gives each listener of a Service the lens that is right for it now, and tells it the difference. */
  regroup(service: string): void {
    for (const view of [...(this.#views.get(service)?.values() ?? [])]) {
      for (const old of [...view.lenses.values()]) {
        for (const subscription of [...old.audience.seats]) {
          const lens = this.#lensOf(view, subscription.client);
          if (lens === old) continue;
          subscription.lens = lens;
          const change = diff(old.entries, lens);
          const differs = change.added.length > 0 || change.removed.length > 0;
          old.audience.move(subscription, lens.audience, differs ? change : undefined);
        }
        if (old.audience.size === 0) view.lenses.delete(old.key);
      }
    }
  }

  /** Brings what all lenses of a view see up to date. @returns whether there is another Service behind it */
  #refresh(view: View): boolean {
    const service = this.#records.serviceOf(view.service);
    const { exists, externalName } = view;
    const port = service && portOf(service, view.query.port);
    view.externalName = service?.externalName ?? false;
    view.exists = port !== undefined && !view.externalName;
    this.#refreshCandidates(view, view.exists ? port : undefined);
    return exists !== view.exists || externalName !== view.externalName;
  }

  /** Brings what a lens sees up to date. @returns what has changed by it */
  #advance({ view, place, entries }: Lens): EndpointChange {
    const service = this.#records.serviceOf(view.service);
    const chosen = service ? chooseByTopology([...view.candidates.values()], place, service) : [];
    const added: Endpoint[] = [];
    for (const candidate of chosen) {
      const { key, ip, port, target, zone, opaque, gateway } = candidate;
      const local = zone === undefined || place.zone === undefined ? undefined : zone === place.zone;
      const old = entries.get(key);
      const entry = { ip, port, target, zone, local, opaque, gateway };
      if (old && isSame(old, entry)) continue;
      entries.set(key, entry);
      added.push(entry);
    }
    const removed = entries.size > chosen.length ? dropOthers(entries, chosen) : [];
    return changeOf(view, added, removed, entries.size);
  }

  /** @param port undefined: there are none */
  #refreshCandidates({ service, query, candidates }: View, port: ServicePort | undefined): void {
    const found = new Map<string, Candidate>();
    for (const slice of port ? this.#records.slicesOf(service) : []) {
      const number =
        port!.name === undefined
          ? port!.port
          : slice.ports.find((candidate) => candidate.name === port!.name)?.port;
      if (number === undefined) continue;
      for (const record of slice.endpoints) {
        if (query.hostname !== undefined && record.hostname !== query.hostname) continue;
        const candidate = this.#candidateOf(slice, record, number, candidates);
        // In two slices, as while one is replaced: ready if either says so.
        if (candidate && !(found.get(candidate.key)?.ready && !candidate.ready))
          found.set(candidate.key, candidate);
      }
    }
    for (const key of candidates.keys()) if (!found.has(key)) candidates.delete(key);
    for (const [key, candidate] of found) candidates.set(key, candidate);
  }

  /** Undefined for an endpoint that must not be told of. @param before what is the same as there is that one */
  #candidateOf(
    slice: SliceRecord,
    record: EndpointRecord,
    port: number,
    before: ReadonlyMap<string, Candidate>,
  ): Candidate | undefined {
    const target = this.#records.targetOf(record);
    if (target === "nobody") return undefined;
    const opaque = target ? this.#records.isOpaqueAt(target, port) : false;
    const { family, gateway } = slice;
    const { ip, ready, zone, nodeName, forZones, forNodes } = record;
    const key = addressKey(ip, port);
    const old = before.get(key);
    if (
      old?.record === record &&
      old.target === target &&
      old.opaque === opaque &&
      old.gateway?.identity === gateway?.identity &&
      old.gateway?.authority === gateway?.authority
    )
      return old;
    return {
      record,
      key,
      ip,
      port,
      family,
      ready,
      zone,
      nodeName,
      forZones,
      forNodes,
      target,
      opaque,
      gateway,
    };
  }
}

/** Takes out all but those that are chosen. @returns what they were */
function dropOthers(entries: Map<string, Endpoint>, chosen: readonly Candidate[]): Endpoint[] {
  const keys = new Set(chosen.map(({ key }) => key));
  const dropped: Endpoint[] = [];
  for (const [key, entry] of entries) {
    if (keys.has(key)) continue;
    entries.delete(key);
    dropped.push(entry);
  }
  return dropped;
}

function changeOf(
  { query, exists, externalName }: View,
  added: readonly Endpoint[],
  removed: readonly Endpoint[],
  size: number,
): EndpointChange {
  return { query, added, removed, size, exists, externalName };
}

function diff(before: ReadonlyMap<string, Endpoint>, { entries, view }: Lens): EndpointChange {
  const added: Endpoint[] = [];
  const removed: Endpoint[] = [];
  for (const [key, entry] of entries) {
    const old = before.get(key);
    if (!old || !isSame(old, entry)) added.push(entry);
  }
  for (const [key, old] of before) if (!entries.has(key)) removed.push(old);
  return changeOf(view, added, removed, entries.size);
}

/** Which port of the endpoints is asked for: the slices' one of a name, or a number. */
interface ServicePort {
  readonly name: string | undefined;
  readonly port: number;
}

function portOf({ ports, headless }: ServiceRecord, port: number): ServicePort | undefined {
  const found = ports.find((each) => each.port === port);
  if (found) return { name: found.name, port };
  // The pods of a headless Service are called at whatever port they have.
  return headless ? { name: undefined, port } : undefined;
}

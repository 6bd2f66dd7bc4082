// The Destination API over the index: Get streams endpoints, GetProfile streams what an address or a name is.
import { addressOf } from "../../api/address.ts";
import type { MessageOf, Partially } from "../../api/codec.ts";
import { DestinationProfile, Get, GetProfile, Update } from "../../api/destination.ts";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { durationOf } from "../../api/time.ts";
import type { Http2Stream } from "../../http2/stream.ts";
import type { Clock } from "../../util/clock.ts";
import { parseAuthority } from "../authority.ts";
import { addressOfText, type ServiceRecord } from "../cluster-objects.ts";
import { type Channel, encodeFrame, type GrpcServer } from "../grpc-server.ts";
import { addressFor, type MeshFacts } from "./address.ts";
import { clientOf } from "./context-token.ts";
import type {
  ClusterEndpoints,
  DestinationIndex,
  EndpointChange,
  Listener,
  Profile,
  ProfileQuery,
} from "./index.ts";
import type { Override } from "./service-profile.ts";

type UpdateMessage = MessageOf<typeof Update>;
type ProfileMessage = MessageOf<typeof DestinationProfile>;

/** What is served: the local cluster, and the endpoints of others by name. */
export interface Discovery {
  readonly local: DestinationIndex;
  readonly clusters: ReadonlyMap<string, ClusterEndpoints>;
}

/** Endpoints of one update; more are sent in several, so that no message is large. */
const BATCH = 500;
/** What streams are told first is kept this long, ms. */
const KEPT = 10_000;
/** Linkerd's default retry budget, which a profile carries even without routes. */
const RETRY_BUDGET = { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: durationOf(10_000) };

export function serveDestination(server: GrpcServer, discovery: Discovery, mesh: MeshFacts): void {
  const { clusterDomain } = mesh;
  const { local } = discovery;
  // The messages of a change are sent as one piece.
  const endpointFrames = new Encoded(server.clock, (change: EndpointChange) =>
    Buffer.concat(updates(change, mesh).map((update) => encodeFrame(Update, update))),
  );
  const profileFrames = new Encoded(server.clock, (profile: Profile) =>
    encodeFrame(DestinationProfile, profileMessage(profile, mesh)),
  );
  const endpointWatches = new PerChannel((channel) => new EndpointWatches(channel, endpointFrames));
  const profileWatches = new PerChannel((channel) => new Watches(channel, profileFrames));

  server.stream(Get, ({ path, contextToken }, sender) => {
    const target = parseAuthority(path, clusterDomain);
    if (target.kind === "ip")
      throw new GrpcError(STATUS.INVALID_ARGUMENT, "expected the name of a Service, got an IP address");
    const { name, namespace, port, hostname } = target;
    const { endpoints, service } = sourceOf(discovery, namespace, name);
    const query = { namespace, service, port, hostname };
    const watches = endpointWatches.of(sender.channel);
    sender.whenClosed(endpoints.watchEndpoints(query, clientOf(contextToken), watches, sender.stream));
  });

  server.stream(GetProfile, ({ path, contextToken }, sender) => {
    const target = parseAuthority(path, clusterDomain);
    let query: ProfileQuery;
    if (target.kind === "ip") query = { kind: "ip", ip: addressOfText(target.ip), port: target.port };
    else {
      if (!local.service(target.namespace, target.name)) throw noService(target.namespace, target.name);
      query = target;
    }
    const watches = profileWatches.of(sender.channel);
    sender.whenClosed(local.watchProfile(query, clientOf(contextToken), watches, sender.stream));
  });
}

const noService = (namespace: string, name: string) =>
  new GrpcError(STATUS.NOT_FOUND, `there is no Service ${namespace}/${name}`);

/** Whose endpoints a Service has: its own, or those of the Service of another cluster that it stands for. */
function sourceOf(
  { local, clusters }: Discovery,
  namespace: string,
  name: string,
): { readonly endpoints: ClusterEndpoints; readonly service: string } {
  const remote = local.service(namespace, name)?.remote;
  if (!remote) return { endpoints: local, service: name };
  const endpoints = clusters.get(remote.cluster);
  if (!endpoints)
    throw new GrpcError(
      STATUS.NOT_FOUND,
      `Service ${namespace}/${name} stands for one of cluster ${remote.cluster}, which is not linked`,
    );
  return { endpoints, service: remote.service };
}

/**
 * Messages that go to many, encoded once: all listeners are told the same object. A change is told to all of them at once;
 * what there is, to whoever comes, as thousands do when another replica has left. They are not kept for those who come
 * one at a time: thousands of Services would be megabytes.
 */
class Encoded<T extends object> {
  readonly #clock: Clock;
  readonly #encode: (value: T) => Buffer;
  #last: { readonly value: T; readonly frames: Buffer } | undefined;
  readonly #first = new Map<T, Buffer>();

  constructor(clock: Clock, encode: (value: T) => Buffer) {
    this.#clock = clock;
    this.#encode = encode;
  }

  /** What a stream is told first. */
  first(value: T): Buffer {
    let frames = this.#first.get(value);
    if (!frames) {
      frames = this.#encode(value);
      if (this.#first.size === 0) this.#clock.after(KEPT, () => this.#first.clear());
      this.#first.set(value, frames);
    }
    return frames;
  }

  /** What it is told later. */
  next(value: T): Buffer {
    if (this.#last?.value !== value) this.#last = { value, frames: this.#encode(value) };
    return this.#last.frames;
  }
}

/** The streams of one method on one connection: hears of changes, and sends them on the stream that each is for. */
class Watches<T extends object> implements Listener<T> {
  protected readonly channel: Channel;
  readonly #frames: Encoded<T>;

  constructor(channel: Channel, frames: Encoded<T>) {
    this.channel = channel;
    this.#frames = frames;
  }

  update(value: T, stream: Http2Stream, first: boolean): void {
    const frames = this.#frames;
    this.channel.sendFrame(stream, first ? frames.first(value) : frames.next(value));
  }
}

class EndpointWatches extends Watches<EndpointChange> {
  override update(change: EndpointChange, stream: Http2Stream, first: boolean): void {
    const { externalName, query } = change;
    if (!externalName) super.update(change, stream, first);
    else {
      const message = `Service ${query.namespace}/${query.service} is an ExternalName: it has no endpoints`;
      this.channel.end(stream, new GrpcError(STATUS.INVALID_ARGUMENT, message));
    }
  }
}

/** One of them for each channel, as long as that lives. */
class PerChannel<W> {
  readonly #make: (channel: Channel) => W;
  readonly #known = new WeakMap<Channel, W>();

  constructor(make: (channel: Channel) => W) {
    this.#make = make;
  }

  of(channel: Channel): W {
    const known = this.#known.get(channel) ?? this.#make(channel);
    this.#known.set(channel, known);
    return known;
  }
}

/** What is new before what is gone: a client whose endpoints are all replaced is never left without any. */
function updates(change: EndpointChange, mesh: MeshFacts): Partially<UpdateMessage>[] {
  const { query, added, removed, size, exists } = change;
  const metricLabels = { namespace: query.namespace, service: query.service };
  const out: Partially<UpdateMessage>[] = [];
  for (let at = 0; at < added.length; at += BATCH) {
    const addrs = added.slice(at, at + BATCH).map((endpoint) => addressFor(endpoint, mesh));
    out.push({ add: { addrs, metricLabels } } as Partially<UpdateMessage>);
  }
  for (let at = 0; at < removed.length; at += BATCH) {
    const addrs = removed.slice(at, at + BATCH).map(({ ip, port }) => addressOf(ip, port));
    out.push({ remove: { addrs } });
  }
  if (size === 0) out.push({ noEndpoints: { exists } });
  return out;
}

function profileMessage(
  { service, endpoint, opaque, profile, overrides, port }: Profile,
  mesh: MeshFacts,
): Partially<ProfileMessage> {
  const name = service && fullName(service, mesh.clusterDomain);
  return {
    fullyQualifiedName: name ?? "",
    opaqueProtocol: opaque,
    routes: profile?.routes ?? [],
    retryBudget: profile?.retryBudget ?? RETRY_BUDGET,
    dstOverrides: overrides.map((override) => weightedDst(override, port, mesh.clusterDomain)),
    ...(endpoint ? { endpoint: addressFor(endpoint, mesh) } : {}),
    ...(service ? { parentRef: serviceRef(service, port) } : {}),
    ...(profile ? { profileRef: profileRef(profile) } : {}),
  } as Partially<ProfileMessage>;
}

const fullName = ({ name, namespace }: Pick<ServiceRecord, "name" | "namespace">, domain: string): string =>
  `${name}.${namespace}.svc.${domain}`;

const serviceRef = ({ name, namespace }: Pick<ServiceRecord, "name" | "namespace">, port: number) => ({
  resource: { group: "core", kind: "Service", name, namespace, section: "", port },
});

const profileRef = ({ name, namespace }: { readonly name: string; readonly namespace: string }) => ({
  resource: { group: "linkerd.io", kind: "ServiceProfile", name, namespace, section: "", port: 0 },
});

/** An override without a port is for the port that was asked about. */
function weightedDst({ authority, weight }: Override, port: number, clusterDomain: string) {
  const full = /:\d+$/.test(authority) ? authority : `${authority.replace(/\.$/, "")}:${port}`;
  let backendRef: ReturnType<typeof serviceRef> | undefined;
  try {
    const target = parseAuthority(full, clusterDomain);
    if (target.kind === "service") backendRef = serviceRef(target, target.port);
  } catch {
    // Traffic for somewhere outside has no Service to name.
  }
  return { authority: full, weight, ...(backendRef ? { backendRef } : {}) };
}

// What a proxy is told of an address or a name: which Service or pod it is, how it is to be spoken to, where its traffic
// goes instead. Clients of one namespace that ask the same share a view.
import { isDeepStrictEqual } from "node:util";
import { MultiMap } from "../../util/multi-map.ts";
import { portSetHas } from "../../util/port-set.ts";
import type { ServiceRecord } from "../cluster-objects.ts";
import { type Endpoint, isSame } from "./address.ts";
import { Audience, Seat } from "./audience.ts";
import { type ClusterRecords, familyOf, keyOf } from "./cluster-records.ts";
import type { Client, Listener, Subscription } from "./listener.ts";
import type { Override, ProfileRecord } from "./service-profile.ts";

/** What a proxy is told of an address. */
export interface Profile {
  /** The Service that has the address. */
  readonly service: ServiceRecord | undefined;
  /** The pod or workload that has it. */
  readonly endpoint: Endpoint | undefined;
  readonly opaque: boolean;
  /** The ServiceProfile that holds for the client. */
  readonly profile: ProfileRecord | undefined;
  /** Where the traffic goes instead. */
  readonly overrides: readonly Override[];
  /** The port that was asked about. */
  readonly port: number;
}

export type ProfileQuery =
  | { readonly kind: "ip"; readonly ip: string; readonly port: number }
  | {
      readonly kind: "service";
      readonly namespace: string;
      readonly name: string;
      readonly hostname?: string | undefined;
      readonly port: number;
    };

export interface ProfileView {
  readonly owner: ProfileViews;
  readonly query: ProfileQuery;
  /** Of the clients. */
  readonly namespace: string;
  readonly key: string;
  readonly audience: Audience<Profile, ProfileSubscription>;
  current: Profile;
}

class ProfileSubscription extends Seat implements Subscription {
  readonly view: ProfileView;
  constructor(view: ProfileView) {
    super();
    this.view = view;
  }
  close(): void {
    this.view.owner.leave(this);
  }
}

const NO_PROFILE: Omit<Profile, "port"> = {
  service: undefined,
  endpoint: undefined,
  opaque: false,
  profile: undefined,
  overrides: [],
};

export class ProfileViews {
  readonly #records: ClusterRecords;
  readonly #views = new Map<string, ProfileView>();
  readonly #byIp = new MultiMap<ProfileView>();
  readonly #byService = new MultiMap<ProfileView>();

  constructor(records: ClusterRecords) {
    this.#records = records;
  }

  /** How many there are. */
  get size(): number {
    return this.#views.size;
  }

  all(): Iterable<ProfileView> {
    return this.#views.values();
  }

  /** Those that were asked for by an address. */
  ofAddress(ip: string): Iterable<ProfileView> {
    return this.#byIp.get(ip);
  }

  /** Those that were asked for by a Service's name. */
  ofService(key: string): Iterable<ProfileView> {
    return this.#byService.get(key);
  }

  watch(query: ProfileQuery, client: Client, listener: Listener<Profile>, key?: unknown): Subscription {
    const namespace = client.namespace ?? "";
    const name =
      query.kind === "ip" ? query.ip : `${keyOf(query.namespace, query.name)}/${query.hostname ?? ""}`;
    const asked = `${name} ${query.port} ${namespace}`;
    let view = this.#views.get(asked);
    if (!view) {
      const current = this.#profileOf(query, namespace);
      view = { owner: this, query, namespace, key: asked, audience: new Audience(), current };
      this.#views.set(asked, view);
      if (query.kind === "ip") this.#byIp.add(query.ip, view);
      else this.#byService.add(keyOf(query.namespace, query.name), view);
    }
    const subscription = new ProfileSubscription(view);
    view.audience.join(subscription, listener, key, view.current);
    return subscription;
  }

  /** Ends a subscription; for the subscription itself. */
  leave(subscription: ProfileSubscription): void {
    const { view } = subscription;
    view.audience.leave(subscription);
    if (view.audience.size > 0 || this.#views.get(view.key) !== view) return;
    this.#views.delete(view.key);
    const { query } = view;
    if (query.kind === "ip") this.#byIp.delete(query.ip, view);
    else this.#byService.delete(keyOf(query.namespace, query.name), view);
  }

  /** Tells the listeners of a view when it has changed. */
  tell(view: ProfileView): void {
    if (view.audience.size === 0) return;
    const fresh = this.#profileOf(view.query, view.namespace);
    if (isSameProfile(view.current, fresh)) return;
    view.current = fresh;
    view.audience.tell(fresh);
  }

  /** @param namespace of the clients */
  #profileOf(query: ProfileQuery, namespace: string): Profile {
    const records = this.#records;
    if (query.kind === "service") {
      const service = records.service(query.namespace, query.name);
      if (query.hostname === undefined) return this.#profileOfService(service, query.port, namespace);
      return this.#profileOfEndpoint(this.#instanceOf(service, query.hostname, query.port), query.port);
    }
    const { ip, port } = query;
    const service = records.serviceAt(ip);
    if (service) return this.#profileOfService(service, port, namespace);
    return this.#profileOfEndpoint(this.#behind(ip, port), port);
  }

  #profileOfService(service: ServiceRecord | undefined, port: number, client: string): Profile {
    const { mesh } = this.#records;
    if (!service) return { ...NO_PROFILE, opaque: portSetHas(mesh.defaultOpaquePorts, port), port };
    const name = `${service.name}.${service.namespace}.svc.${mesh.clusterDomain}`;
    // The client's word counts more than the Service's.
    const profile = this.#records.profile(client, name) ?? this.#records.profile(service.namespace, name);
    const inherited = this.#records.namespace(service.namespace)?.opaquePorts;
    const opaque =
      portSetHas(service.opaquePorts ?? inherited ?? mesh.defaultOpaquePorts, port) ||
      portSetHas(profile?.opaquePorts ?? [], port);
    const own = profile?.overrides ?? [];
    return {
      service,
      endpoint: undefined,
      opaque,
      profile,
      // Any proxy that speaks the API goes by a profile once that has routes or targets, and passes the policy over, with
      // all that routes, retries and timeouts say (reference/data-planes.md §1.7). The policy has the split too: so the
      // profile has it only where its own routes make proxies go by it anyway.
      overrides: own.length > 0 || !profile?.routes.length ? own : this.#splitOf(service),
      port,
    };
  }

  #splitOf({ namespace, name }: ServiceRecord): readonly Override[] {
    const { clusterDomain } = this.#records.mesh;
    const split = this.#records.splitOf(keyOf(namespace, name));
    return (split?.backends ?? []).map(({ service, weight }) => ({
      authority: service.includes(".") ? service : `${service}.${namespace}.svc.${clusterDomain}`,
      weight,
    }));
  }

  #profileOfEndpoint(endpoint: Endpoint | undefined, port: number): Profile {
    // A database outside the cluster speaks first like any other.
    const opaque = endpoint?.opaque ?? portSetHas(this.#records.mesh.defaultOpaquePorts, port);
    return { ...NO_PROFILE, endpoint, opaque, port };
  }

  /** A pod or workload by an address of its own, or by a port of its node that leads to it. */
  #behind(ip: string, port: number): Endpoint | undefined {
    const records = this.#records;
    const [pod] = [...records.podsAtHostPort(ip, port)].sort((a, b) => b.created - a.created);
    if (pod) {
      const to = pod.hostPorts.find((each) => each.ip === ip && each.hostPort === port)!.port;
      const own = pod.ips.find((each) => familyOf(each) === familyOf(ip)) ?? pod.ips[0];
      if (own !== undefined && records.ownerOf(own) === pod) return records.endpointAt(own, to, pod);
    }
    const owner = records.ownerOf(ip);
    return owner && records.endpointAt(ip, port, owner);
  }

  /** A pod of a headless Service by its host name, at a port of its own. */
  #instanceOf(service: ServiceRecord | undefined, hostname: string, port: number): Endpoint | undefined {
    if (!service) return undefined;
    for (const slice of this.#records.slicesOf(keyOf(service.namespace, service.name))) {
      for (const endpoint of slice.endpoints) {
        if (endpoint.hostname !== hostname) continue;
        const target = this.#records.targetOf(endpoint);
        if (target && target !== "nobody") return this.#records.endpointAt(endpoint.ip, port, target);
      }
    }
    return undefined;
  }
}

const isSameProfile = (a: Profile, b: Profile): boolean =>
  a.service === b.service &&
  a.opaque === b.opaque &&
  a.profile === b.profile &&
  isDeepStrictEqual(a.overrides, b.overrides) &&
  (a.endpoint === b.endpoint ||
    (a.endpoint !== undefined &&
      b.endpoint !== undefined &&
      a.endpoint.ip === b.endpoint.ip &&
      a.endpoint.port === b.endpoint.port &&
      isSame(a.endpoint, b.endpoint)));

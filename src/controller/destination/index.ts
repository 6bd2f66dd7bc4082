// The destination index of one cluster: its objects as records in, what subscribers must know out. Pure but for the
// callbacks; work grows with a change and with who subscribed to it, not with the cluster.
//
//   slices, pods, workloads, Services, Servers … → ClusterRecords
//        └→ what they touch → EndpointViews (Service, port) → candidates → lenses (where clients are) → diff → listeners
//                           → ProfileViews (address or name, namespace of the client) → listeners
import type { ServiceRecord } from "../cluster-objects.ts";
import type { MeshFacts } from "./address.ts";
import { ClusterRecords } from "./cluster-records.ts";
import { type EndpointChange, type EndpointQuery, EndpointViews } from "./endpoint-views.ts";
import type { Client, Listener, Subscription } from "./listener.ts";
import { type Profile, type ProfileQuery, type ProfileView, ProfileViews } from "./profile-views.ts";

export type { EndpointChange, EndpointQuery } from "./endpoint-views.ts";
export type { Client, Listener, Subscription } from "./listener.ts";
export type { Profile, ProfileQuery } from "./profile-views.ts";

/** The endpoints of a cluster, whichever it is: the local one, or another that multicluster links. */
export interface ClusterEndpoints {
  service(namespace: string, name: string): ServiceRecord | undefined;
  /**
   * Tells the whole set at once (as added), then each change.
   * @param key given to the listener each time: for whom it is
   */
  watchEndpoints(
    query: EndpointQuery,
    client: Client,
    listener: Listener<EndpointChange>,
    key?: unknown,
  ): Subscription;
}

export class DestinationIndex extends ClusterRecords implements ClusterEndpoints {
  readonly #endpoints = new EndpointViews(this);
  readonly #profiles = new ProfileViews(this);
  readonly #dirtyServices = new Set<string>();
  readonly #dirtyProfiles = new Set<ProfileView>();
  readonly #schedule: (fn: () => void) => void;
  #scheduled = false;

  /** @param schedule runs the work that changes of one moment cause, once; a microtask by default. */
  constructor(mesh: MeshFacts, schedule: (fn: () => void) => void = queueMicrotask) {
    super(mesh);
    this.#schedule = schedule;
  }

  watchEndpoints(
    query: EndpointQuery,
    client: Client,
    listener: Listener<EndpointChange>,
    key?: unknown,
  ): Subscription {
    return this.#endpoints.watch(query, client, listener, key);
  }

  /** Tells what is asked for is now, then whenever that changes. */
  watchProfile(
    query: ProfileQuery,
    client: Client,
    listener: Listener<Profile>,
    key?: unknown,
  ): Subscription {
    return this.#profiles.watch(query, client, listener, key);
  }

  /** For metrics: how many views are watched. */
  get watched(): number {
    return this.#endpoints.size + this.#profiles.size;
  }

  /** Works off all changes so far. */
  flush(): void {
    this.#scheduled = false;
    const services = [...this.#dirtyServices];
    const profiles = [...this.#dirtyProfiles];
    this.#dirtyServices.clear();
    this.#dirtyProfiles.clear();
    for (const key of services) this.#endpoints.tell(key);
    for (const view of profiles) this.#profiles.tell(view);
  }

  // ---- what changes touch ----

  protected override touchService(key: string): void {
    if (this.#endpoints.has(key)) {
      this.#dirtyServices.add(key);
      this.#later();
    }
    this.#touchViews(this.#profiles.ofService(key));
  }

  protected override touchAddress(ip: string): void {
    this.#touchViews(this.#profiles.ofAddress(ip));
  }

  /** By whichever of its names it was asked for. */
  protected override touchProfile(key: string): void {
    this.#touchViews(this.#profiles.ofService(key));
    for (const ip of this.serviceOf(key)?.clusterIPs ?? []) this.touchAddress(ip);
  }

  protected override touchAllProfiles(): void {
    this.#touchViews(this.#profiles.all());
  }

  protected override regroup(key: string): void {
    this.#endpoints.regroup(key);
  }

  protected override regroupNode(name: string): void {
    this.#endpoints.regroupNode(name);
  }

  #touchViews(views: Iterable<ProfileView>): void {
    for (const view of views) {
      this.#dirtyProfiles.add(view);
      this.#later();
    }
  }

  #later(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => this.flush());
  }
}

// The rules that a mesh keeps at every step, whatever happens.
import type { MessageOf } from "../../src/api/codec.ts";
import { type OutboundPolicy, Watch as WatchOutbound } from "../../src/api/outbound.ts";
import type { PodRecord } from "../../src/controller/cluster-objects.ts";
import { isPod } from "../../src/controller/destination/address.ts";
import { API } from "./api-server.ts";
import { Authorization } from "./authorization.ts";
import { Identities } from "./identities.ts";
import { MAX_QUEUED } from "./network.ts";
import { textOf } from "./oracle.ts";
import type { Replica } from "./replica.ts";
import { EPOCH } from "./time.ts";
import type { Answer, World } from "./world.ts";

/** A replica tells of what it knows within this, ms: its pace, and a turn. */
const PACE = 100;
/** With identity in reach for this long, a proxy has a valid certificate, ms. */
const CERTIFYING = 45_000;

export class Invariants {
  readonly #world: World;
  readonly #authorization: Authorization;
  readonly #identities: Identities;
  /** Since when a replica's view and what it told disagree. */
  readonly #strays = new Map<string, number>();
  readonly #reachable = new Map<string, number>();

  constructor(world: World) {
    this.#world = world;
    this.#authorization = new Authorization(world);
    this.#identities = new Identities(world);
    world.api.onChange = (change) => {
      const { collection, type, object } = change;
      world.trace(`${type} ${collection} ${object.metadata.namespace ?? ""}/${object.metadata.name}`);
      this.#authorization.follow(change);
      this.#identities.follow(change);
    };
    world.onAnswer = (answer) => {
      this.#identities.hear(answer);
      this.#routes(answer);
    };
    world.onWrite = ({ machine, what }) => {
      if (what === "lease") return;
      const role = world.replicas.get(machine)?.role;
      for (const { replica } of this.#leaders())
        if (replica.name !== machine && replica.role === role)
          world.break("writes", `${machine} writes a ${what} while ${replica.name} leads`);
    };
  }

  check(): void {
    this.#addresses();
    this.#leadership();
    this.#authorization.check();
    this.#renewal();
    this.#bounds();
  }

  /** No replica goes on telling of an address that, as it knows itself, is not that pod's. */
  #addresses(): void {
    const { replicas, scheduler } = this.#world;
    for (const replica of replicas.values()) {
      if (!replica.destination) continue;
      const owners = new Map<string, PodRecord>();
      for (const { record } of replica.pods() as Iterable<{ record: PodRecord }>) {
        if (!record.live) continue;
        for (const ip of record.ips) {
          const other = owners.get(ip);
          if (!other || other.created < record.created) owners.set(ip, record);
        }
      }
      for (const probe of replica.probes)
        for (const [address, { ip, target }] of probe.told) {
          const key = `${replica.name} ${address} ${target?.uid}`;
          if (!target || !isPod(target) || owners.get(ip)?.uid === target.uid) {
            this.#strays.delete(key);
            continue;
          }
          const since = this.#strays.get(key) ?? scheduler.now;
          this.#strays.set(key, since);
          if (scheduler.now - since > PACE)
            this.#world.break(
              "addresses",
              `${replica.name} tells of ${address} as ${target.namespace}/${target.name}, and knows that it is ${owners.get(ip)?.name ?? "nobody"}'s`,
            );
        }
    }
  }

  #leaders(): { readonly replica: Replica; readonly lease: string }[] {
    return [...this.#world.replicas.values()].flatMap((replica) =>
      replica.elections
        .filter(({ election }) => election.isLeader)
        .map(({ name }) => ({ replica, lease: name })),
    );
  }

  #leadership(): void {
    const leaders = new Map<string, string>();
    for (const { replica, lease } of this.#leaders()) {
      const other = leaders.get(lease);
      if (other) this.#world.break("leadership", `${other} and ${replica.name} both lead ${lease}`);
      leaders.set(lease, replica.name);
    }
  }

  /** A Service's traffic goes by routes of its own namespace, or of the client's, and by nobody else's. */
  #routes({ proxy, method, message }: Answer): void {
    if (method !== WatchOutbound.path) return;
    const { metadata, protocol } = message as MessageOf<typeof OutboundPolicy>;
    const parent = metadata?.resource;
    if (!parent) return;
    const { detect, http1, http2, grpc, tls, opaque } = protocol ?? {};
    const protocols = [detect?.http1, detect?.http2, detect?.opaque, http1, http2, grpc, tls, opaque];
    const routes = protocols.flatMap((each) => (each?.routes ?? []).map((route) => route.metadata?.resource));
    for (const route of routes) {
      if (!route || [parent.namespace, proxy.pod.metadata.namespace].includes(route.namespace)) continue;
      this.#world.break(
        "routes",
        `${proxy.name} sends what is for ${textOf(parent)} by a route of neither, ${textOf(route)}`,
      );
    }
  }

  /** A proxy that could have had a valid certificate has one. */
  #renewal(): void {
    const { proxies, replicas, network, scheduler, authority, api } = this.#world;
    for (const proxy of proxies.values()) {
      const reachable =
        !api.down &&
        proxy.lag === 0 &&
        !proxy.deaf &&
        authority.usable(scheduler.now + 180_000) &&
        [...replicas.values()]
          .filter(({ role, leaving }) => role === "identity" && !leaving)
          .every(
            ({ name, ready, lag }) =>
              ready &&
              lag === 0 &&
              !network.isCut(name, API) &&
              !network.isCut(name, proxy.name) &&
              !api.failing.has(name),
          );
      if (!reachable) {
        this.#reachable.delete(proxy.name);
        continue;
      }
      const since = this.#reachable.get(proxy.name) ?? scheduler.now;
      this.#reachable.set(proxy.name, since);
      const expires = proxy.identity?.current?.expiresAt ?? 0;
      if (scheduler.now - since > CERTIFYING && expires <= EPOCH + scheduler.now)
        this.#world.break(
          "renewal",
          `${proxy.name} has no valid certificate, and could have one since ${since}`,
        );
    }
  }

  #bounds(): void {
    const { network, replicas } = this.#world;
    const beyond = (what: string) => this.#world.break("bounds", what);
    for (const socket of network.sockets)
      if (replicas.has(socket.machine.name) && socket.writableLength > MAX_QUEUED)
        beyond(`${socket.writableLength} bytes wait for ${socket.peer.machine.name}`);
    for (const { name, destination } of replicas.values()) {
      // Each path and address of the simulated cluster, for each namespace.
      if (destination && destination.index.watched > 100)
        beyond(`${name} has ${destination.index.watched} views`);
    }
  }
}

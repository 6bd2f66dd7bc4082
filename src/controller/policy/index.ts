// The policy index: for a port of a workload its Server, for an address or a Service's name its outbound policy, told to
// whoever watches them, and told again when they come to be others.
import type { NamespaceRecord, PodRecord, ServiceRecord } from "../cluster-objects.ts";
import { type InboundFacts, type ServerMessage, serverOf, type WorkloadRef } from "./inbound.ts";
import {
  type ClusterOutboundFacts,
  type OutboundMessage,
  type OutboundTarget,
  policyOf,
} from "./outbound.ts";
import { keyOf, PolicyStore } from "./store.ts";
import { type Dependent, Graph, Reading } from "./tables.ts";

export interface PolicyFacts extends InboundFacts, ClusterOutboundFacts {}

export type { ServerMessage } from "./inbound.ts";
export type { OutboundMessage, OutboundTarget } from "./outbound.ts";

/** A message that may be many views', with its text. */
interface Entry<T> {
  readonly text: string;
  readonly value: T;
  uses: number;
}

/** Equal messages as one, so that what goes to many is held, and encoded, once. */
class Shared<T> {
  readonly #byText = new Map<string, Entry<T>>();

  take(text: string, value: T): Entry<T> {
    let entry = this.#byText.get(text);
    if (!entry) {
      entry = { text, value, uses: 0 };
      this.#byText.set(text, entry);
    }
    entry.uses += 1;
    return entry;
  }

  drop(entry: Entry<T>): void {
    entry.uses -= 1;
    if (entry.uses === 0) this.#byText.delete(entry.text);
  }
}

/** Tells listeners the current value (undefined: there is none), then each other one. */
class View<T> implements Dependent {
  readonly listeners = new Set<(value: T | undefined) => void>();
  readonly #compute: (reading: Reading) => T | undefined;
  readonly #graph: Graph;
  readonly #shared: Shared<T>;
  readonly #reading = new Reading(this);
  readonly #recompute = () => this.refresh();
  #entry: Entry<T> | undefined;

  constructor(compute: (reading: Reading) => T | undefined, graph: Graph, shared: Shared<T>) {
    this.#compute = compute;
    this.#graph = graph;
    this.#shared = shared;
    this.refresh();
  }

  changed(): void {
    this.#graph.add(this.#recompute);
  }

  refresh(): void {
    this.#reading.forget();
    const value = this.#compute(this.#reading);
    const text = value === undefined ? undefined : textOf(value);
    const old = this.#entry;
    if (text === old?.text) return;
    this.#entry = text === undefined ? undefined : this.#shared.take(text, value!);
    if (old) this.#shared.drop(old);
    for (const listener of [...this.listeners]) listener(this.current);
  }

  get current(): T | undefined {
    return this.#entry?.value;
  }

  close(): void {
    this.#reading.forget();
    this.#graph.cancel(this.#recompute);
    if (this.#entry) this.#shared.drop(this.#entry);
    this.#entry = undefined;
  }
}

const textOf = (value: unknown): string =>
  JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? `${part}n` : part));

export class PolicyIndex {
  readonly store = new PolicyStore();
  readonly #facts: PolicyFacts;
  readonly #graph = new Graph();
  readonly #servers = new Map<string, View<ServerMessage>>();
  readonly #outbound = new Map<string, View<OutboundMessage>>();
  readonly #sharedServers = new Shared<ServerMessage>();
  readonly #sharedPolicies = new Shared<OutboundMessage>();

  constructor(facts: PolicyFacts) {
    this.#facts = facts;
  }

  /** Changes the store; then whoever is concerned is told. */
  change(edit: (store: PolicyStore) => void): void {
    edit(this.store);
    this.#graph.settle();
  }

  putPod(pod: PodRecord): void {
    this.change(({ pods }) => pods.put(keyOf(pod), pod));
  }

  removePod(namespace: string, name: string): void {
    this.change(({ pods }) => pods.remove(keyOf({ namespace, name })));
  }

  putService(service: ServiceRecord): void {
    this.change(({ services }) => services.put(keyOf(service), service));
  }

  removeService(namespace: string, name: string): void {
    this.change(({ services }) => services.remove(keyOf({ namespace, name })));
  }

  putNamespace(namespace: NamespaceRecord): void {
    this.change(({ namespaces }) => namespaces.put(namespace.name, namespace));
  }

  removeNamespace(name: string): void {
    this.change(({ namespaces }) => namespaces.remove(name));
  }

  /** How often something that is watched was made again because of a change. */
  get recomputed(): number {
    return this.#graph.recomputed;
  }

  /** How many different Servers and outbound policies are watched. */
  get watched(): { readonly servers: number; readonly policies: number } {
    return { servers: this.#servers.size, policies: this.#outbound.size };
  }

  /** Follows the Server of a workload's port; undefined while there is no such workload. Returns the way to stop. */
  watchServer(
    workload: WorkloadRef,
    port: number,
    listener: (server: ServerMessage | undefined) => void,
  ): () => void {
    return watch(
      this.#servers,
      `${workload.kind} ${keyOf(workload)} ${port}`,
      () =>
        new View<ServerMessage>(
          (reading) => serverOf(this.store, this.#facts, workload, port, reading),
          this.#graph,
          this.#sharedServers,
        ),
      listener,
    );
  }

  /**
   * Follows the outbound policy of a target for clients of a namespace; undefined while it is nobody's.
   * Returns the way to stop.
   */
  watchOutbound(
    target: OutboundTarget,
    client: string,
    listener: (policy: OutboundMessage | undefined) => void,
  ): () => void {
    const asked = target.kind === "address" ? target.ip : keyOf(target);
    return watch(
      this.#outbound,
      `${target.kind} ${asked} ${target.port} ${client}`,
      () =>
        new View<OutboundMessage>(
          (reading) => policyOf(this.store, this.#facts, target, client, reading),
          this.#graph,
          this.#sharedPolicies,
        ),
      listener,
    );
  }
}

function watch<T>(
  views: Map<string, View<T>>,
  key: string,
  create: () => View<T>,
  listener: (value: T | undefined) => void,
): () => void {
  const view = views.get(key) ?? create();
  views.set(key, view);
  view.listeners.add(listener);
  listener(view.current);
  return () => {
    if (!view.listeners.delete(listener) || view.listeners.size > 0) return;
    view.close();
    if (views.get(key) === view) views.delete(key);
  };
}

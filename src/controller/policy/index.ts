// The policy index: for a port of a workload its Server, for an address or a Service's name its outbound policy, told to
// whoever watches them, and told again when they come to be others.
import type { NamespaceRecord, PodRecord, ServiceRecord } from "../cluster-objects.ts";
import type { InboundFacts, WorkloadRef } from "./inbound.ts";
import { InboundViews } from "./inbound-views.ts";
import type { Followed, Listener } from "./listener.ts";
import type { ClusterOutboundFacts, OutboundTarget } from "./outbound.ts";
import { OutboundViews } from "./outbound-views.ts";
import { keyOf, PolicyStore } from "./store.ts";
import { Graph } from "./tables.ts";

export interface PolicyFacts extends InboundFacts, ClusterOutboundFacts {}

export type { Followed, Listener } from "./listener.ts";
export type { OutboundTarget } from "./outbound.ts";

export class PolicyIndex {
  readonly store = new PolicyStore();
  readonly #graph = new Graph();
  readonly #inbound: InboundViews;
  readonly #outbound: OutboundViews;
  readonly #schedule: (fn: () => void) => void;
  #scheduled = false;

  /** @param schedule runs the work that changes of one moment cause, once; at once by default */
  constructor(facts: PolicyFacts, schedule: (fn: () => void) => void = (fn) => fn()) {
    this.#inbound = new InboundViews(this.store, facts, this.#graph);
    this.#outbound = new OutboundViews(this.store, facts, this.#graph);
    this.#schedule = schedule;
  }

  /** Changes the store; then whoever is concerned is told. */
  change(edit: (store: PolicyStore) => void): void {
    edit(this.store);
    if (this.#scheduled || this.#graph.isSettled) return;
    this.#scheduled = true;
    this.#schedule(() => {
      this.#scheduled = false;
      this.#graph.settle();
    });
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

  /** How many ports are watched, by how many different rules, and how many outbound policies. */
  get watched(): { readonly ports: number; readonly servers: number; readonly policies: number } {
    const { ports, rules } = this.#inbound.size;
    return { ports, servers: rules, policies: this.#outbound.size };
  }

  /** Follows the Server of a workload's port; undefined while there is no such workload. */
  watchServer(workload: WorkloadRef, port: number, listener: Listener<WorkloadRef>): Followed<WorkloadRef> {
    this.#graph.settle();
    return this.#inbound.watch(workload, port, listener);
  }

  /** Follows the outbound policy of a target for clients of a namespace; undefined while it is nobody's. */
  watchOutbound(
    target: OutboundTarget,
    client: string,
    listener: Listener<OutboundTarget>,
  ): Followed<OutboundTarget> {
    this.#graph.settle();
    return this.#outbound.watch(target, client, listener);
  }
}

// Outbound policies as proxies watch them: a view for each target. Clients of nearly all namespaces are told the same, made
// and encoded once; those whose namespace has a say in it are told what is their own.
import { OutboundPolicy } from "../../api/outbound.ts";
import { type Followed, frameOf, type Listener, type MessageText, textOf } from "./listener.ts";
import { type ClusterOutboundFacts, consumersOf, type OutboundTarget, policyOf } from "./outbound.ts";
import { keyOf, type PolicyStore } from "./store.ts";
import { type Computed, type Dependent, type Graph, Reading } from "./tables.ts";

/** What clients are told now, made as they ask. */
class Answers {
  readonly #make: (client: string) => MessageText | undefined;
  readonly #isConsumer: (client: string) => boolean;
  /** By namespace; that of all others under none. */
  readonly #texts = new Map<string, MessageText | undefined>();

  constructor(make: (client: string) => MessageText | undefined, isConsumer: (client: string) => boolean) {
    this.#make = make;
    this.#isConsumer = isConsumer;
  }

  for(client: string): MessageText | undefined {
    const key = this.#isConsumer(client) ? client : "";
    const text = this.#texts.get(key);
    if (text !== undefined || this.#texts.has(key)) return text;
    const made = this.#make(key);
    this.#texts.set(key, made);
    return made;
  }
}

class TargetView implements Dependent, Computed, Followed<OutboundTarget> {
  readonly stage = 0;
  readonly key: string;
  readonly target: OutboundTarget;
  /** With the namespaces of the clients. */
  readonly #listeners = new Map<Listener<OutboundTarget>, string>();
  readonly #owner: OutboundViews;
  readonly #reading = new Reading(this);
  #answers: Answers;

  constructor(owner: OutboundViews, key: string, target: OutboundTarget) {
    this.#owner = owner;
    this.key = key;
    this.target = target;
    this.#answers = this.#read();
  }

  changed(): void {
    this.#owner.graph.add(this);
  }

  #read(): Answers {
    const { store, facts } = this.#owner;
    this.#reading.forget();
    return new Answers(
      (client) => textOf(OutboundPolicy, policyOf(store, facts, this.target, client, this.#reading)),
      consumersOf(store, this.target, this.#reading),
    );
  }

  refresh(): void {
    const before = this.#answers;
    const now = this.#read();
    this.#answers = now;
    // Nearly always one for all.
    let text: MessageText | undefined;
    let frame: Buffer | undefined;
    for (const [listener, client] of [...this.#listeners]) {
      // What one is told may be the end of another.
      if (!this.#listeners.has(listener)) continue;
      const told = now.for(client);
      if (told === before.for(client)) continue;
      if (told !== text) {
        text = told;
        frame = frameOf(told);
      }
      listener.update(frame, this.target);
    }
  }

  join(listener: Listener<OutboundTarget>, client: string): void {
    this.#listeners.set(listener, client);
    listener.update(frameOf(this.#answers.for(client)), this.target);
  }

  leave(listener: Listener<OutboundTarget>): void {
    if (!this.#listeners.delete(listener) || this.#listeners.size > 0) return;
    this.#reading.forget();
    this.#owner.graph.cancel(this);
    this.#owner.close(this);
  }
}

export class OutboundViews {
  readonly store: PolicyStore;
  readonly facts: ClusterOutboundFacts;
  readonly graph: Graph;
  readonly #views = new Map<string, TargetView>();

  constructor(store: PolicyStore, facts: ClusterOutboundFacts, graph: Graph) {
    this.store = store;
    this.facts = facts;
    this.graph = graph;
  }

  /** How many targets are watched. */
  get size(): number {
    return this.#views.size;
  }

  watch(
    target: OutboundTarget,
    client: string,
    listener: Listener<OutboundTarget>,
  ): Followed<OutboundTarget> {
    const asked = target.kind === "address" ? target.ip : keyOf(target);
    const key = `${target.kind} ${asked} ${target.port}`;
    let view = this.#views.get(key);
    if (!view) {
      view = new TargetView(this, key, target);
      this.#views.set(key, view);
    }
    view.join(listener, client);
    return view;
  }

  /** Nobody watches it any longer. */
  close(view: TargetView): void {
    if (this.#views.get(view.key) === view) this.#views.delete(view.key);
  }
}

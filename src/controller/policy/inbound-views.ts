// Inbound policies as proxies watch them: a view for each port of a workload, and behind it one for each rule, which the
// ports of many pods have in common: its message is made and encoded once for all of them.
//
//   pods, Servers … → PortView (workload, port) → which rule → RuleView (Server or default, probes) → message → listeners
import { Server } from "../../api/inbound.ts";
import { type InboundFacts, type PortRule, ruleOf, serverOf, type WorkloadRef } from "./inbound.ts";
import { type Followed, frameOf, type Listener, type MessageText, textOf } from "./listener.ts";
import { keyOf, type PolicyStore } from "./store.ts";
import { type Computed, type Dependent, type Graph, Reading } from "./tables.ts";

/** Ports know their rules before those are made. */
const STAGE = { port: 0, rule: 1 };

class RuleView implements Dependent, Computed {
  readonly stage = STAGE.rule;
  readonly key: string;
  readonly ports = new Set<PortView>();
  readonly #owner: InboundViews;
  readonly #rule: PortRule;
  readonly #reading = new Reading(this);
  text: MessageText | undefined;

  constructor(owner: InboundViews, key: string, rule: PortRule) {
    this.#owner = owner;
    this.key = key;
    this.#rule = rule;
    this.#compute();
  }

  changed(): void {
    this.#owner.graph.add(this);
  }

  refresh(): void {
    this.#compute();
    const frame = frameOf(this.text);
    for (const port of [...this.ports]) port.tell(this.text, frame);
  }

  #compute(): void {
    const { store, facts } = this.#owner;
    this.#reading.forget();
    this.text = textOf(Server, serverOf(store, facts, this.#rule, this.#reading));
  }

  close(): void {
    this.#reading.forget();
    this.#owner.graph.cancel(this);
  }
}

class PortView implements Dependent, Computed, Followed<WorkloadRef> {
  readonly stage = STAGE.port;
  readonly key: string;
  readonly #listeners = new Set<Listener<WorkloadRef>>();
  readonly #workload: WorkloadRef;
  readonly #port: number;
  readonly #owner: InboundViews;
  readonly #reading = new Reading(this);
  /** None while there is no such workload. */
  rule: RuleView | undefined;
  #told: MessageText | undefined;

  constructor(owner: InboundViews, key: string, workload: WorkloadRef, port: number) {
    this.#owner = owner;
    this.key = key;
    this.#workload = workload;
    this.#port = port;
    this.#follow();
    this.#told = this.rule?.text;
  }

  changed(): void {
    this.#owner.graph.add(this);
  }

  refresh(): void {
    this.#follow();
    const { rule } = this;
    // A rule that is out of date tells its ports when it is made again.
    if (!rule || !this.#owner.graph.has(rule)) this.tell(rule?.text, frameOf(rule?.text));
  }

  #follow(): void {
    const { store, facts } = this.#owner;
    this.#reading.forget();
    const rule = ruleOf(store, facts, this.#workload, this.#port, this.#reading);
    this.#owner.attach(this, rule);
  }

  /** @param text what is to be known now, and the same as it is sent */
  tell(text: MessageText | undefined, frame: Buffer | undefined): void {
    if (text === this.#told) return;
    this.#told = text;
    for (const listener of [...this.#listeners]) listener.update(frame, this.#workload);
  }

  join(listener: Listener<WorkloadRef>): void {
    this.#listeners.add(listener);
    listener.update(frameOf(this.#told), this.#workload);
  }

  leave(listener: Listener<WorkloadRef>): void {
    if (!this.#listeners.delete(listener) || this.#listeners.size > 0) return;
    this.#reading.forget();
    this.#owner.graph.cancel(this);
    this.#owner.close(this);
  }
}

export class InboundViews {
  readonly store: PolicyStore;
  readonly facts: InboundFacts;
  readonly graph: Graph;
  readonly #ports = new Map<string, PortView>();
  readonly #rules = new Map<string, RuleView>();

  constructor(store: PolicyStore, facts: InboundFacts, graph: Graph) {
    this.store = store;
    this.facts = facts;
    this.graph = graph;
  }

  /** How many ports are watched, and how many different rules they have. */
  get size(): { readonly ports: number; readonly rules: number } {
    return { ports: this.#ports.size, rules: this.#rules.size };
  }

  watch(workload: WorkloadRef, port: number, listener: Listener<WorkloadRef>): Followed<WorkloadRef> {
    const key = `${workload.kind} ${keyOf(workload)} ${port}`;
    const view = this.#ports.get(key) ?? new PortView(this, key, workload, port);
    this.#ports.set(key, view);
    view.join(listener);
    return view;
  }

  /** Has a port follow another rule, or none. */
  attach(port: PortView, rule: PortRule | undefined): void {
    const old = port.rule;
    const key = rule && JSON.stringify(rule);
    if (key === old?.key) return;
    port.rule = key === undefined ? undefined : this.#rule(key, rule!);
    port.rule?.ports.add(port);
    if (old) this.#detach(port, old);
  }

  /** Nobody watches it any longer. */
  close(port: PortView): void {
    if (port.rule) this.#detach(port, port.rule);
    if (this.#ports.get(port.key) === port) this.#ports.delete(port.key);
  }

  #rule(key: string, rule: PortRule): RuleView {
    let view = this.#rules.get(key);
    if (!view) {
      view = new RuleView(this, key, rule);
      this.#rules.set(key, view);
    }
    return view;
  }

  #detach(port: PortView, rule: RuleView): void {
    rule.ports.delete(port);
    if (rule.ports.size > 0) return;
    rule.close();
    this.#rules.delete(rule.key);
  }
}

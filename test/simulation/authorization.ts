// The rule that no proxy's policy lets in anybody whom no state of the cluster let in since that which it was made from.

import type { ServerMessage } from "../../src/controller/policy/inbound.ts";
import type { KubeObject } from "../../src/kube/types.ts";
import { type Client, compileAuthorization } from "../../src/rules/authorization.ts";
import { compileServerRoutes } from "../../src/rules/server-routes.ts";
import type { Change } from "./api-server.ts";
import { COLLECTION, identityOf, PORT } from "./cluster.ts";
import { MAKING } from "./network.ts";
import { POLICY_KINDS, policyOf, textOf } from "./oracle.ts";
import type { VirtualProxy } from "./proxy.ts";
import type { World } from "./world.ts";

/** Those that decide whom a port lets in. */
const COLLECTIONS = [
  COLLECTION.namespaces,
  COLLECTION.pods,
  COLLECTION.servers,
  COLLECTION.serverAuthorizations,
  COLLECTION.policies,
  COLLECTION.meshTls,
  COLLECTION.networks,
  COLLECTION.routes,
  COLLECTION.grpcRoutes,
];
/** More mixtures of collections than this are not tried. */
const MAX_MIXTURES = 3_000;

/** Who might come, */
const CLIENTS: readonly Client[] = [
  { ip: "10.1.0.9", tls: false },
  { ip: "192.168.0.9", tls: false },
  { ip: "8.8.8.8", tls: false },
  ...["a web", "a db", "b web"].map((each) => {
    const [namespace, name] = each.split(" ") as [string, string];
    return { ip: "10.1.0.9", tls: true, identity: identityOf(namespace, name) };
  }),
];
/** and what for: a policy's decision about all of them is a set of bits. */
const PATHS = ["/", "/x"];

/** Whom a Server lets in for what: by itself, or by the route that takes the request. */
function admitted(server: ServerMessage): number {
  const { check } = compileAuthorization(server.authorizations);
  const routes = compileServerRoutes(server);
  let bits = 0;
  PATHS.forEach((path, row) => {
    const facts = { method: "GET", path, authority: "web", get: () => undefined };
    const match = routes.find(facts);
    CLIENTS.forEach((client, at) => {
      if (match && (check(client).allowed || routes.admits(match, client, facts).allowed))
        bits |= 1 << (row * CLIENTS.length + at);
    });
  });
  return bits;
}

const namesOf = (bits: number): string =>
  PATHS.flatMap((path, row) =>
    CLIENTS.filter((_, at) => bits & (1 << (row * CLIENTS.length + at))).map(
      ({ ip, identity }) => `${identity ?? ip} to ${path}`,
    ),
  ).join(", ");

interface Decision {
  readonly version: number;
  readonly bits: number;
}

export class Authorization {
  readonly #world: World;
  /** The policy of the cluster as the API server has it, and what each pod's port was open for since when. */
  readonly #policy = policyOf([]);
  readonly #decisions = new Map<string, Decision[]>();
  #version = 0;
  /** Words that were found to be no wider than the rules. */
  readonly #checked = new WeakSet<object>();
  /** What equal messages admit. */
  readonly #admitted = new WeakMap<object, number>();

  constructor(world: World) {
    this.#world = world;
    for (const collection of COLLECTIONS)
      for (const object of world.api.list(collection)) this.#apply(collection, object);
    this.#watchPods();
  }

  follow({ collection, type, object, version }: Change): void {
    if (!COLLECTIONS.includes(collection as never)) return;
    this.#version = version;
    if (type === "DELETED") this.#policy.delete({ ...object, ...POLICY_KINDS[collection] });
    else this.#apply(collection, object);
    if (collection === COLLECTION.pods) this.#watchPods();
  }

  check(): void {
    for (const proxy of this.#world.proxies.values()) this.#checkOne(proxy);
  }

  #checkOne(proxy: VirtualProxy): void {
    const { api } = this.#world;
    const word = proxy.serverWord;
    if (!word || this.#checked.has(word)) return;
    this.#checked.add(word);
    const bits = this.#admittedBy(word.server);
    const from = new Map(
      COLLECTIONS.map((each) => [each, api.knownBy(word.replica, each, word.madeAt - MAKING)] as const),
    );
    const since = Math.min(...from.values());
    const { namespace, name } = proxy.pod.metadata;
    const decisions = this.#decisions.get(`${namespace}/${name}`) ?? [];
    let allowed = 0;
    decisions.forEach((decision, at) => {
      const next = decisions[at + 1];
      if (!next || next.version > since) allowed |= decision.bits;
    });
    let wider = bits & ~allowed;
    if (wider !== 0) wider &= ~this.#mixed(proxy, from);
    if (wider === 0) return;
    this.#world.break(
      "authorization",
      `${proxy.name} admits ${namesOf(wider)} by ${textOf(word.server.labels)} of ${word.replica}, which no rule since version ${since} did`,
    );
  }

  #admittedBy(server: ServerMessage): number {
    let bits = this.#admitted.get(server);
    if (bits === undefined) {
      bits = admitted(server);
      this.#admitted.set(server, bits);
    }
    return bits;
  }

  /** Streams of different collections do not wait for each other: what any mixture of their states admits. */
  #mixed(proxy: VirtualProxy, from: ReadonlyMap<string, number>): number {
    const { api } = this.#world;
    const { namespace, name } = proxy.pod.metadata;
    type State = readonly (readonly [string, KubeObject])[];
    const choices: State[][] = [];
    let count = 1;
    for (const collection of COLLECTIONS) {
      const objects = new Map<string, KubeObject>();
      const states: State[] = [];
      const keep = () => states.push([...objects.values()].map((object) => [collection, object] as const));
      for (const { version, type, object } of api.changesOf(collection)) {
        // As it was when the replica knew it, and after each change since.
        if (version > from.get(collection)! && states.length === 0) keep();
        const key = `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
        if (type === "DELETED") objects.delete(key);
        else objects.set(key, object);
        if (version > from.get(collection)!) keep();
      }
      if (states.length === 0) keep();
      choices.push(states);
      count *= states.length;
    }
    // So long a silence is no news; there is nothing to be said about it.
    if (count > MAX_MIXTURES) return -1;
    let bits = 0;
    for (let at = 0; at < count; at += 1) {
      let rest = at;
      const objects = choices.flatMap((states) => {
        const state = states[rest % states.length]!;
        rest = Math.floor(rest / states.length);
        return state;
      });
      policyOf(objects).watchServer({ kind: "Pod", namespace: namespace!, name }, PORT, (server) => {
        if (server) bits |= admitted(server);
      })();
    }
    return bits;
  }

  #apply(collection: string, object: KubeObject): void {
    this.#policy.apply({ ...object, ...POLICY_KINDS[collection] });
  }

  /** Follows what the policy of the cluster says of each pod's port. */
  #watchPods(): void {
    for (const { metadata } of this.#world.cluster.pods()) {
      const key = `${metadata.namespace}/${metadata.name}`;
      if (this.#decisions.has(key)) continue;
      const known: Decision[] = [];
      this.#decisions.set(key, known);
      const pod = { kind: "Pod", namespace: metadata.namespace!, name: metadata.name } as const;
      this.#policy.watchServer(pod, PORT, (server) =>
        known.push({ version: this.#version, bits: server ? this.#admittedBy(server) : 0 }),
      );
    }
  }
}

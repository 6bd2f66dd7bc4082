// A simulated API server: collections with one sequence of versions, lists in pages, watches that lag, are cut and
// forget, writes against versions; reached by each machine over the simulated network as the real client's transport.
import type { InvolvedObject } from "../../src/controller/event-recorder.ts";
import type { Transport, TransportAnswer, TransportRequest } from "../../src/kube/transport.ts";
import type { KubeObject } from "../../src/kube/types.ts";
import type { Chance } from "../support/chance.ts";
import type { Machine, Network } from "./network.ts";
import { EPOCH, type Scheduler } from "./time.ts";

export const API = "api";
/** Objects of one page of a list, whatever more is asked for. */
const PAGE = 7;
const BOOKMARKS = 20_000;
/** Looked at again after this while a link is cut, ms. */
const AGAIN = 400;

export interface Change {
  readonly version: number;
  readonly collection: string;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: KubeObject;
  readonly at: number;
}

/** An event that one of the controllers recorded. */
export interface RecordedEvent {
  readonly involvedObject: InvolvedObject;
  readonly reason: string;
  readonly message: string;
}

/** A write by one of the controllers. */
export interface Write {
  readonly machine: string;
  readonly what: "status" | "slice" | "lease";
  readonly collection: string;
}

interface Refusal {
  readonly code: number;
  readonly message: string;
}

/** The body of an answer, fed as it comes. */
class Body implements TransportAnswer {
  readonly statusCode: number;
  readonly headers = { "content-type": "application/json" };
  readonly #chunks: Buffer[] = [];
  #end: { error: Error | undefined } | undefined;
  #wake: (() => void) | undefined;
  onDestroy: () => void = () => {};

  constructor(statusCode: number) {
    this.statusCode = statusCode;
  }

  push(text: string): void {
    this.#chunks.push(Buffer.from(text));
    this.#wake?.();
  }

  end(error?: Error): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  get ended(): boolean {
    return this.#end !== undefined;
  }

  destroy(): void {
    this.end();
    this.onDestroy();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    try {
      for (;;) {
        const chunk = this.#chunks.shift();
        if (chunk) yield chunk;
        else if (this.#end) {
          if (this.#end.error) throw this.#end.error;
          return;
        } else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      this.onDestroy();
    }
  }
}

interface Queued {
  readonly at: number;
  readonly line: string;
  readonly version: number;
}

interface Watching {
  readonly machine: Machine;
  readonly collection: string;
  readonly selector: ((object: KubeObject) => boolean) | undefined;
  readonly body: Body;
  readonly queue: Queued[];
  pumping: boolean;
  last: number;
}

/** The newest version of a collection that one machine had been told of at a time. */
interface Told {
  readonly at: number;
  readonly version: number;
}

const keyOf = ({ metadata }: KubeObject): string => `${metadata.namespace ?? ""}/${metadata.name}`;

export class SimulatedApiServer {
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;
  readonly #network: Network;
  readonly #collections = new Map<string, Map<string, KubeObject>>();
  readonly #watches = new Set<Watching>();
  readonly #snapshots = new Map<string, KubeObject[]>();
  readonly #changes = new Map<string, Change[]>();
  /** By `machine collection`, the newest last. */
  readonly #told = new Map<string, Told[]>();
  /** Collections of groups that are served now; those of the core always are. */
  readonly served = new Set<string>();
  readonly #knownGroups = new Map<string, { version: string; resource: string }[]>();
  #version = 1;
  #compacted = 0;
  #names = 0;
  /** Whose requests fail, and how often. */
  readonly failing = new Map<string, number>();
  /** Nobody reaches it. */
  down = false;
  readonly events: RecordedEvent[] = [];
  /** How often controllers asked for a change of something other than a Lease, granted or not. */
  asked = 0;
  onChange: (change: Change) => void = () => {};
  onWrite: (write: Write) => void = () => {};
  /** Whose token it is. */
  review: (token: string) => { username: string } | undefined = () => undefined;

  constructor(scheduler: Scheduler, chance: Chance, network: Network) {
    this.#scheduler = scheduler;
    this.#chance = chance;
    this.#network = network;
    this.#bookmark();
  }

  get version(): number {
    return this.#version;
  }

  /** All changes of a collection, the oldest first. */
  changesOf(collection: string): readonly Change[] {
    return this.#changes.get(collection) ?? [];
  }

  /** The last version at which a collection was as a machine knew it at a time: nothing before that counts for it. */
  knownBy(machine: string, collection: string, at: number): number {
    const version =
      this.#told.get(`${machine} ${collection}`)?.findLast((each) => each.at <= at)?.version ?? 0;
    const next = this.changesOf(collection).find((each) => each.version > version);
    return next ? next.version - 1 : Number.POSITIVE_INFINITY;
  }

  // ---- the cluster's side ----

  list<T extends KubeObject = KubeObject>(collection: string): T[] {
    return [...(this.#collections.get(collection)?.values() ?? [])] as T[];
  }

  get<T extends KubeObject = KubeObject>(collection: string, namespace: string, name: string): T | undefined {
    return this.#collections.get(collection)?.get(`${namespace}/${name}`) as T | undefined;
  }

  /** Creates or replaces. @returns as it is kept */
  put(collection: string, object: KubeObject): KubeObject {
    const objects = this.#collections.get(collection) ?? new Map<string, KubeObject>();
    this.#collections.set(collection, objects);
    const old = objects.get(keyOf(object));
    const uid =
      old && (object.metadata.uid ?? old.metadata.uid) === old.metadata.uid
        ? old.metadata.uid
        : object.metadata.uid;
    const kept = {
      ...object,
      metadata: {
        ...object.metadata,
        uid: uid ?? `uid-${++this.#names}`,
        creationTimestamp:
          object.metadata.creationTimestamp ??
          old?.metadata.creationTimestamp ??
          `${new Date(EPOCH + this.#scheduler.now).toISOString().slice(0, 19)}Z`,
        resourceVersion: String(++this.#version),
      },
    } as KubeObject;
    objects.set(keyOf(kept), kept);
    this.#commit(collection, old ? "MODIFIED" : "ADDED", kept);
    return kept;
  }

  delete(collection: string, namespace: string, name: string): void {
    const objects = this.#collections.get(collection);
    const old = objects?.get(`${namespace}/${name}`);
    if (!old) return;
    objects!.delete(`${namespace}/${name}`);
    const last = { ...old, metadata: { ...old.metadata, resourceVersion: String(++this.#version) } };
    this.#commit(collection, "DELETED", last as KubeObject);
  }

  /** Defines a kind; it is served from then on until `withdraw`. */
  serve(collection: string): void {
    this.served.add(collection);
    const [, , group, version, resource] = collection.split("/");
    const known = this.#knownGroups.get(group!) ?? [];
    if (!known.some((each) => each.resource === resource))
      known.push({ version: version!, resource: resource! });
    this.#knownGroups.set(group!, known);
  }

  /** Its objects go with the definition. */
  withdraw(collection: string): void {
    for (const { metadata } of this.list(collection))
      this.delete(collection, metadata.namespace ?? "", metadata.name);
    this.served.delete(collection);
    const [, , group, , resource] = collection.split("/");
    this.#knownGroups.set(
      group!,
      this.#knownGroups.get(group!)!.filter((each) => each.resource !== resource),
    );
    for (const watch of [...this.#watches]) if (watch.collection === collection) watch.body.end();
  }

  #commit(collection: string, type: Change["type"], object: KubeObject): void {
    const change = { version: this.#version, collection, type, object, at: this.#scheduler.now };
    const changes = this.#changes.get(collection) ?? [];
    this.#changes.set(collection, changes);
    changes.push(change);
    this.onChange(change);
    for (const watch of this.#watches) {
      if (watch.collection !== collection || (watch.selector && !watch.selector(object))) continue;
      this.#queue(watch, type, object, this.#version);
      // What is told twice changes nothing.
      if (this.#chance.happens(0.05)) this.#queue(watch, type, object, this.#version);
    }
  }

  // ---- watches ----

  #queue(watch: Watching, type: string, object: object, version: number): void {
    watch.last = Math.max(watch.last, this.#scheduler.now + this.#network.latency(watch.machine));
    watch.queue.push({ at: watch.last, line: `${JSON.stringify({ type, object })}\n`, version });
    this.#pump(watch);
  }

  #pump(watch: Watching): void {
    const [next] = watch.queue;
    if (watch.pumping || !next) return;
    watch.pumping = true;
    const deliver = () => {
      watch.pumping = false;
      if (watch.body.ended) return;
      if (this.down || this.#network.isCut(watch.machine.name, API)) {
        watch.pumping = true;
        this.#scheduler.after(AGAIN, deliver);
        return;
      }
      watch.queue.shift();
      watch.body.push(next.line);
      this.#tell(watch.machine.name, watch.collection, next.version);
      this.#pump(watch);
    };
    this.#scheduler.at(next.at, deliver);
  }

  #tell(machine: string, collection: string, version: number): void {
    const key = `${machine} ${collection}`;
    const told = this.#told.get(key) ?? [];
    this.#told.set(key, told);
    told.push({ at: this.#scheduler.now, version: Math.max(version, told.at(-1)?.version ?? 0) });
  }

  #bookmark(): void {
    this.#scheduler.after(BOOKMARKS, () => {
      for (const watch of this.#watches)
        this.#queue(
          watch,
          "BOOKMARK",
          { metadata: { resourceVersion: String(this.#version) } },
          this.#version,
        );
      this.#bookmark();
    });
  }

  /** Versions before now are forgotten: who comes with one must list again. */
  compact(): void {
    this.#compacted = this.#version;
    this.#snapshots.clear();
  }

  /** Ends watches. @param how cleanly, as if the connection broke, or with the error that they are too old */
  endWatches(machines: readonly string[], how: "end" | "break" | "gone"): void {
    for (const watch of [...this.#watches]) {
      if (!machines.includes(watch.machine.name)) continue;
      if (how === "gone")
        watch.body.push(
          `${JSON.stringify({ type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" } })}\n`,
        );
      watch.body.end(how === "break" ? new Error("ECONNRESET") : undefined);
    }
  }

  /** It is away for a while: all connections break. What came before its return it may have forgotten. */
  restart(ms: number, forgets: boolean): void {
    this.down = true;
    for (const watch of [...this.#watches]) watch.body.end(new Error("ECONNRESET"));
    this.#scheduler.after(ms, () => {
      this.down = false;
      if (forgets) this.compact();
    });
  }

  get watches(): number {
    return this.#watches.size;
  }

  // ---- requests ----

  /** How one machine reaches it. */
  transport(machine: Machine): Transport {
    return {
      send: (url, request) => this.#send(machine, url, request),
      close: () => {},
    };
  }

  #send(machine: Machine, url: URL, request: TransportRequest): Promise<TransportAnswer> {
    return new Promise((resolve, reject) => {
      const { signal } = request;
      let over = false;
      const give = (settle: () => void) => {
        if (over) return;
        over = true;
        signal.removeEventListener("abort", onAbort);
        settle();
      };
      // What has not arrived by then never will: the connection is closed with it.
      const onAbort = () => give(() => reject(signal.reason));
      if (signal.aborted) {
        onAbort();
        return;
      }
      signal.addEventListener("abort", onAbort);
      const crossing = (next: () => void) => {
        const cross = () => {
          if (over || !machine.clock.running) return;
          if (this.down) {
            give(() => reject(new Error("connect ECONNREFUSED api")));
            return;
          }
          if (this.#network.isCut(machine.name, API)) this.#scheduler.after(AGAIN, cross);
          else next();
        };
        this.#scheduler.after(this.#network.latency(machine), cross);
      };
      crossing(() => {
        if (this.#chance.happens(this.failing.get(machine.name) ?? 0)) {
          const broken = this.#chance.happens(0.5);
          const body = answer(this.#chance.of([429, 500, 503]), { message: "the API server is busy" });
          crossing(() => give(() => (broken ? reject(new Error("ECONNRESET")) : resolve(body))));
          return;
        }
        const body = this.#handle(machine, url, request);
        const release = () => signal.removeEventListener("abort", onBodyAbort);
        const onBodyAbort = () => {
          body.end(signal.reason instanceof Error ? signal.reason : new Error("aborted"));
          body.onDestroy();
        };
        crossing(() =>
          give(() => {
            signal.addEventListener("abort", onBodyAbort);
            const { onDestroy } = body;
            body.onDestroy = () => {
              release();
              onDestroy();
            };
            const collection = this.#collectionOf(url.pathname);
            if (request.method === "GET" && collection && url.searchParams.get("watch") === null)
              this.#tell(machine.name, collection, Number(url.searchParams.get("simulated-version") ?? 0));
            resolve(body);
          }),
        );
      });
    });
  }

  #collectionOf(path: string): string | undefined {
    if (path.startsWith("/api/v1/")) return path.split("/").length === 4 ? path : undefined;
    return path.split("/").length === 5 ? path : undefined;
  }

  #handle(machine: Machine, url: URL, { method, body }: TransportRequest): Body {
    const parts = url.pathname.split("/").slice(1).map(decodeURIComponent);
    const object = body && (JSON.parse(body.toString()) as KubeObject);
    if (url.pathname.endsWith("/tokenreviews")) return this.#review(object as never);
    if (url.pathname.endsWith("/events")) {
      this.events.push(object as unknown as RecordedEvent);
      return answer(201, {});
    }
    if (parts[0] === "apis" && parts.length <= 3) return this.#discovery(parts[1]!, parts[2]);
    const head = parts.splice(0, parts[0] === "api" ? 2 : 3);
    const namespace = parts[0] === "namespaces" && parts.length > 2 ? parts.splice(0, 2)[1]! : "";
    const [resource, name, subresource] = parts;
    const collection = `/${head.join("/")}/${resource}`;
    if (head.length === 3 && !head[1]!.endsWith(".k8s.io") && !this.served.has(collection))
      return refused({ code: 404, message: "the server could not find the requested resource" });
    if (method === "GET" && name === undefined) {
      const { searchParams } = url;
      return searchParams.get("watch")
        ? this.#watch(machine, collection, searchParams)
        : this.#page(collection, url);
    }
    return this.#single(machine, { method, collection, namespace, name, subresource, object });
  }

  #review({ spec }: { spec: { token: string; audiences: string[] } }): Body {
    const user = this.review(spec.token);
    return answer(201, {
      status: user
        ? { authenticated: true, user, audiences: spec.audiences }
        : { authenticated: false, error: "no" },
    });
  }

  #discovery(group: string, version: string | undefined): Body {
    const known = this.#knownGroups.get(group) ?? [];
    if (known.length === 0) return refused({ code: 404, message: `no group ${group}` });
    if (version === undefined)
      return answer(200, {
        versions: [...new Set(known.map((each) => each.version))].map((each) => ({ version: each })),
      });
    return answer(200, {
      resources: known.filter((each) => each.version === version).map(({ resource }) => ({ name: resource })),
    });
  }

  #page(collection: string, url: URL): Body {
    const { searchParams } = url;
    const token = searchParams.get("continue");
    const [id, from, version] = token?.split(":") ?? [`s${++this.#names}`, "0", String(this.#version)];
    const selector = selectorOf(searchParams.get("labelSelector"));
    const items =
      this.#snapshots.get(id!) ??
      (token ? undefined : this.list(collection).filter(selector ?? (() => true)));
    if (!items) return refused({ code: 410, message: "the continue token has expired" });
    this.#snapshots.set(id!, items);
    const start = Number(from);
    const more = start + PAGE < items.length;
    if (!more) this.#snapshots.delete(id!);
    url.searchParams.set("simulated-version", more ? "0" : version!);
    return answer(200, {
      metadata: {
        resourceVersion: version,
        ...(more ? { continue: `${id}:${start + PAGE}:${version}` } : {}),
      },
      items: items.slice(start, start + PAGE),
    });
  }

  #watch(machine: Machine, collection: string, query: URLSearchParams): Body {
    const from = Number(query.get("resourceVersion"));
    if (from < this.#compacted) return refused({ code: 410, message: "too old resource version" });
    const body = new Body(200);
    const selector = selectorOf(query.get("labelSelector"));
    const watch: Watching = { machine, collection, selector, body, queue: [], pumping: false, last: 0 };
    this.#watches.add(watch);
    body.onDestroy = () => this.#watches.delete(watch);
    for (const { version, type, object } of this.changesOf(collection))
      if (version > from && (!selector || selector(object))) this.#queue(watch, type, object, version);
    const seconds = Number(query.get("timeoutSeconds") ?? 300);
    this.#scheduler.after(seconds * 1_000, () => body.end());
    return body;
  }

  #single(
    machine: Machine,
    request: {
      readonly method: string;
      readonly collection: string;
      readonly namespace: string;
      readonly name: string | undefined;
      readonly subresource: string | undefined;
      readonly object: KubeObject | undefined;
    },
  ): Body {
    const { method, collection, namespace, name, subresource, object } = request;
    const what = subresource === "status" ? "status" : collection.endsWith("/leases") ? "lease" : "slice";
    const written = () => this.onWrite({ machine: machine.name, what, collection });
    if (method !== "GET" && what !== "lease") this.asked += 1;
    if (method === "POST") {
      const { generateName, ...metadata } = object!.metadata as KubeObject["metadata"] & {
        generateName?: string;
      };
      const named = generateName === undefined ? metadata.name : `${generateName}${++this.#names}`;
      if (this.get(collection, namespace, named)) return refused({ code: 409, message: "already exists" });
      written();
      return answer(
        201,
        this.put(collection, { ...object!, metadata: { ...metadata, name: named, namespace } }),
      );
    }
    const old = this.get(collection, namespace, name!);
    if (!old) return refused({ code: 404, message: `${name} not found` });
    if (method === "GET") return answer(200, old);
    if (method === "DELETE") {
      written();
      this.delete(collection, namespace, name!);
      return answer(200, {});
    }
    const { resourceVersion } = object!.metadata;
    if (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion)
      return refused({ code: 409, message: "the object has been modified" });
    written();
    if (method === "PUT") return answer(200, this.put(collection, object!));
    const { status } = object as unknown as { status?: object };
    return answer(
      200,
      this.put(collection, {
        ...old,
        status: { ...(old as { status?: object }).status, ...status },
      } as KubeObject),
    );
  }
}

function answer(code: number, value: object): Body {
  const body = new Body(code);
  body.push(JSON.stringify(value));
  body.end();
  return body;
}

const refused = ({ code, message }: Refusal): Body => answer(code, { kind: "Status", code, message });

function selectorOf(text: string | null): ((object: KubeObject) => boolean) | undefined {
  if (!text) return undefined;
  const [key, value] = text.split("=");
  return ({ metadata }) => metadata.labels?.[key!] === value;
}

// Keeps a local copy of one collection: list, then watch; bookmarks, back-off with jitter, and a fresh list
// (with deletions worked out) when the server no longer knows our version.
import { Backoff } from "../util/backoff.ts";
import { type Clock, systemClock } from "../util/clock.ts";
import type { KubeClient, Query } from "./client.ts";
import { isGone, KubeApiError } from "./error.ts";
import type { KubeObject, ObjectMeta } from "./types.ts";

export interface ReflectorHandler<T> {
  added?(object: T): void;
  updated?(object: T, old: T): void;
  deleted?(object: T): void;
  /** After a list: everything that was told before it is now in order. */
  synced?(): void;
}

export interface ReflectorOptions<T extends KubeObject> {
  /** Collection path, e.g. `/api/v1/pods`. */
  readonly path: string;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Keeps only what is needed of each object, to save memory; of what was kept of it before, all that is the same. */
  readonly transform?: (object: T, old: T | undefined) => T;
  readonly clock?: Clock;
  /** Told of each failure; the reflector goes on by itself. */
  readonly onError?: (error: unknown) => void;
  /** Asks the server to end the watch after this long, s. Default 5 to 10 min, by chance. */
  readonly timeoutSeconds?: number;
}

/** The least that `transform` must keep of an object's metadata. */
export function essentialMetadata({ metadata }: KubeObject): ObjectMeta {
  const { name, namespace, uid, resourceVersion } = metadata;
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
}

/** `namespace/name`, or the name alone for cluster-scoped objects. */
export const keyOf = (object: KubeObject): string =>
  object.metadata.namespace === undefined
    ? object.metadata.name
    : `${object.metadata.namespace}/${object.metadata.name}`;

/** What a reflector has done since its start. */
export interface ReflectorStats {
  lists: number;
  watches: number;
  /** Changes that watches brought. */
  events: number;
  errors: number;
  /** When the server was last heard: a list, an event, a bookmark (monotonic, ms); undefined before the first. */
  heardAt: number | undefined;
}

/** A watch that brings nothing for this long is made again, ms: servers send a bookmark every minute or so. */
const IDLE = 150_000;
/**
 * Between two tries, ms, without the jitter that is up to as much again: of a server that answers that it cannot (429,
 * 5xx); of one that is not reached, which costs it nothing; of lists while each watch is answered by 410. Kubernetes' own
 * reflectors wait 0.8 to 30 s for all three. In a mesh, requests go to pods that have left for as long, and an application
 * that is rolled out meanwhile may have none left of those that are known.
 */
const WAITS = {
  busy: { min: 800, max: 5_000, jitter: 1 },
  away: { min: 200, max: 1_000, jitter: 1 },
  anew: { min: 200, max: 30_000, jitter: 1 },
};
/** A watch that ended sooner is followed by a wait, ms. */
const SHORT_WATCH = 1_000;

export class Reflector<T extends KubeObject = KubeObject> {
  /** Resolves after the first complete list. */
  readonly synced: Promise<void>;
  readonly #client: KubeClient;
  readonly #options: ReflectorOptions<T>;
  readonly #clock: Clock;
  readonly #handlers: ReflectorHandler<T>[] = [];
  readonly #abort = new AbortController();
  #objects = new Map<string, T>();
  #resolveSynced: () => void = () => {};
  #isSynced = false;
  readonly stats: ReflectorStats = { lists: 0, watches: 0, events: 0, errors: 0, heardAt: undefined };
  #running = false;

  constructor(client: KubeClient, options: ReflectorOptions<T>) {
    this.#client = client;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.synced = new Promise((resolve) => {
      this.#resolveSynced = resolve;
    });
  }

  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** Handlers are called in order of registration; those added later are told what is already known. */
  on(handler: ReflectorHandler<T>): void {
    this.#handlers.push(handler);
    for (const object of this.#objects.values()) handler.added?.(object);
    if (this.#isSynced) handler.synced?.();
  }

  get(namespace: string | undefined, name: string): T | undefined {
    return this.#objects.get(namespace === undefined ? name : `${namespace}/${name}`);
  }

  list(): IterableIterator<T> {
    return this.#objects.values();
  }

  get size(): number {
    return this.#objects.size;
  }

  start(): this {
    if (!this.#running) {
      this.#running = true;
      void this.#run();
    }
    return this;
  }

  stop(): void {
    this.#abort.abort();
  }

  get isStopped(): boolean {
    return this.#abort.signal.aborted;
  }

  async #run(): Promise<void> {
    const { random } = this.#clock;
    // Each of its own: a server that comes back and has forgotten the past is not one that is away, and is asked soon.
    const busy = new Backoff(WAITS.busy, random);
    const away = new Backoff(WAITS.away, random);
    const anew = new Backoff(WAITS.anew, random);
    let version: string | undefined;
    while (!this.#abort.signal.aborted) {
      try {
        version ??= await this.#list();
        const began = this.#clock.monotonic();
        this.stats.watches += 1;
        for await (const event of this.#watch(version)) {
          for (const backoff of [busy, away, anew]) backoff.reset();
          this.stats.heardAt = this.#clock.monotonic();
          version = event.object.metadata.resourceVersion ?? version;
          this.#take(event.type, event.object);
        }
        // A server that ends every watch at once must not be asked in a tight loop.
        if (this.#clock.monotonic() - began < SHORT_WATCH) await this.#wait(busy.next());
      } catch (error) {
        if (this.#abort.signal.aborted) return;
        if (forgets(error)) version = undefined;
        if (isGone(error)) {
          await this.#wait(anew.next());
          continue;
        }
        this.stats.errors += 1;
        this.#options.onError?.(error);
        await this.#wait((error instanceof KubeApiError ? busy : away).next());
      }
    }
  }

  #query(): Query {
    return { labelSelector: this.#options.labelSelector, fieldSelector: this.#options.fieldSelector };
  }

  #watch(version: string) {
    const timeoutSeconds = this.#options.timeoutSeconds ?? Math.round(300 * (1 + this.#clock.random()));
    return this.#client.watch<T>(this.#options.path, {
      query: { ...this.#query(), resourceVersion: version, timeoutSeconds },
      idleTimeout: IDLE,
      signal: this.#abort.signal,
    });
  }

  async #list(): Promise<string> {
    const fresh = new Set<string>();
    const changed = new Map<string, T>();
    let version = "0";
    const take = () => {
      for (const [key, kept] of changed) this.#keep(key, kept);
      changed.clear();
    };
    // Page by page: a large collection whole would be many times what is kept of it.
    for await (const page of this.#client.pages<T>(this.#options.path, this.#query(), this.#abort.signal)) {
      for (const object of page.items) {
        const key = keyOf(object);
        fresh.add(key);
        const kept = this.#kept(key, object);
        if (kept) changed.set(key, kept);
      }
      // Later lists are taken whole, in one turn. Some pages of the new among the rest of the old are what the cluster
      // never was: a port whose old Server is changed and whose new one is on a later page would be open to everybody.
      if (!this.#isSynced) take();
      version = page.metadata.resourceVersion ?? version;
    }
    take();
    this.stats.lists += 1;
    this.stats.heardAt = this.#clock.monotonic();
    for (const [key, old] of this.#objects) {
      if (!fresh.has(key)) this.#remove(key, old);
    }
    this.#isSynced = true;
    for (const handler of this.#handlers) handler.synced?.();
    this.#resolveSynced();
    return version;
  }

  #take(type: string, object: T): void {
    if (type !== "BOOKMARK") this.stats.events += 1;
    if (type === "ADDED" || type === "MODIFIED") this.#put(object);
    else if (type === "DELETED") this.#remove(keyOf(object), object);
  }

  #put(object: T): void {
    const key = keyOf(object);
    const kept = this.#kept(key, object);
    if (kept) this.#keep(key, kept);
  }

  /** What to keep of it; undefined: this version of it is known. */
  #kept(key: string, object: T): T | undefined {
    const old = this.#objects.get(key);
    const version = object.metadata.resourceVersion;
    if (old && version !== undefined && old.metadata.resourceVersion === version) return undefined;
    return this.#options.transform?.(object, old) ?? object;
  }

  #keep(key: string, kept: T): void {
    const old = this.#objects.get(key);
    this.#objects.set(key, kept);
    if (old && old.metadata.uid !== kept.metadata.uid) {
      // Deleted and made again while we did not look: handlers must not take it for a change.
      for (const handler of this.#handlers) handler.deleted?.(old);
      for (const handler of this.#handlers) handler.added?.(kept);
    } else if (old) for (const handler of this.#handlers) handler.updated?.(kept, old);
    else for (const handler of this.#handlers) handler.added?.(kept);
  }

  #remove(key: string, object: T): void {
    const old = this.#objects.get(key) ?? object;
    if (this.#objects.delete(key)) for (const handler of this.#handlers) handler.deleted?.(old);
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.after(ms, done);
      const clock = this.#clock;
      const { signal } = this.#abort;
      function done() {
        clock.clear(timer);
        signal.removeEventListener("abort", done);
        resolve();
      }
      signal.addEventListener("abort", done, { once: true });
    });
  }
}

/**
 * Whether our version is worth nothing any more, so that all must be listed anew: the server says it is too old (410), or
 * one that it never gave (its data come from a backup), or takes it for no version at all. A server that is only busy or
 * away (429, 5xx, no connection) goes on from where it was.
 */
function forgets(error: unknown): boolean {
  if (!(error instanceof KubeApiError)) return false;
  if (error.status === 504) return /too large resource version/i.test(error.message);
  return error.status < 500 && error.status !== 429;
}

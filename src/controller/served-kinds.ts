// Follows kinds of objects whose definitions may come, change their versions and go while we run: what the API server
// serves is asked for again and again, and each kind is followed in the newest version that both sides know.
import type { KubeClient } from "../kube/client.ts";
import { isNotFound } from "../kube/error.ts";
import { resourcePath } from "../kube/path.ts";
import type { Reflector, ReflectorOptions } from "../kube/reflector.ts";
import type { KubeObject } from "../kube/types.ts";
import type { Logger } from "../log/logger.ts";
import type { Clock, Timer } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";

/** A kind, and what is kept of each of its objects. */
export interface ServedKind<K extends KubeObject = KubeObject> {
  readonly group: string;
  /** Plural, lower case. */
  readonly resource: string;
  /** Known versions, the preferred one first. */
  readonly versions: readonly string[];
  /** What is kept of an object. */
  keep(object: KubeObject, apiVersion: string): K;
  put(kept: K): void;
  remove(kept: K): void;
}

export interface ServedKindsOptions {
  readonly client: Pick<KubeClient, "get">;
  readonly kinds: readonly ServedKind[];
  /** Makes a reflector, not yet started. */
  reflector(options: ReflectorOptions<KubeObject>): Reflector<KubeObject>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Time between looks at what is served, ms. Default 10 s, and up to half as much more. */
  readonly interval?: number;
}

interface Following {
  readonly version: string;
  readonly reflector: Reflector<KubeObject>;
}

interface GroupDocument extends KubeObject {
  readonly versions?: readonly { readonly version: string }[];
}

interface ResourceDocument extends KubeObject {
  readonly resources?: readonly { readonly name: string }[];
}

export class ServedKinds {
  readonly #options: ServedKindsOptions;
  readonly #following = new Map<ServedKind, Following>();
  #known = false;
  #timer: Timer | undefined;
  #stopped = false;
  #resolveSynced: () => void = () => {};
  /** Resolves when what is served is known, and all its objects. */
  readonly synced: Promise<void>;

  constructor(options: ServedKindsOptions) {
    this.#options = options;
    this.synced = new Promise((resolve) => {
      this.#resolveSynced = resolve;
    });
  }

  /** Whether everything that is served is known. */
  get isSynced(): boolean {
    return this.#known && [...this.#following.values()].every(({ reflector }) => reflector.isSynced);
  }

  /** The version in which a kind is followed; undefined: it is not served. */
  versionOf(group: string, resource: string): string | undefined {
    for (const [kind, { version }] of this.#following)
      if (kind.group === group && kind.resource === resource) return version;
    return undefined;
  }

  start(): this {
    void this.#look();
    return this;
  }

  stop(): void {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
    for (const { reflector } of this.#following.values()) reflector.stop();
  }

  async #look(): Promise<void> {
    const { clock, log, kinds, interval = 10_000 } = this.#options;
    try {
      const groups = new Set(kinds.map(({ group }) => group));
      await Promise.all([...groups].map((group) => this.#lookAt(group)));
      this.#known = true;
      void Promise.all([...this.#following.values()].map(({ reflector }) => reflector.synced)).then(() =>
        this.#resolveSynced(),
      );
    } catch (error) {
      // What was known stays; it is asked again.
      log.warn("the API server did not say what it serves", { error: errorMessage(error) });
    }
    if (this.#stopped) return;
    const wait = this.#known ? interval * (1 + clock.random() / 2) : Math.min(interval, 1_000);
    this.#timer = clock.after(wait, () => void this.#look());
  }

  async #lookAt(group: string): Promise<void> {
    const kinds = this.#options.kinds.filter((kind) => kind.group === group);
    const served = await this.#served(group);
    const wanted = new Set(
      kinds.flatMap(({ versions }) => versions.filter((version) => served.includes(version))),
    );
    const resources = new Map<string, ReadonlySet<string>>();
    await Promise.all(
      [...wanted].map(async (version) => {
        const found = await this.#get<ResourceDocument>(`/apis/${group}/${version}`);
        resources.set(version, new Set(found?.resources?.map(({ name }) => name)));
      }),
    );
    if (this.#stopped) return;
    for (const kind of kinds) {
      const usable = kind.versions.filter((version) => resources.get(version)?.has(kind.resource));
      const current = this.#following.get(kind);
      // One that is served still is as good as another.
      if (current && usable.includes(current.version)) continue;
      if (current) this.#leave(kind, current);
      if (usable[0] !== undefined) this.#follow(kind, usable[0]);
    }
  }

  async #served(group: string): Promise<string[]> {
    const document = await this.#get<GroupDocument>(`/apis/${group}`);
    return document?.versions?.map(({ version }) => version) ?? [];
  }

  /** Undefined when there is no such thing. */
  async #get<T extends KubeObject>(path: string): Promise<T | undefined> {
    try {
      return await this.#options.client.get<T>(path);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  #follow(kind: ServedKind, version: string): void {
    const { log } = this.#options;
    const apiVersion = `${kind.group}/${version}`;
    const path = resourcePath({ apiVersion, resource: kind.resource });
    log.info("following", { path });
    const reflector = this.#options.reflector({
      path,
      transform: (object) => kind.keep(object, apiVersion),
    });
    reflector.on({
      added: (kept) => kind.put(kept),
      updated: (kept) => kind.put(kept),
      deleted: (kept) => kind.remove(kept),
    });
    this.#following.set(kind, { version, reflector });
    reflector.start();
  }

  #leave(kind: ServedKind, { version, reflector }: Following): void {
    this.#options.log.info("following no more: it is not served", {
      kind: `${kind.resource}.${kind.group}/${version}`,
    });
    reflector.stop();
    this.#following.delete(kind);
    for (const kept of [...reflector.list()]) kind.remove(kept);
  }
}

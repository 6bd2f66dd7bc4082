// Leader election by a Lease, by the rules of Kubernetes' own controllers (client-go): who holds the Lease renews it;
// the others take it once they have seen it unchanged for its whole duration, by their own clock, so that nobody's
// wall clock matters. A holder that cannot renew stops before others may begin.
//
//   holder   |renew …… renew ✗ ✗ ✗ ✗ ✗|stops (renewDeadline)
//   others   |          seen ………………………………………………|take (leaseDuration)
import type { Registry } from "../metrics/registry.ts";
import { type Clock, systemClock, type Timer } from "../util/clock.ts";
import { MeshError } from "../util/error.ts";
import type { KubeClient, WriteFence } from "./client.ts";
import { isConflict, isNotFound } from "./error.ts";
import { resourcePath } from "./path.ts";
import type { Lease } from "./types.ts";

export interface LeaderElectionOptions {
  readonly client: Pick<KubeClient, "request">;
  readonly namespace: string;
  /** Of the Lease, and the label `name` of the metrics. */
  readonly name: string;
  /** Who we are; different for each candidate. In a pod its name. */
  readonly identity: string;
  /** Of a Lease that we create. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Time after which others may take a Lease that is not renewed, ms (whole seconds). Default 15 s. */
  readonly leaseDuration?: number;
  /** Time without a renewal after which we stop leading, ms; below `leaseDuration`. Default 10 s. */
  readonly renewDeadline?: number;
  /** Time between attempts, ms. Default 2 s. */
  readonly retryPeriod?: number;
  readonly clock?: Clock;
  readonly registry?: Registry;
  /** Told of each failed attempt; the election goes on by itself. */
  readonly onError?: (error: unknown) => void;
}

/** A write was asked of a candidate that does not lead. */
export class NotLeaderError extends MeshError {
  constructor(name: string) {
    super(`this replica does not hold the Lease ${name}: another one writes`);
    this.name = "NotLeaderError";
  }
}

/** Candidates that wait spread out by up to this share of the retry period (client-go's factor). */
const JITTER = 1.2;
/** Time that writes under way, and then the release, may take when we stop, ms. */
const STOP_GRACE = 2_000;

/** The error of a write that was under way when the Lease was lost. */
const aborted = (name: string) => new MeshError(`the Lease ${name} was lost during a write`);

export class LeaderElection implements WriteFence {
  readonly #options: LeaderElectionOptions;
  readonly #clock: Clock;
  readonly #leaseDuration: number;
  readonly #renewDeadline: number;
  readonly #retryPeriod: number;
  readonly #path: string;
  readonly #listeners: ((leading: boolean) => void)[] = [];
  readonly #failures: { inc(): void } | undefined;
  readonly #changes: ((leading: boolean) => void) | undefined;
  /** The Lease as last seen, and when its spec was first seen so (monotonic). */
  #seen: Lease | undefined;
  #seenAt = 0;
  /** Leading is over at this time (monotonic) unless renewed. */
  #deadline = 0;
  #deadlineTimer: Timer | undefined;
  /** Of the present term; undefined when we do not lead. */
  #term: AbortController | undefined;
  #writes = 0;
  #onWritesDone: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;
  #wake: () => void = () => {};

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#leaseDuration = options.leaseDuration ?? 15_000;
    this.#renewDeadline = options.renewDeadline ?? 10_000;
    this.#retryPeriod = options.retryPeriod ?? 2_000;
    if (this.#renewDeadline >= this.#leaseDuration || this.#retryPeriod * JITTER >= this.#renewDeadline)
      throw new RangeError("expected retryPeriod × 1.2 < renewDeadline < leaseDuration");
    const { namespace, name, registry } = options;
    this.#path = resourcePath({
      apiVersion: "coordination.k8s.io/v1",
      resource: "leases",
      namespace,
    });
    const status = registry
      ?.gauge("leader_election_master_status", "1 when this replica holds the Lease, 0 when not.")
      .labels({ name });
    registry?.onCollect(() => status?.set(this.isLeader ? 1 : 0));
    this.#failures = registry
      ?.counter("leader_election_failures_total", "Attempts to take or renew the Lease that failed.")
      .labels({ name });
    const changes = registry?.counter(
      "leader_election_changes_total",
      "Times this replica began (leading=true) and ceased (leading=false) to hold the Lease.",
    );
    this.#changes = changes && ((leading) => changes.labels({ name, leading: String(leading) }).inc());
  }

  /** Whether we lead at this moment: a renewal that is overdue counts as lost even before a timer says so. */
  get isLeader(): boolean {
    if (this.#term && this.#clock.monotonic() >= this.#deadline) this.#lose();
    return this.#term !== undefined;
  }

  /** Identity of whom the Lease named when it was last seen; undefined when nobody. */
  get holder(): string | undefined {
    return this.#seen?.spec?.holderIdentity || undefined;
  }

  /**
   * Told of each beginning and end of our leading, and at once if we lead now.
   * @returns stops it
   */
  onChange(fn: (leading: boolean) => void): () => void {
    // Its own function, so that one that is given twice can be taken back once.
    const listener = (leading: boolean) => fn(leading);
    this.#listeners.push(listener);
    if (this.isLeader) fn(true);
    return () => {
      const at = this.#listeners.indexOf(listener);
      if (at >= 0) this.#listeners.splice(at, 1);
    };
  }

  start(): this {
    this.#running ??= this.#run();
    return this;
  }

  /** Stops leading, lets writes under way end (2 s), and gives the Lease back so that another need not wait. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    const term = this.#term;
    this.#end();
    if (term) await this.#writesDone();
    term?.abort(aborted(this.#options.name));
    this.#wake();
    await this.#running;
    if (this.holder === this.#options.identity) {
      try {
        await this.#release();
      } catch (error) {
        // It will run out by itself.
        this.#failed(error);
      }
    }
  }

  begin(): AbortSignal {
    if (!this.isLeader) throw new NotLeaderError(this.#options.name);
    this.#writes += 1;
    return this.#term!.signal;
  }

  end(): void {
    this.#writes -= 1;
    if (this.#writes === 0) this.#onWritesDone?.();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.#attempt();
      } catch (error) {
        this.#failed(error);
      }
      if (this.#stopped) return;
      // One that leads keeps its pace; those that wait must not all come at once.
      const spread = this.isLeader ? 0 : JITTER * this.#clock.random();
      await this.#wait(this.#retryPeriod * (1 + spread));
    }
  }

  /** Takes or renews the Lease if it is ours to take. @throws KubeApiError, MeshError */
  async #attempt(): Promise<void> {
    let began = this.#clock.monotonic();
    // What we wrote last is the newest there is, as long as nobody else wrote: the answer to a write tells.
    let known = this.isLeader ? this.#seen : await this.#read();
    for (let tries = 0; tries < 2; tries += 1) {
      if (known && !this.#free(known)) {
        if (this.#term) this.#lose();
        return;
      }
      try {
        await this.#write(known, began);
        return;
      } catch (error) {
        if (!isConflict(error) && !isNotFound(error)) throw error;
        // Another one was quicker, or somebody edited or deleted the Lease.
        began = this.#clock.monotonic();
        known = await this.#read();
      }
    }
  }

  /** Ours, nobody's, or not renewed for its whole duration while we looked. */
  #free({ spec }: Lease): boolean {
    if (!spec?.holderIdentity || spec.holderIdentity === this.#options.identity) return true;
    const duration = (spec.leaseDurationSeconds ?? 0) * 1_000 || this.#leaseDuration;
    return this.#clock.monotonic() >= this.#seenAt + duration;
  }

  async #read(): Promise<Lease | undefined> {
    try {
      return this.#observe((await this.#request("GET", this.#options.name)) as Lease);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      this.#seen = undefined;
      return undefined;
    }
  }

  #observe(lease: Lease): Lease {
    // Only its spec: a label that somebody sets is no renewal.
    if (JSON.stringify(lease.spec) !== JSON.stringify(this.#seen?.spec))
      this.#seenAt = this.#clock.monotonic();
    this.#seen = lease;
    return lease;
  }

  /** @param began when the attempt began: others may count from then at the earliest */
  async #write(known: Lease | undefined, began: number): Promise<void> {
    const { name, namespace, identity, labels } = this.#options;
    const now = microTime(this.#clock.now());
    const ours = known?.spec?.holderIdentity === identity;
    const spec = {
      ...known?.spec,
      holderIdentity: identity,
      leaseDurationSeconds: Math.round(this.#leaseDuration / 1_000),
      acquireTime: ours ? (known.spec?.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: known ? (known.spec?.leaseTransitions ?? 0) + (ours ? 0 : 1) : 0,
    };
    const written = known
      ? await this.#request("PUT", name, { ...known, spec })
      : await this.#request("POST", undefined, {
          apiVersion: "coordination.k8s.io/v1",
          kind: "Lease",
          metadata: { name, namespace, ...(labels ? { labels } : {}) },
          spec,
        });
    this.#observe(written as Lease);
    this.#renewed(began);
  }

  #renewed(began: number): void {
    if (this.#stopped) return;
    const left = began + this.#renewDeadline - this.#clock.monotonic();
    // An answer that took so long is worth nothing: the Lease may be another's by now.
    if (left <= 0) return;
    this.#deadline = began + this.#renewDeadline;
    this.#clock.clear(this.#deadlineTimer);
    // Node's timers may come a fraction of a millisecond early.
    this.#deadlineTimer = this.#clock.after(left + 1, () => void this.isLeader);
    if (this.#term) return;
    this.#term = new AbortController();
    this.#tell(true);
  }

  #lose(): void {
    const term = this.#term;
    this.#end();
    term?.abort(aborted(this.#options.name));
  }

  #end(): void {
    this.#clock.clear(this.#deadlineTimer);
    if (!this.#term) return;
    this.#term = undefined;
    this.#tell(false);
  }

  #tell(leading: boolean): void {
    this.#changes?.(leading);
    for (const listener of [...this.#listeners]) listener(leading);
  }

  #failed(error: unknown): void {
    this.#failures?.inc();
    this.#options.onError?.(error);
  }

  async #release(): Promise<void> {
    const lease = (await this.#request("GET", this.#options.name, undefined, STOP_GRACE)) as Lease;
    if (lease.spec?.holderIdentity !== this.#options.identity) return;
    const { holderIdentity: _, ...rest } = lease.spec;
    const now = microTime(this.#clock.now());
    const spec = { ...rest, leaseDurationSeconds: 1, acquireTime: now, renewTime: now };
    await this.#request("PUT", this.#options.name, { ...lease, spec }, STOP_GRACE);
  }

  #request(method: string, name: string | undefined, body?: Lease, timeout = this.#renewDeadline / 2) {
    const path = name === undefined ? this.#path : `${this.#path}/${encodeURIComponent(name)}`;
    return this.#options.client.request(path, { method, timeout, ...(body ? { body } : {}) });
  }

  #writesDone(): Promise<void> {
    if (this.#writes === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.#clock.after(STOP_GRACE, resolve);
      this.#onWritesDone = () => {
        this.#clock.clear(timer);
        resolve();
      };
    });
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.after(ms, resolve);
      this.#wake = () => {
        this.#clock.clear(timer);
        resolve();
      };
    });
  }
}

/** `metav1.MicroTime`: real API servers take six digits and no others. */
const microTime = (ms: number): string => new Date(ms).toISOString().replace("Z", "000Z");

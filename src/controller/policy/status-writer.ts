// Writes what status.ts says, by one leader at a time: only what differs, at a bounded rate, against the version that
// was looked at, and nothing of what other controllers wrote.
import { KubeApiError } from "../../kube/error.ts";
import { resourcePath } from "../../kube/path.ts";
import type { Logger } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { InvolvedObject } from "../event-recorder.ts";
import { type StatusFacts, type StatusSubject, statusOf, type Warning, warningsOf } from "./status.ts";
import type { PolicyStore } from "./store.ts";
import { type Dependent, Reading } from "./tables.ts";

/** Who may write: one replica at a time. */
export interface Leadership {
  readonly isLeader: boolean;
  onChange(fn: (leading: boolean) => void): () => void;
}

export interface StatusWriterOptions extends StatusFacts {
  readonly store: PolicyStore;
  readonly leadership: Leadership;
  /** Merges `body` into the status of an object. @throws KubeApiError */
  patch(path: string, body: object): Promise<unknown>;
  /** Tells an object's author by an event. @returns whether it was written */
  tell(involved: InvolvedObject, type: "Warning", reason: string, message: string): Promise<boolean>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
}

/** Looks at objects are at least this far apart, ms: at most 50 a second. */
const PACE = 20;
/** One object is looked at again after this long at the earliest, ms; after a failure, too. */
const AGAIN = 1_000;

/** One object: dependent on all that its status was made from. */
class Watched implements Dependent {
  subject: StatusSubject;
  readonly reading = new Reading(this);
  /** Not looked at before, ms on the monotonic clock. */
  notBefore = 0;
  /** The version that was answered, until the watch brings the next one. */
  patchedVersion: string | undefined;
  /** What its author was told of it, by text. */
  readonly warned = new Set<string>();
  readonly #onChange: (watched: Watched) => void;

  constructor(subject: StatusSubject, onChange: (watched: Watched) => void) {
    this.subject = subject;
    this.#onChange = onChange;
  }

  changed(): void {
    this.#onChange(this);
  }
}

export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #watched = new Map<string, Watched>();
  readonly #due = new Set<Watched>();
  readonly #patches: (result: string) => void;
  #timer: Timer | undefined;
  #busy = false;
  #stopped = false;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    const patches = options.registry.counter(
      "policy_status_patches_total",
      "Patches of statuses, by their result.",
    );
    this.#patches = (result) => patches.labels({ result }).inc();
    const due = options.registry
      .gauge("policy_status_due", "Objects whose status is to be looked at.")
      .labels();
    options.registry.onCollect(() => due.set(this.#due.size));
    options.leadership.onChange((leading) => {
      if (leading) for (const watched of this.#watched.values()) this.#add(watched);
      else this.#rest();
    });
  }

  /** An object is there, or has changed. */
  put(subject: StatusSubject): void {
    const name = nameOf(subject);
    const known = this.#watched.get(name);
    if (known) known.subject = subject;
    const watched = known ?? new Watched(subject, (changed) => this.#add(changed));
    this.#watched.set(name, watched);
    this.#add(watched);
  }

  remove(subject: Pick<StatusSubject, "kind" | "key">): void {
    const name = nameOf(subject);
    const watched = this.#watched.get(name);
    watched?.reading.forget();
    if (watched) this.#due.delete(watched);
    this.#watched.delete(name);
  }

  stop(): void {
    this.#stopped = true;
    this.#rest();
  }

  /** Followers keep no account: the next leader looks at everything. */
  #rest(): void {
    this.#due.clear();
    this.#options.clock.clear(this.#timer);
    this.#timer = undefined;
    for (const { reading } of this.#watched.values()) reading.forget();
  }

  #add(watched: Watched): void {
    if (this.#stopped || !this.#options.leadership.isLeader) return;
    this.#due.add(watched);
    this.#schedule(PACE);
  }

  #schedule(ms: number): void {
    if (this.#timer || this.#busy || this.#due.size === 0) return;
    this.#timer = this.#options.clock.after(ms, () => {
      this.#timer = undefined;
      void this.#next();
    });
  }

  async #next(): Promise<void> {
    const now = this.#options.clock.monotonic();
    let soonest = Number.POSITIVE_INFINITY;
    for (const watched of this.#due) {
      if (watched.notBefore > now) {
        soonest = Math.min(soonest, watched.notBefore);
        continue;
      }
      this.#due.delete(watched);
      watched.notBefore = now + AGAIN;
      this.#busy = true;
      try {
        await this.#look(watched);
      } finally {
        this.#busy = false;
      }
      this.#schedule(PACE);
      return;
    }
    this.#schedule(Math.max(PACE, soonest - now));
  }

  async #look(watched: Watched): Promise<void> {
    const { store, clock } = this.#options;
    const { subject, reading } = watched;
    reading.forget();
    const now = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
    const status = statusOf(store, this.#options, subject, reading, now);
    this.#warn(watched);
    if (!status) return;
    // Its own patch is on the way back: what the object says by then is not known yet.
    if (watched.patchedVersion !== undefined && watched.patchedVersion === subject.resourceVersion) return;
    await this.#patch(watched, status);
  }

  #warn(watched: Watched): void {
    const { store } = this.#options;
    const { subject, reading, warned } = watched;
    const warnings = new Map(warningsOf(store, subject, reading).map((each) => [JSON.stringify(each), each]));
    for (const text of warned) if (!warnings.has(text)) warned.delete(text);
    for (const [text, warning] of warnings) if (!warned.has(text)) void this.#tell(watched, text, warning);
  }

  async #tell(watched: Watched, text: string, { reason, message }: Warning): Promise<void> {
    const { apiVersion, objectKind: kind, namespace, name, uid } = watched.subject;
    watched.warned.add(text);
    const told = await this.#options.tell(
      { apiVersion, kind, namespace, name, uid },
      "Warning",
      reason,
      message,
    );
    if (told || !this.#isWatched(watched)) return;
    // It is the only word that its author gets of it: told when it is looked at again.
    watched.warned.delete(text);
    this.#add(watched);
  }

  #isWatched(watched: Watched): boolean {
    return this.#watched.get(nameOf(watched.subject)) === watched;
  }

  async #patch(watched: Watched, status: object): Promise<void> {
    const { patch, log } = this.#options;
    const { subject } = watched;
    const { apiVersion, resource, namespace, name, resourceVersion } = subject;
    const path = resourcePath({ apiVersion, resource, namespace, name, subresource: "status" });
    try {
      await patch(path, { metadata: { resourceVersion }, status });
      watched.patchedVersion = resourceVersion;
      this.#patches("written");
    } catch (error) {
      const code = error instanceof KubeApiError ? error.status : 0;
      // Gone: its deletion is on the way. A conflict: its newer version is, and it is looked at again then.
      this.#patches(code === 409 ? "conflict" : code === 404 ? "gone" : "failed");
      // One that was replaced meanwhile by another of its name would be tried for ever: its version never comes back.
      if (code === 404 || !this.#isWatched(watched)) return;
      if (code !== 409)
        log.warn("a status was not written", {
          object: `${resource} ${namespace}/${name}`,
          error: errorMessage(error),
        });
      this.#add(watched);
    }
  }
}

const nameOf = ({ kind, key }: Pick<StatusSubject, "kind" | "key">): string => `${kind} ${key}`;

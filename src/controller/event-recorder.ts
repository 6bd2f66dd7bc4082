// Writes Kubernetes Events about what a controller did, without ever holding it up.
import type { KubeClient } from "../kube/client.ts";
import { resourcePath } from "../kube/path.ts";
import type { KubeObject } from "../kube/types.ts";
import type { Logger } from "../log/logger.ts";
import { type Clock, systemClock } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";

export interface InvolvedObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
  readonly uid?: string | undefined;
}

export interface EventRecorderOptions {
  /** Ask the API server for the uid of an object that comes without: `kubectl describe` finds its events by it. */
  readonly findUid?: boolean;
  /** The same about the same object is written once in this time, ms; absent: each time. */
  readonly repeatAfter?: number;
  readonly clock?: Clock;
}

/** Events that are remembered so as not to be repeated. */
const MAX_REMEMBERED = 2_000;
/** Most events that wait for the API server; further ones are dropped. */
const MAX_PENDING = 100;
/** Kubernetes' bound on an event's text. */
const MAX_MESSAGE = 1024;
const TIMEOUT = 5_000;

export class EventRecorder {
  readonly #client: KubeClient;
  readonly #component: string;
  readonly #log: Logger;
  readonly #findUid: boolean;
  readonly #clock: Clock;
  readonly #repeatAfter: number | undefined;
  /** When each was written last, the oldest first. */
  readonly #written = new Map<string, number>();
  #pending = 0;

  constructor(client: KubeClient, component: string, log: Logger, options: EventRecorderOptions = {}) {
    this.#client = client;
    this.#component = component;
    this.#log = log;
    this.#findUid = options.findUid ?? false;
    this.#repeatAfter = options.repeatAfter;
    this.#clock = options.clock ?? systemClock;
  }

  record(involved: InvolvedObject, type: "Normal" | "Warning", reason: string, message: string): void {
    void this.tell(involved, type, reason, message);
  }

  /** The same for whoever would tell it again. @returns whether it is written, now or not long before */
  async tell(
    involved: InvolvedObject,
    type: "Normal" | "Warning",
    reason: string,
    message: string,
  ): Promise<boolean> {
    if (this.#pending >= MAX_PENDING) return false;
    if (this.#isRepeated(involved, reason, message)) return true;
    this.#pending += 1;
    try {
      await this.#write(involved, type, reason, message);
      return true;
    } catch (error) {
      this.#log.debug("an event was not recorded", { reason, error: errorMessage(error) });
      return false;
    } finally {
      this.#pending -= 1;
    }
  }

  #isRepeated({ kind, namespace, name }: InvolvedObject, reason: string, message: string): boolean {
    if (this.#repeatAfter === undefined) return false;
    const key = JSON.stringify([kind, namespace, name, reason, message]);
    const now = this.#clock.monotonic();
    const last = this.#written.get(key);
    if (last !== undefined && now - last < this.#repeatAfter) return true;
    this.#written.delete(key);
    this.#written.set(key, now);
    if (this.#written.size > MAX_REMEMBERED) {
      const [oldest] = this.#written.keys();
      this.#written.delete(oldest!);
    }
    return false;
  }

  async #write(involved: InvolvedObject, type: string, reason: string, message: string): Promise<void> {
    const now = new Date(this.#clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
    // A pod that is being admitted has no uid yet.
    const findUid = this.#findUid && involved.kind !== "Pod";
    const uid = involved.uid ?? (findUid ? await this.#uidOf(involved) : undefined);
    const event = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { generateName: `${involved.name}.`.slice(0, 200), namespace: involved.namespace },
      involvedObject: { ...involved, ...(uid ? { uid } : {}) },
      type,
      reason,
      message: message.slice(0, MAX_MESSAGE),
      source: { component: this.#component },
      reportingComponent: this.#component,
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    const path = resourcePath({ apiVersion: "v1", resource: "events", namespace: involved.namespace });
    await this.#client.request(path, { method: "POST", body: event, timeout: TIMEOUT });
  }

  /** Undefined when it cannot be had: an event without is better than none. */
  async #uidOf(involved: InvolvedObject): Promise<string | undefined> {
    try {
      const found = (await this.#client.request(resourcePath(involved), { timeout: TIMEOUT })) as KubeObject;
      return found.metadata.uid;
    } catch {
      return undefined;
    }
  }
}

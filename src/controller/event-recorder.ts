// Writes Kubernetes Events about what a controller did, without ever holding it up.
import type { KubeClient } from "../kube/client.ts";
import type { Logger } from "../log/logger.ts";
import { errorMessage } from "../util/error.ts";

export interface InvolvedObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
  readonly uid?: string | undefined;
}

/** Most events that wait for the API server; further ones are dropped. */
const MAX_PENDING = 100;

export class EventRecorder {
  readonly #client: KubeClient;
  readonly #component: string;
  readonly #log: Logger;
  #pending = 0;

  constructor(client: KubeClient, component: string, log: Logger) {
    this.#client = client;
    this.#component = component;
    this.#log = log;
  }

  record(involved: InvolvedObject, type: "Normal" | "Warning", reason: string, message: string): void {
    if (this.#pending >= MAX_PENDING) return;
    this.#pending += 1;
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const event = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { generateName: `${involved.name}.`.slice(0, 200), namespace: involved.namespace },
      involvedObject: involved,
      type,
      reason,
      message,
      source: { component: this.#component },
      reportingComponent: this.#component,
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    this.#client
      .request(`/api/v1/namespaces/${involved.namespace}/events`, {
        method: "POST",
        body: event,
        timeout: 5_000,
      })
      .catch((error) => this.#log.debug("an event was not recorded", { reason, error: errorMessage(error) }))
      .finally(() => {
        this.#pending -= 1;
      });
  }
}

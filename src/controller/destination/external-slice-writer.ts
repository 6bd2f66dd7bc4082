// Keeps the EndpointSlices of ExternalWorkloads as they should be (external-slices.ts): one replica writes, the one that
// holds the Lease; the others know as much, and go on where it stops.
import type { KubeClient } from "../../kube/client.ts";
import { isConflict, isNotFound } from "../../kube/error.ts";
import type { EndpointSlice } from "../../kube/types.ts";
import type { Logger } from "../../log/logger.ts";
import { Backoff } from "../../util/backoff.ts";
import type { Clock } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { ServiceRecord } from "../cluster-objects.ts";
import { SERVICE_NAME_LABEL, selects, sliceChanges, wantsWorkloads } from "./external-slices.ts";
import type { WorkloadRecord } from "./external-workload.ts";

/** Whether we lead; src/kube/lease.ts has it. */
export interface Leadership {
  readonly isLeader: boolean;
  onChange(fn: (leading: boolean) => void): () => void;
}

export interface ExternalSliceWriterOptions {
  readonly leadership: Leadership;
  readonly client: Pick<KubeClient, "create" | "replace" | "delete">;
  readonly clock: Clock;
  readonly log: Logger;
}

const PATH = (namespace: string) => `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`;
const keyOf = (namespace: string, name: string) => `${namespace}/${name}`;

export class ExternalSliceWriter {
  readonly #options: ExternalSliceWriterOptions;
  readonly #services = new Map<string, ServiceRecord>();
  readonly #workloads = new Map<string, WorkloadRecord>();
  /** Our slices by Service, then by name. */
  readonly #slices = new Map<string, Map<string, EndpointSlice>>();
  readonly #dirty = new Set<string>();
  readonly #forget: () => void;
  #working = false;
  #stopped = false;

  constructor(options: ExternalSliceWriterOptions) {
    this.#options = options;
    this.#forget = options.leadership.onChange((leading) => {
      if (leading) this.#touchAll();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#forget();
  }

  putService(service: ServiceRecord): void {
    const key = keyOf(service.namespace, service.name);
    this.#services.set(key, service);
    if (wantsWorkloads(service) || this.#slices.has(key)) this.#touch(key);
  }

  removeService(namespace: string, name: string): void {
    const key = keyOf(namespace, name);
    if (this.#services.delete(key) && this.#slices.has(key)) this.#touch(key);
  }

  putWorkload(workload: WorkloadRecord): void {
    const key = keyOf(workload.namespace, workload.name);
    const old = this.#workloads.get(key);
    this.#workloads.set(key, workload);
    this.#touchSelecting(workload, old);
  }

  removeWorkload(namespace: string, name: string): void {
    const key = keyOf(namespace, name);
    const old = this.#workloads.get(key);
    this.#workloads.delete(key);
    this.#touchSelecting(old);
  }

  /** One of the slices that we made. */
  putSlice(slice: EndpointSlice): void {
    const key = this.#hold(slice);
    this.#touch(key);
  }

  removeSlice(slice: EndpointSlice): void {
    const key = serviceOf(slice);
    const slices = this.#slices.get(key);
    if (!slices?.delete(slice.metadata.name)) return;
    if (slices.size === 0) this.#slices.delete(key);
    this.#touch(key);
  }

  #hold(slice: EndpointSlice): string {
    const key = serviceOf(slice);
    const slices = this.#slices.get(key) ?? new Map<string, EndpointSlice>();
    this.#slices.set(key, slices.set(slice.metadata.name, slice));
    return key;
  }

  #touchSelecting(...workloads: (WorkloadRecord | undefined)[]): void {
    for (const [key, service] of this.#services) {
      if (wantsWorkloads(service) && workloads.some((workload) => workload && selects(service, workload)))
        this.#touch(key);
    }
  }

  #touchAll(): void {
    for (const key of this.#slices.keys()) this.#touch(key);
    for (const workload of this.#workloads.values()) this.#touchSelecting(workload);
  }

  #touch(key: string): void {
    this.#dirty.add(key);
    if (!this.#working) {
      this.#working = true;
      // What comes together is written together.
      queueMicrotask(() => void this.#work());
    }
  }

  /** One Service after the other: they are few, and the API server is not ours alone. */
  async #work(): Promise<void> {
    const { clock, log, leadership } = this.#options;
    const backoff = new Backoff({ min: 100, max: 30_000, jitter: 0.5 }, clock.random);
    while (this.#dirty.size > 0 && !this.#stopped && leadership.isLeader) {
      const [key] = this.#dirty;
      this.#dirty.delete(key!);
      try {
        await this.#sync(key!);
        backoff.reset();
      } catch (error) {
        this.#dirty.add(key!);
        // A conflict is only news that somebody else wrote first; the watch brings what.
        if (!isConflict(error))
          log.warn("the slices of external workloads could not be written, trying again", {
            service: key!,
            error: errorMessage(error),
          });
        await new Promise<void>((resolve) => clock.after(backoff.next(), resolve));
      }
    }
    this.#working = false;
  }

  async #sync(key: string): Promise<void> {
    const { client } = this.#options;
    const namespace = key.slice(0, key.indexOf("/"));
    const existing = [...(this.#slices.get(key)?.values() ?? [])];
    const workloads = [...this.#workloads.values()].filter((each) => each.namespace === namespace);
    const { create, update, remove } = sliceChanges(this.#services.get(key), workloads, existing);
    const path = PATH(namespace);
    // What the server answers is what there is, before the watch says so: the next look must not write it again.
    for (const slice of create) this.#hold(await client.create(slice, path));
    for (const slice of update) this.#hold(await client.replace(`${path}/${slice.metadata.name}`, slice));
    for (const slice of remove) {
      try {
        await client.delete(`${path}/${slice.metadata.name}`);
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
      this.#slices.get(key)?.delete(slice.metadata.name);
    }
    if (this.#slices.get(key)?.size === 0) this.#slices.delete(key);
  }
}

const serviceOf = ({ metadata }: EndpointSlice): string =>
  keyOf(metadata.namespace ?? "", metadata.labels?.[SERVICE_NAME_LABEL] ?? "");

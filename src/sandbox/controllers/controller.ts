// What every controller is: watches that put keys into a queue, and one function that makes a key right.
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "../../log/logger.ts";
import type { Clock } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import { ApiError } from "../apiserver/status.ts";
import type { Cluster, EventType, KubeObject, Ref } from "../cluster.ts";
import { WorkQueue } from "./work-queue.ts";

export interface ControllerContext {
  readonly cluster: Cluster;
  readonly clock: Clock;
  readonly log: Logger;
}

export abstract class Controller {
  /** Component name in events and the log, as Kubernetes calls it. */
  readonly name: string;
  protected readonly cluster: Cluster;
  protected readonly clock: Clock;
  protected readonly log: Logger;
  protected readonly queue: WorkQueue;
  readonly #unwatch: (() => void)[] = [];

  constructor(name: string, context: ControllerContext, options: { workers?: number } = {}) {
    this.name = name;
    this.cluster = context.cluster;
    this.clock = context.clock;
    this.log = context.log.child({ controller: name });
    this.queue = new WorkQueue({
      clock: context.clock,
      work: async (key) => {
        try {
          await this.sync(key);
        } catch (error) {
          // Nothing new may be made in a namespace that is ending, and its deletion takes care of the rest.
          if (!isNamespaceTerminating(error)) throw error;
        }
      },
      failed: (key, error, retryInMs) =>
        // A conflict is only news that somebody else wrote first.
        this.log[(error as { status?: number }).status === 409 ? "debug" : "warn"]("will try again", {
          key,
          error: errorMessage(error),
          retryInMs: Math.round(retryInMs),
        }),
      ...options,
    });
  }

  abstract start(): void;

  /** Makes what `key` names as it should be. A rejection asks for another try. */
  protected abstract sync(key: string): Promise<void>;

  async stop(): Promise<void> {
    for (const unwatch of this.#unwatch) unwatch();
    await this.queue.stop();
  }

  protected watch(
    group: string,
    resource: string,
    handler: (type: EventType, object: KubeObject, previous?: KubeObject) => void,
  ): void {
    this.#unwatch.push(this.cluster.watch(group, resource, handler));
  }

  protected onStop(fn: () => void): void {
    this.#unwatch.push(fn);
  }

  protected event(object: KubeObject, type: "Normal" | "Warning", reason: string, message: string): void {
    this.cluster.recordEvent(object, { type, reason, message, component: this.name });
  }

  /** Writes a status if it differs from what is there. */
  protected async writeStatus(ref: Ref, status: object): Promise<void> {
    await this.cluster.modify(
      ref,
      (object) => {
        if (isDeepStrictEqual(object["status"] ?? {}, status)) return undefined;
        object["status"] = status;
        return object;
      },
      { subresource: "status" },
    );
  }
}

function isNamespaceTerminating(error: unknown): boolean {
  return (
    error instanceof ApiError &&
    Boolean(error.details?.causes?.some((c) => c.reason === "NamespaceTerminating"))
  );
}

/** RFC 3339 in whole seconds, as Kubernetes writes times. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

export function keyOf(object: KubeObject): string {
  return object.metadata.namespace
    ? `${object.metadata.namespace}/${object.metadata.name}`
    : object.metadata.name;
}

export function splitKey(key: string): { namespace: string; name: string } {
  const slash = key.indexOf("/");
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

export interface Condition {
  type: string;
  status: "True" | "False" | "Unknown";
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
  lastUpdateTime?: string;
}

/**
 * The conditions with one of them set. Its transition time moves only with its status; when nothing about it
 * changes it stays as it was.
 */
export function withCondition(
  conditions: readonly Condition[] | undefined,
  next: Condition,
  now: number,
  options: { updateTime?: boolean } = {},
): Condition[] {
  const others = (conditions ?? []).filter((condition) => condition.type !== next.type);
  const before = (conditions ?? []).find((condition) => condition.type === next.type);
  if (
    before &&
    before.status === next.status &&
    before.reason === next.reason &&
    before.message === next.message
  ) {
    return [...(conditions ?? [])];
  }
  const made: Condition = {
    ...next,
    lastTransitionTime:
      before?.status === next.status && before.lastTransitionTime
        ? before.lastTransitionTime
        : timestamp(now),
    ...(options.updateTime ? { lastUpdateTime: timestamp(now) } : {}),
  };
  return [...others, made];
}

// What a container can be in, and how the pod's status shows it.
import type { Json } from "../cluster.ts";

export interface Waiting {
  readonly kind: "waiting";
  readonly reason: string;
  readonly message?: string;
}

export interface Running {
  readonly kind: "running";
  /** ms since the epoch. */
  readonly startedAt: number;
}

export interface Terminated {
  readonly kind: "terminated";
  readonly exitCode: number;
  readonly signal?: number;
  readonly reason: string;
  readonly message?: string;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly containerID: string;
}

export type ContainerState = Waiting | Running | Terminated;

/** How a container takes part in its pod's life. */
export type ContainerKind = "init" | "sidecar" | "main";

/** A point in the life of a container, as the status and the pod's next steps need it. */
export interface ContainerView {
  readonly name: string;
  readonly kind: ContainerKind;
  readonly image: string;
  readonly state: ContainerState;
  readonly last: Terminated | undefined;
  readonly restartCount: number;
  readonly ready: boolean;
  readonly started: boolean;
  readonly containerID: string;
}

const time = (ms: number) => new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");

/** `state` and `lastState` of a containerStatus. */
export function stateObject(state: ContainerState | undefined): Json {
  if (!state) return {};
  if (state.kind === "running") return { running: { startedAt: time(state.startedAt) } };
  if (state.kind === "waiting") {
    return { waiting: { reason: state.reason, ...(state.message ? { message: state.message } : {}) } };
  }
  return {
    terminated: {
      exitCode: state.exitCode,
      ...(state.signal ? { signal: state.signal } : {}),
      reason: state.reason,
      ...(state.message ? { message: state.message } : {}),
      startedAt: time(state.startedAt),
      finishedAt: time(state.finishedAt),
      containerID: state.containerID,
    },
  };
}

/** Reads a stored `terminated` back; undefined if there is none. */
export function terminatedFrom(state: Json): Terminated | undefined {
  const from = state?.terminated;
  if (!from) return undefined;
  return {
    kind: "terminated",
    exitCode: from.exitCode ?? 0,
    ...(from.signal ? { signal: from.signal } : {}),
    reason: from.reason ?? "Completed",
    ...(from.message ? { message: from.message } : {}),
    startedAt: Date.parse(from.startedAt) || 0,
    finishedAt: Date.parse(from.finishedAt) || 0,
    containerID: from.containerID ?? "",
  };
}

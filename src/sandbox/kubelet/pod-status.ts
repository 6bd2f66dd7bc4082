// A pod's status from the states of its containers: phase, conditions, containerStatuses (as in
// k8s.io/kubernetes pkg/kubelet/kubelet_pods.go and pkg/kubelet/status/generate.go).
import type { Json, KubeObject } from "../cluster.ts";
import { type ContainerView, stateObject } from "./container-state.ts";

export interface PodSnapshot {
  readonly pod: KubeObject;
  readonly containers: readonly ContainerView[];
  readonly podIP: string | undefined;
  readonly hostIP: string;
  /** ms since the epoch; when the kubelet took the pod. */
  readonly startTime: number;
  /** The pod's network and volumes are there. */
  readonly sandboxReady: boolean;
}

/** Whether all init containers have done their part. */
export function isInitialized(containers: readonly ContainerView[]): boolean {
  return containers.every(
    (c) =>
      c.kind === "main" ||
      (c.kind === "init" ? c.state.kind === "terminated" && c.state.exitCode === 0 : c.started),
  );
}

export function podPhase(spec: Json, containers: readonly ContainerView[]): string {
  const policy = spec.restartPolicy ?? "Always";
  const init = containers.filter((c) => c.kind === "init");
  const failedInit = init.some((c) => c.state.kind === "terminated" && c.state.exitCode !== 0);
  if (failedInit && policy === "Never") return "Failed";
  const main = containers.filter((c) => c.kind === "main");
  const waiting = main.filter((c) => c.state.kind === "waiting" && !c.last);
  const pendingInit =
    main.every((c) => c.state.kind === "waiting" && !c.last) &&
    (init.some((c) => !(c.state.kind === "terminated" && c.state.exitCode === 0)) ||
      containers.some((c) => c.kind === "sidecar" && !c.started));
  if (pendingInit || waiting.length > 0) return "Pending";
  if (main.some((c) => c.state.kind !== "terminated")) return "Running";
  if (policy === "Always") return "Running";
  const failed = main.some((c) => c.state.kind === "terminated" && c.state.exitCode !== 0);
  if (!failed) return sidecarsRun(containers) ? "Running" : "Succeeded";
  if (policy === "Never") return sidecarsRun(containers) ? "Running" : "Failed";
  return "Running";
}

function sidecarsRun(containers: readonly ContainerView[]): boolean {
  return containers.some((c) => c.kind === "sidecar" && c.state.kind === "running");
}

/** The status to store; conditions keep their transition times while they keep their value. */
export function podStatus(snapshot: PodSnapshot, now: number): Json {
  const { pod, containers, podIP, hostIP } = snapshot;
  const old = pod["status"] ?? {};
  const phase = podPhase(pod["spec"], containers);
  const statuses = (kinds: readonly string[]) =>
    containers.filter((c) => kinds.includes(c.kind)).map((c) => containerStatus(c));
  const initStatuses = statuses(["init", "sidecar"]);
  return {
    ...old,
    phase,
    conditions: conditions(snapshot, phase, now),
    hostIP,
    hostIPs: [{ ip: hostIP }],
    ...(podIP === undefined ? {} : { podIP, podIPs: [{ ip: podIP }] }),
    startTime: iso(snapshot.startTime),
    ...(initStatuses.length > 0 ? { initContainerStatuses: initStatuses } : {}),
    containerStatuses: statuses(["main"]),
  };
}

function containerStatus(view: ContainerView): Json {
  return {
    name: view.name,
    state: stateObject(view.state),
    lastState: stateObject(view.last),
    ready: view.kind === "init" ? view.state.kind === "terminated" && view.state.exitCode === 0 : view.ready,
    started: view.started,
    restartCount: view.restartCount,
    image: view.image,
    imageID: view.containerID === "" ? "" : `sandbox://${view.image}`,
    ...(view.containerID === "" ? {} : { containerID: view.containerID }),
  };
}

interface Verdict {
  readonly status: "True" | "False";
  readonly reason?: string;
  readonly message?: string;
}

const TRUE: Verdict = { status: "True" };

function conditions(snapshot: PodSnapshot, phase: string, now: number): Json[] {
  const { pod, containers } = snapshot;
  const ready = containersReady(containers, phase);
  const verdicts: Record<string, Verdict> = {
    PodReadyToStartContainers: { status: snapshot.sandboxReady ? "True" : "False" },
    Initialized: initialized(containers, phase),
    Ready: podReady(pod, ready),
    ContainersReady: ready,
    PodScheduled: TRUE,
  };
  const old: Json[] = pod["status"]?.conditions ?? [];
  const own = Object.entries(verdicts).map(([type, verdict]) => {
    const before = old.find((condition) => condition.type === type);
    return {
      type,
      status: verdict.status,
      ...(verdict.reason ? { reason: verdict.reason } : {}),
      ...(verdict.message ? { message: verdict.message } : {}),
      lastProbeTime: null,
      lastTransitionTime:
        before?.status === verdict.status && before.lastTransitionTime ? before.lastTransitionTime : iso(now),
    };
  });
  return [...own, ...old.filter((condition) => verdicts[condition.type] === undefined)];
}

function initialized(containers: readonly ContainerView[], phase: string): Verdict {
  if (phase === "Succeeded") return { status: "True", reason: "PodCompleted" };
  const main = containers.filter((c) => c.kind === "main");
  // Once the main containers have begun, initialization is behind them.
  if (main.some((c) => c.state.kind !== "waiting" || c.last)) return TRUE;
  const missing = containers
    .filter((c) => c.kind !== "main")
    .filter((c) =>
      c.kind === "init" ? !(c.state.kind === "terminated" && c.state.exitCode === 0) : !c.started,
    );
  if (missing.length === 0) return TRUE;
  const names = missing.map((c) => c.name).join(" ");
  return {
    status: "False",
    reason: "ContainersNotInitialized",
    message: `containers with incomplete status: [${names}]`,
  };
}

function containersReady(containers: readonly ContainerView[], phase: string): Verdict {
  if (phase === "Succeeded") return { status: "False", reason: "PodCompleted" };
  if (phase === "Failed") return { status: "False", reason: "PodFailed" };
  const unready = containers.filter((c) => c.kind !== "init" && !c.ready);
  if (unready.length === 0) return TRUE;
  const names = unready.map((c) => c.name).join(" ");
  return {
    status: "False",
    reason: "ContainersNotReady",
    message: `containers with unready status: [${names}]`,
  };
}

function podReady(pod: KubeObject, containers: Verdict): Verdict {
  if (containers.status !== "True") return containers;
  const missing = (pod["spec"].readinessGates ?? []).filter(
    (gate: Json) =>
      !(pod["status"]?.conditions ?? []).some(
        (condition: Json) => condition.type === gate.conditionType && condition.status === "True",
      ),
  );
  if (missing.length === 0) return TRUE;
  const gate = missing[0].conditionType;
  return {
    status: "False",
    reason: "ReadinessGatesNotReady",
    message: `corresponding condition of pod readiness gate "${gate}" does not exist.`,
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

// The row of `kubectl get pods`: one word for the state of a pod, from its phase, its containers and its deletion
// (printPod in k8s.io/kubernetes/pkg/printers/internalversion/printers.go).

import type { Json, KubeObject } from "../cluster.ts";
import type { Column } from "./resource.ts";
import { age } from "./text-forms.ts";

export const podColumns: readonly Column[] = [
  { name: "Name", type: "string", format: "name" },
  { name: "Ready", type: "string" },
  { name: "Status", type: "string" },
  { name: "Restarts", type: "string" },
  { name: "Age", type: "string" },
  { name: "IP", type: "string", priority: 1 },
  { name: "Node", type: "string", priority: 1 },
  { name: "Nominated Node", type: "string", priority: 1 },
  { name: "Readiness Gates", type: "string", priority: 1 },
];

export function podRow(pod: KubeObject, now: number): unknown[] {
  const { spec, status = {}, metadata } = pod;
  const native = new Set(
    (spec.initContainers ?? [])
      .filter((c: Json) => c.restartPolicy === "Always")
      .map((c: Json) => c.name as string),
  );
  const total = (spec.containers ?? []).length + native.size;
  let ready = 0;
  let restarts = 0;
  let restartableRestarts = 0;
  let lastRestart = 0;
  let lastRestartableRestart = 0;
  let reason: string = status.reason || status.phase || "";
  const restartedAt = (s: Json) => Date.parse(s.lastState?.terminated?.finishedAt ?? "") || 0;
  for (const condition of status.conditions ?? []) {
    if (condition.type === "PodScheduled" && condition.reason === "SchedulingGated")
      reason = "SchedulingGated";
  }

  let initializing = false;
  const initStatuses: Json[] = status.initContainerStatuses ?? [];
  for (const [i, container] of initStatuses.entries()) {
    restarts += container.restartCount ?? 0;
    lastRestart = Math.max(lastRestart, restartedAt(container));
    if (native.has(container.name)) {
      restartableRestarts += container.restartCount ?? 0;
      lastRestartableRestart = Math.max(lastRestartableRestart, restartedAt(container));
    }
    const { terminated, waiting } = container.state ?? {};
    if (terminated?.exitCode === 0) continue;
    if (native.has(container.name) && container.started) {
      if (container.ready) ready++;
      continue;
    }
    if (terminated) reason = `Init:${exitText(terminated)}`;
    else if (waiting?.reason && waiting.reason !== "PodInitializing") reason = `Init:${waiting.reason}`;
    else reason = `Init:${i}/${(spec.initContainers ?? []).length}`;
    initializing = true;
    break;
  }

  const initialized = (status.conditions ?? []).some(
    (c: Json) => c.type === "Initialized" && c.status === "True",
  );
  if (!initializing || initialized) {
    restarts = restartableRestarts;
    lastRestart = lastRestartableRestart;
    let running = false;
    for (const container of [...(status.containerStatuses ?? [])].reverse()) {
      restarts += container.restartCount ?? 0;
      lastRestart = Math.max(lastRestart, restartedAt(container));
      const { terminated, waiting, running: isRunning } = container.state ?? {};
      if (waiting?.reason) reason = waiting.reason;
      else if (terminated) reason = exitText(terminated);
      else if (container.ready && isRunning) {
        running = true;
        ready++;
      }
    }
    if (reason === "Completed" && running) {
      const isReady = (status.conditions ?? []).some((c: Json) => c.type === "Ready" && c.status === "True");
      reason = isReady ? "Running" : "NotReady";
    }
  }
  if (metadata.deletionTimestamp && status.reason === "NodeLost") reason = "Unknown";
  else if (metadata.deletionTimestamp && !["Succeeded", "Failed"].includes(status.phase))
    reason = "Terminating";

  const gates = spec.readinessGates ?? [];
  const passed = gates.filter((gate: Json) =>
    (status.conditions ?? []).some((c: Json) => c.type === gate.conditionType && c.status === "True"),
  ).length;
  return [
    metadata.name,
    `${ready}/${total}`,
    reason,
    restarts > 0 && lastRestart > 0
      ? `${restarts} (${age(new Date(lastRestart).toISOString(), now)} ago)`
      : String(restarts),
    age(metadata.creationTimestamp, now),
    status.podIP || "<none>",
    spec.nodeName || "<none>",
    status.nominatedNodeName || "<none>",
    gates.length ? `${passed}/${gates.length}` : "<none>",
  ];
}

function exitText(terminated: Json): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
}

// What runs, seen from outside.
import { existsSync } from "node:fs";
import { errorMessage } from "../../util/error.ts";
import { fetchList } from "./client.ts";
import { isAlive, kubeconfigPath, logPath, readRecord } from "./state-directory.ts";

export interface SandboxStatus {
  /** `unhealthy`: its process runs, but the API server does not answer. */
  readonly state: "running" | "unhealthy" | "stopped";
  readonly directory: string;
  /** Whether there is state that the next `up` goes on with. */
  readonly hasState: boolean;
  readonly kubeconfig?: string;
  readonly log?: string;
  readonly pid?: number;
  readonly server?: string;
  readonly version?: string;
  /** RFC 3339. */
  readonly startedAt?: string;
  readonly nodes?: { readonly ready: number; readonly total: number };
  readonly pods?: { readonly ready: number; readonly total: number };
  readonly problem?: string;
}

export async function status(directory: string): Promise<SandboxStatus> {
  const hasState = existsSync(`${directory}/cluster`);
  const record = readRecord(directory);
  if (!record || !isAlive(record)) return { state: "stopped", directory, hasState };
  const base = {
    directory,
    hasState,
    kubeconfig: kubeconfigPath(directory),
    log: logPath(directory),
    pid: record.pid,
    server: `https://127.0.0.1:${record.port}`,
    version: record.version,
    startedAt: record.startedAt,
  };
  try {
    const [nodes, pods] = await Promise.all([
      fetchList(directory, record.port, "/api/v1/nodes"),
      fetchList(directory, record.port, "/api/v1/pods"),
    ]);
    return { state: "running", ...base, nodes: readiness(nodes), pods: readiness(pods) };
  } catch (error) {
    return { state: "unhealthy", ...base, problem: errorMessage(error) };
  }
}

interface WithConditions {
  readonly status?: { readonly conditions?: readonly { type: string; status: string }[] };
}

function readiness(objects: readonly WithConditions[]): { ready: number; total: number } {
  const ready = objects.filter((object) =>
    object.status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True"),
  );
  return { ready: ready.length, total: objects.length };
}

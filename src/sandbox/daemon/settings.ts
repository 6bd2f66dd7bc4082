// What the launcher tells the daemon, as environment variables.
import { MeshError } from "../../util/error.ts";
import { MAX_NODES } from "../network/index.ts";

export interface Settings {
  /** The state directory as seen inside the namespaces: short and without odd characters. */
  readonly state: string;
  /** The same directory's path on the host. */
  readonly hostDirectory: string;
  /** Of the API server on the host's 127.0.0.1. */
  readonly port: number;
  readonly nodes: number;
}

/** Where the launcher's script binds the state directory. */
export const STATE_MOUNT = "/run/kubectl-mesh/state";

export function settingsEnvironment(settings: Omit<Settings, "state">): Record<string, string> {
  return {
    MESH_SANDBOX_DIR: settings.hostDirectory,
    MESH_SANDBOX_PORT: String(settings.port),
    MESH_SANDBOX_NODES: String(settings.nodes),
  };
}

/** @throws MeshError when the daemon was not started by `sandbox up`. */
export function readSettings(environment: NodeJS.ProcessEnv): Settings {
  const hostDirectory = environment["MESH_SANDBOX_DIR"];
  const port = Number(environment["MESH_SANDBOX_PORT"]);
  const nodes = Number(environment["MESH_SANDBOX_NODES"] ?? "1");
  if (!hostDirectory || !Number.isInteger(port) || !(nodes >= 1 && nodes <= MAX_NODES)) {
    throw new MeshError("the sandbox's daemon is started by: kubectl mesh sandbox up");
  }
  return { state: STATE_MOUNT, hostDirectory, port, nodes };
}

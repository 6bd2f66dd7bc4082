// The sandbox as seen from the host: start it, end it, look at it.
export { type DownOptions, type DownResult, down } from "./down.ts";
export { installCommand, isRoot, type MissingTools, missingTools } from "./requirements.ts";
export { kubeconfigPath, logPath, stateDirectory } from "./state-directory.ts";
export { type SandboxStatus, status } from "./status.ts";
export { DEFAULT_PORT, type UpOptions, type UpResult, up } from "./up.ts";

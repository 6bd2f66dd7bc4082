// Starts a sandbox: makes the namespaces, hands over the listening socket and waits until the API server is ready.
import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { errorCode, MeshError } from "../../util/error.ts";
import { packageRoot } from "../../util/package-root.ts";
import { VERSION } from "../../util/version.ts";
import { settingsEnvironment } from "../daemon/settings.ts";
import { fetchReady } from "./client.ts";
import { checkRequirements, namespaceFlags, TOOL_PATH } from "./requirements.ts";
import {
  isAlive,
  kubeconfigPath,
  logPath,
  openStateDirectory,
  type ProcessRecord,
  processStat,
  readRecord,
  removeRecord,
  writeRecord,
} from "./state-directory.ts";

export const DEFAULT_PORT = 16443;
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
const MAX_LOG_BYTES = 10 * 1024 * 1024;

/**
 * First process of the PID namespace: a fresh /run with the state directory at a short path, then the daemon; it
 * reaps what the daemon leaves behind and passes SIGTERM on. Whatever ends it, ends everything inside.
 */
const INIT = `
mount -t tmpfs -o mode=755 tmpfs /run &&
mkdir -p /run/kubectl-mesh/state &&
mount --no-canonicalize --bind . /run/kubectl-mesh/state || exit 1
cd /
"$@" &
daemon=$!
exec 3<&-
trap 'kill -TERM "$daemon"' TERM INT
code=1
while kill -0 "$daemon" 2>/dev/null; do wait "$daemon"; code=$?; done
exit "$code"
`;

export interface UpOptions {
  readonly directory: string;
  readonly port?: number | undefined;
  readonly nodes?: number | undefined;
  /** Told what is being done. */
  readonly onStep?: ((text: string) => void) | undefined;
}

export interface UpResult {
  /** It was up before. */
  readonly alreadyUp: boolean;
  readonly directory: string;
  readonly kubeconfig: string;
  readonly record: ProcessRecord;
}

/** Resolves when the API server answers. @throws MeshError with what to do. */
export async function up(options: UpOptions): Promise<UpResult> {
  const { directory, onStep } = options;
  const running = await alreadyUp(directory);
  if (running) return running;

  onStep?.("checking the machine");
  checkRequirements();
  openStateDirectory(directory);
  removeRecord(directory);
  rmSync(kubeconfigPath(directory), { force: true });

  const port = options.port ?? DEFAULT_PORT;
  const nodes = options.nodes ?? 1;
  const socket = await listen(port);
  onStep?.("starting the sandbox");
  const { child, log } = start(directory, socket, port, nodes);
  socket.close();
  try {
    const stat = child.pid === undefined ? undefined : processStat(child.pid);
    if (!stat) throw failure(directory, log, child);
    const record: ProcessRecord = {
      pid: child.pid!,
      startTicks: stat.startTicks,
      port,
      nodes,
      version: VERSION,
      startedAt: new Date().toISOString(),
    };
    claim(directory, record);
    await ready(directory, child, log, port);
    child.unref();
    return { alreadyUp: false, directory, kubeconfig: kubeconfigPath(directory), record };
  } catch (error) {
    child.kill("SIGKILL");
    if (readRecord(directory)?.pid === child.pid) removeRecord(directory);
    throw error;
  }
}

async function alreadyUp(directory: string): Promise<UpResult | undefined> {
  const record = readRecord(directory);
  if (!record || !isAlive(record)) return undefined;
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (isAlive(record)) {
    if (existsSync(kubeconfigPath(directory)) && (await fetchReady(directory, record.port))) {
      return { alreadyUp: true, directory, kubeconfig: kubeconfigPath(directory), record };
    }
    if (performance.now() > deadline) {
      throw new MeshError(`a sandbox runs in ${directory} but its API server does not answer`, {
        hints: ["look into its log: kubectl mesh sandbox status", "end it: kubectl mesh sandbox down"],
      });
    }
    await sleep(POLL_MS);
  }
  return undefined;
}

function listen(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error) => {
      const code = errorCode(error);
      if (code === "EADDRINUSE") {
        reject(
          new MeshError(`port ${port} on 127.0.0.1 is in use`, {
            hints: [
              `take another one: kubectl mesh sandbox up --port ${port + 1}`,
              `see who has it: ss -ltnp 'sport = :${port}'`,
            ],
            cause: error,
          }),
        );
      } else if (code === "EACCES") {
        reject(
          new MeshError(`this user may not listen on port ${port}`, {
            hints: ["take one above 1023: kubectl mesh sandbox up --port PORT"],
            cause: error,
          }),
        );
      } else reject(error);
    });
    server.listen({ host: "127.0.0.1", port }, () => resolve(server));
  });
}

interface Started {
  readonly child: ChildProcess;
  /** Length of the log before this start: what follows is its own. */
  readonly log: number;
}

function start(directory: string, socket: Server, port: number, nodes: number): Started {
  const path = logPath(directory);
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > MAX_LOG_BYTES) renameSync(path, `${path}.1`);
  const output = openSync(path, "a", 0o600);
  const log = fstatSync(output).size;
  const descriptor = (socket as unknown as { _handle: { fd: number } })._handle.fd;
  const child = spawn(
    "unshare",
    [...namespaceFlags(), "sh", "-c", INIT, "sh", process.execPath, ...daemonEntry()],
    {
      cwd: directory,
      detached: true,
      stdio: ["ignore", output, output, descriptor],
      env: {
        ...process.env,
        ...settingsEnvironment({ hostDirectory: realpathSync(directory), port, nodes }),
        PATH: TOOL_PATH,
        // Options meant for the command must not reach the daemon.
        NODE_OPTIONS: "",
      },
    },
  );
  closeSync(output);
  return { child, log };
}

/** The bundled daemon, or its source when this runs from sources. */
function daemonEntry(): string[] {
  if (!import.meta.url.endsWith(".ts")) return [join(packageRoot(), "dist/entry/sandbox-daemon.js")];
  return ["--import", import.meta.resolve("tsx"), join(packageRoot(), "src/entry/sandbox-daemon.ts")];
}

function claim(directory: string, record: ProcessRecord): void {
  try {
    writeRecord(directory, record);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    throw new MeshError(`another kubectl mesh sandbox up is at work in ${directory}`, { cause: error });
  }
}

async function ready(directory: string, child: ChildProcess, log: number, port: number): Promise<void> {
  let ended = false;
  child.once("exit", () => {
    ended = true;
  });
  child.once("error", () => {
    ended = true;
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  // The daemon writes the kubeconfig last.
  while (!existsSync(kubeconfigPath(directory)) || !(await fetchReady(directory, port))) {
    if (ended) throw failure(directory, log, child);
    if (performance.now() > deadline) {
      throw new MeshError(`the sandbox was not ready within ${START_TIMEOUT_MS / 1000} s`, {
        hints: [`its log: ${logPath(directory)}`],
      });
    }
    await sleep(POLL_MS);
  }
}

/** What the daemon said before it ended. */
function failure(directory: string, from: number, child: ChildProcess): MeshError {
  const said = readFrom(logPath(directory), from);
  const lines = said.trim().split("\n");
  for (const line of lines.reverse()) {
    if (!line.startsWith('{"failure":')) continue;
    const { failure: message, hints } = JSON.parse(line) as { failure: string; hints: string[] };
    return new MeshError(`the sandbox could not start: ${message}`, {
      hints: [...hints, `its log: ${logPath(directory)}`],
    });
  }
  const last = lines[0] || `exit code ${child.exitCode}`;
  return new MeshError(`the sandbox could not start: ${last}`, { hints: [`its log: ${logPath(directory)}`] });
}

function readFrom(path: string, offset: number): string {
  const file = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(Math.min(64 * 1024, Math.max(0, fstatSync(file).size - offset)));
    readSync(file, buffer, 0, buffer.length, offset);
    return buffer.toString("utf8");
  } finally {
    closeSync(file);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// Starts containers on this node: root file system, volumes, environment, user, output.
import { spawn } from "node:child_process";
import { chmodSync, closeSync, mkdirSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { Json, KubeObject } from "../cluster.ts";
import { resolvConf } from "../network/index.ts";
import type { Instance } from "./container.ts";
import { expand } from "./environment.ts";
import type { LogWriter } from "./log-file.ts";
import { makePipes } from "./pipes.ts";
import {
  type ContainerCommand,
  type ContainerProcess,
  execArguments,
  exitOf,
  type Namespaces,
  StartError,
  startContainer,
} from "./process.ts";
import { type Mount, RootFs } from "./root-fs.ts";
import type { RootPlan } from "./root-plan.ts";
import { identityOf, isMeshImage } from "./security.ts";

const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Where the container finds the node binary that runs the sandbox, wherever the host has it. */
const NODE_BIN = "/.sandbox/bin";
const TERMINATION_LIMIT = 4096;
const EXEC_OUTPUT_LIMIT = 10 * 1024;

/** What containers of this node share. */
export interface NodeRuntime {
  readonly plan: RootPlan;
  /** See installLauncher. */
  readonly launcher: readonly string[];
  /** The /dev that containers get. */
  readonly dev: string;
  /** This package, for mesh images. */
  readonly packageRoot: string;
  readonly nodeBinary: string;
  /** Host paths that no container may see. */
  readonly hidden: readonly string[];
  readonly clock: Clock;
}

export interface LaunchOptions {
  readonly runtime: NodeRuntime;
  readonly pod: KubeObject;
  readonly container: Json;
  readonly podIP: string;
  readonly hostname: string;
  readonly namespaces: Namespaces;
  /** Of the pod: shared memory, scratch. */
  readonly podDirectory: string;
  readonly environment: Record<string, string>;
  readonly mounts: readonly Mount[];
  readonly log: LogWriter;
  /** Unique among the instances of the pod. */
  readonly instance: string;
}

/** A running container with what exec needs to know. */
export interface LaunchedInstance extends Instance {
  readonly command: ContainerCommand;
  readonly process: ContainerProcess;
}

/** @throws ConfigError, StartError; anything else is a CreateContainerError */
export async function launch(options: LaunchOptions): Promise<LaunchedInstance> {
  const { runtime, pod, container, podDirectory } = options;
  const mesh = isMeshImage(container.image ?? "");
  const environment = {
    PATH: mesh ? `${NODE_BIN}:${SYSTEM_PATH}` : `${SYSTEM_PATH}:${NODE_BIN}`,
    HOSTNAME: options.hostname,
    ...options.environment,
  } as Record<string, string>;
  const identity = identityOf(pod["spec"], container);
  environment["HOME"] ??= identity.uid === 0 ? "/root" : "/";
  const command: ContainerCommand = {
    argv: commandOf(container, environment, mesh),
    environment,
    workingDir: container.workingDir || (mesh ? "/app" : "/"),
    identity,
  };

  const scratch = join(podDirectory, "instances", options.instance);
  mkdirSync(scratch, { recursive: true });
  const termination = join(scratch, "termination-log");
  writeFileSync(termination, "");
  chmodSync(termination, 0o666);
  const shm = join(podDirectory, "shm");
  mkdirSync(shm, { recursive: true });
  chmodSync(shm, 0o1777);

  const root = new RootFs({
    plan: runtime.plan,
    directory: join(runtime.plan.base, `${pod.metadata.uid}-${options.instance}`),
    readOnly: container.securityContext?.readOnlyRootFilesystem === true,
    privileged: container.securityContext?.privileged === true,
    dev: runtime.dev,
    hidden: runtime.hidden,
    directories: [command.workingDir],
    files: networkFiles(options),
    mounts: [
      { source: shm, target: "/dev/shm", readOnly: false },
      {
        source: termination,
        target: container.terminationMessagePath ?? "/dev/termination-log",
        readOnly: false,
      },
      { source: runtime.nodeBinary, target: `${NODE_BIN}/node`, readOnly: true },
      ...(mesh ? [{ source: runtime.packageRoot, target: "/app", readOnly: true }] : []),
      ...options.mounts,
    ],
  });
  const fstab = join(scratch, "fstab");
  writeFileSync(fstab, root.fstab());
  const [stdout, stderr] = await makePipes(scratch, 2);
  let process: ContainerProcess;
  try {
    process = await startContainer({
      namespaces: options.namespaces,
      launcher: runtime.launcher,
      fstab,
      root: root.root,
      command,
      stdin: container.stdin === true,
      output: [stdout!.writer, stderr!.writer],
    });
  } catch (error) {
    stdout!.readable.destroy();
    stderr!.readable.destroy();
    root.remove();
    rmSync(scratch, { recursive: true, force: true });
    if (error instanceof StartError && !mesh && /not found|no such file/.test(error.message)) {
      throw new StartError(
        `${error.message} (the sandbox does not pull image ${JSON.stringify(container.image)}, it runs commands of this machine)`,
      );
    }
    throw error;
  } finally {
    stdout!.closeWriter();
    stderr!.closeWriter();
  }
  options.log.consume(stdout!.readable, "stdout");
  options.log.consume(stderr!.readable, "stderr");
  return {
    pid: process.pid,
    process,
    command,
    exited: process.exited,
    kill: (signal) => process.kill(signal),
    exec: (argv, timeoutMs) => run(process.pid, { ...command, argv }, timeoutMs),
    terminationMessage: (exit) => {
      const said = readHead(termination, TERMINATION_LIMIT);
      if (said !== "" || exit.exitCode === 0) return said;
      if (container.terminationMessagePolicy !== "FallbackToLogsOnError") return "";
      return options.log.tail(2048, 80);
    },
    remove: () => {
      // The mount namespace ends with the container, but perhaps a moment later.
      runtime.clock.after(50, () => {
        root.remove();
        rmSync(scratch, { recursive: true, force: true });
      });
    },
  };
}

/** What the container runs. An image's own command is known only for ours. */
function commandOf(container: Json, environment: Record<string, string>, mesh: boolean): string[] {
  const resolve = (words: readonly string[]) =>
    words.map((word) => expand(word, (name) => environment[name]));
  const command = resolve(container.command ?? (mesh ? ["node"] : []));
  const given = container.args ?? (mesh && !container.command ? ["/app/bin/run.js", "--help"] : []);
  if (command.length === 0) {
    throw new Error(
      `no command specified: the sandbox does not pull image ${JSON.stringify(container.image)}, it runs commands of this machine; set command in the container`,
    );
  }
  return [...command, ...resolve(given)];
}

function networkFiles(options: LaunchOptions): Record<string, string> {
  const { pod, podIP, hostname } = options;
  const files: Record<string, string> = { "/etc/hostname": `${hostname}\n` };
  const aliases = (pod["spec"].hostAliases ?? []).map(
    (alias: Json) => `${alias.ip}\t${(alias.hostnames ?? []).join("\t")}\n`,
  );
  files["/etc/hosts"] = [
    "# Kubernetes-managed hosts file.\n",
    "127.0.0.1\tlocalhost\n",
    "::1\tlocalhost ip6-localhost ip6-loopback\n",
    `${podIP}\t${hostname}\n`,
    ...aliases,
  ].join("");
  const policy = pod["spec"].dnsPolicy ?? "ClusterFirst";
  const config = pod["spec"].dnsConfig ?? {};
  const lines =
    policy === "ClusterFirst" || policy === "ClusterFirstWithHostNet"
      ? resolvConf(pod.metadata.namespace!)
      : policy === "Default"
        ? readHead("/etc/resolv.conf", 8192)
        : "";
  const extra = [
    ...(config.searches?.length ? [`search ${config.searches.join(" ")}`] : []),
    ...(config.nameservers ?? []).map((server: string) => `nameserver ${server}`),
    ...(config.options ?? []).map((o: Json) => `options ${o.name}${o.value ? `:${o.value}` : ""}`),
  ];
  files["/etc/resolv.conf"] = lines + extra.map((text) => `${text}\n`).join("");
  return files;
}

/** Runs a command in a container for a probe or a hook; its output is bounded. */
function run(
  pid: number,
  command: ContainerCommand,
  timeoutMs: number,
): Promise<{ exitCode: number; output: string }> {
  const { argv, env } = execArguments(pid, command);
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      env,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    let output = "";
    const take = (chunk: Buffer) => {
      if (output.length < EXEC_OUTPUT_LIMIT) output += chunk.toString();
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.on("error", (error) => reject(new Error(errorMessage(error))));
    void exitOf(child).then(({ exitCode, signal }) => {
      if (child.killed && signal === 9) {
        reject(
          new Error(`command timed out: ${command.argv.join(" ")} timed out after ${timeoutMs / 1000}s`),
        );
      } else resolve({ exitCode, output: output.trim() });
    });
  });
}

function readHead(path: string, limit: number): string {
  try {
    const file = openSync(path, "r");
    try {
      const buffer = Buffer.alloc(limit);
      return buffer.toString("utf8", 0, readSync(file, buffer, 0, limit, 0));
    } finally {
      closeSync(file);
    }
  } catch {
    return "";
  }
}

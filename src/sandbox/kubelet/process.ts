// Processes in a pod's namespaces: the pause process that holds them, containers, and commands run beside them.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { MeshError } from "../../util/error.ts";

export interface Exit {
  /** 128+n for signal n. */
  readonly exitCode: number;
  readonly signal?: number;
}

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  /** Bound on what it may get. Names without CAP_, lower case. */
  readonly capabilities: readonly string[] | "all";
  /** Those that a user other than root has from the start. */
  readonly ambient: readonly string[];
  readonly noNewPrivileges: boolean;
}

export interface ContainerCommand {
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly workingDir: string;
  readonly identity: Identity;
}

export interface ContainerProcess {
  /** The container's first process, seen from the node. */
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly exited: Promise<Exit>;
  /** Signals the first process; nothing happens once it has ended. */
  kill(signal: NodeJS.Signals): void;
}

/** The container's process could not be started; the message says why in runc's words. */
export class StartError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "StartError";
  }
}

const TOOLS = [
  "nsenter",
  "unshare",
  "sh",
  "mount",
  "umount",
  "pivot_root",
  "setpriv",
  "env",
  "sleep",
] as const;
type Tool = (typeof TOOLS)[number];

const found = new Map<string, string>();

/** Absolute path of a system tool: a container's PATH must not choose it. @throws MeshError if it is missing. */
export function tool(name: Tool | "script" | "stty" | "ip"): string {
  const known = found.get(name);
  if (known) return known;
  const path = `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
  for (const directory of path.split(delimiter)) {
    const file = join(directory, name);
    if (directory !== "" && existsSync(file)) {
      found.set(name, file);
      return file;
    }
  }
  throw new MeshError(`${name} is not installed`, {
    hints: ["Install it: apt-get install util-linux coreutils iproute2"],
  });
}

/**
 * Runs as the first process of the container's PID namespace, in its own mount namespace: mounts, makes the new
 * root the only one, and becomes the command. Descriptor 3 gets a "+" right before that, or what went wrong.
 * Arguments: mount pivot_root umount fstab root workdir setpriv-and-its-arguments… -- command…
 */
const LAUNCH = `
fail() { printf '%s' "$1" >&3; exit 128; }
mount=$1 pivot=$2 umount=$3 fstab=$4 root=$5 dir=$6; shift 6
why=$("$mount" --all --fstab "$fstab" 2>&1) || fail "failed to mount the root file system: $why"
cd "$root" && "$pivot" . . && "$umount" -l . || fail "failed to change the root file system"
cd "$dir" || fail "failed to change to the working directory $dir"
seen= ; command= ; for each in "$@"; do
  if [ -n "$seen" ]; then command=$each; break; fi
  if [ "$each" = "--" ]; then seen=1; fi
done
case $command in
  */*) [ -e "$command" ] || fail "exec: \\"$command\\": stat $command: no such file or directory"
       [ -x "$command" ] && [ ! -d "$command" ] || fail "exec: \\"$command\\": permission denied" ;;
  *) command -v "$command" >/dev/null || fail "exec: \\"$command\\": executable file not found in \\$PATH" ;;
esac
printf + >&3
exec "$@" 3>&-
`;

/**
 * Waits for the first process of the container's PID namespace, which is its first child: unshare(1) could do so
 * itself, but it reports a killed container as exit code 1 and complains into its log. Stays silent, too: a shell
 * says "Killed" on stderr. Arguments: the command.
 */
const SUPERVISE = `
exec 4>&2 2>/dev/null
(exec "$@" 2>&4 4>&-)
exit $?
`;

/** Writes the scripts that start containers into `directory`; returns the command they are started with. */
export function installLauncher(directory: string): string[] {
  const [supervisor, launcher] = [join(directory, "supervise.sh"), join(directory, "container.sh")];
  writeFileSync(supervisor, SUPERVISE);
  writeFileSync(launcher, LAUNCH);
  return [tool("sh"), supervisor, tool("sh"), launcher];
}

const RUN = 'cd "$1" || exit 126; shift; exec "$@"';

/** A variable that a shell hands on; others (`my.key`) go through env(1). */
const SHELL_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

function become(command: ContainerCommand): string[] {
  const { identity, argv, environment } = command;
  const args = [
    tool("setpriv"),
    `--reuid=${identity.uid}`,
    `--regid=${identity.gid}`,
    identity.groups.length > 0 ? `--groups=${identity.groups.join(",")}` : "--clear-groups",
  ];
  if (identity.capabilities !== "all") {
    const set = (list: readonly string[]) => ["-all", ...list.map((name) => `+${name}`)].join(",");
    args.push(`--bounding-set=${set(identity.capabilities)}`, `--inh-caps=${set(identity.ambient)}`);
    if (identity.ambient.length > 0) args.push(`--ambient-caps=${set(identity.ambient)}`);
  }
  if (identity.noNewPrivileges) args.push("--no-new-privs");
  const odd = Object.entries(environment).filter(([name]) => !SHELL_NAME.test(name));
  const prefix = odd.length > 0 ? [tool("env"), ...odd.map(([name, value]) => `${name}=${value}`)] : [];
  return [...args, "--", ...prefix, ...argv];
}

function shellEnvironment(environment: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => SHELL_NAME.test(name)));
}

export interface Namespaces {
  /** A process that is in them. Undefined: the node's own. */
  readonly pid: number | undefined;
  readonly network: boolean;
}

function enter(namespaces: Namespaces): string[] {
  const { pid, network } = namespaces;
  if (pid === undefined) return [];
  const kinds = network ? ["net", "uts", "ipc"] : ["uts", "ipc"];
  return [tool("nsenter"), ...kinds.map((kind) => `--${kind}=/proc/${pid}/ns/${kind}`)];
}

/** Starts the process that keeps a pod's namespaces alive. */
export async function startPause(options: { hostname: string; network: boolean }): Promise<ContainerProcess> {
  const flags = options.network ? ["--net", "--uts", "--ipc"] : ["--uts", "--ipc"];
  // Without hostname(1) the pod keeps the node's name; nothing else depends on it.
  const script = 'hostname "$1" 2>/dev/null; exec "$2" infinity 3>&-';
  const child = spawn(
    tool("unshare"),
    [...flags, tool("sh"), "-c", script, "sh", options.hostname, tool("sleep")],
    { stdio: ["ignore", "ignore", "ignore", "pipe"] },
  );
  const exited = exitOf(child);
  await started(child);
  return wrap(child, child.pid!, exited);
}

/** Starts a container's first process. @throws StartError */
export async function startContainer(options: {
  namespaces: Namespaces;
  /** See {@link installLauncher}. */
  launcher: readonly string[];
  fstab: string;
  root: string;
  command: ContainerCommand;
  stdin: boolean;
  /** Descriptors that become stdout and stderr; the caller closes them. */
  output: readonly [number, number];
}): Promise<ContainerProcess> {
  const { command, fstab, root, namespaces } = options;
  const argv = [
    ...enter(namespaces),
    tool("unshare"),
    "--mount",
    "--pid",
    ...options.launcher,
    ...[tool("mount"), tool("pivot_root"), tool("umount"), fstab, root, command.workingDir],
    ...become(command),
  ];
  const child = spawn(argv[0]!, argv.slice(1), {
    stdio: [options.stdin ? "pipe" : "ignore", ...options.output, "pipe"],
    env: shellEnvironment(command.environment),
  });
  // Listened for before anything is awaited: a short-lived process may end first, and its event comes once.
  const exited = exitOf(child);
  await started(child);
  return wrap(child, firstChild(child.pid!) ?? child.pid!, exited);
}

/** Arguments that run a command inside a running container, as `kubectl exec` does. */
export function execArguments(
  pid: number,
  command: ContainerCommand,
): { argv: string[]; env: Record<string, string> } {
  return {
    argv: [
      tool("nsenter"),
      `--target=${pid}`,
      ...["--mount", "--uts", "--ipc", "--net", "--pid"],
      tool("sh"),
      "-c",
      RUN,
      "sh",
      command.workingDir,
      ...become(command),
    ],
    env: shellEnvironment(command.environment),
  };
}

/** The one child that unshare or nsenter waits for; undefined once it has ended. */
export function firstChild(pid: number): number | undefined {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return children === "" ? undefined : Number(children.split(" ")[0]);
  } catch {
    return undefined;
  }
}

/** Resolves when descriptor 3 says "+", or closes without a word. */
function started(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const status = child.stdio[3] as Readable;
    let words = "";
    child.once("error", (error) => reject(new StartError(error.message)));
    status.setEncoding("utf8");
    status.on("data", (text: string) => {
      if (text === "+") {
        resolve();
        status.destroy();
      } else if (words.length < 4096) words += text;
    });
    status.on("error", () => {});
    status.on("close", () => {
      if (words === "") resolve();
      else reject(new StartError(words.replace(/\s*dmesg\(1\)[^\n]*/g, "").trim()));
    });
  });
}

function wrap(child: ChildProcess, pid: number, exited: Promise<Exit>): ContainerProcess {
  let alive = true;
  void exited.then((exit) => {
    alive = false;
    // A killed supervisor leaves the container behind.
    if (exit.signal !== undefined) signal(pid, "SIGKILL");
  });
  return {
    pid,
    stdin: child.stdin ?? undefined,
    exited,
    kill: (name) => {
      if (alive) signal(pid, name);
    },
  };
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // it has just ended
  }
}

/** Resolves once the process has ended. */
export function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once("error", () => resolve({ exitCode: 128 }));
    child.once("exit", (code, signal) => {
      if (signal === null) return resolve({ exitCode: code ?? 0 });
      const number = signalNumber(signal);
      resolve({ exitCode: 128 + number, signal: number });
    });
  });
}

function signalNumber(signal: NodeJS.Signals): number {
  return constants.signals[signal] ?? 9;
}

// A sandbox for end-to-end tests, driven by the built command line as a user would: as an ordinary user where that
// is possible, as root otherwise, and it says which.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../src/util/package-root.ts";
import { freePort } from "./free-port.ts";
import { until } from "./until.ts";

/** An account without rights that root may run the rootless tests as; `.ci/run` makes it. */
const ORDINARY_USER = process.env["MESH_TEST_USER"] ?? "mesh-test";

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Process {
  readonly id: number;
  readonly parent: number;
  /** MB */
  readonly rss: number;
  readonly args: string;
}

export class MeshSandbox {
  readonly directory: string;
  readonly kubeconfig: string;
  /** The user that runs it; undefined: the user who runs the tests. */
  readonly user: string | undefined;
  readonly #package: string;
  #up: readonly string[] = [];

  private constructor() {
    const isRoot = process.geteuid?.() === 0;
    this.user = isRoot && hasSubordinateIds(ORDINARY_USER) ? ORDINARY_USER : undefined;
    this.directory = mkdtempSync(join(tmpdir(), "mesh-e2e-"));
    this.#package = packageRoot();
    if (this.user) {
      this.#package = join(this.directory, "package");
      copyPackage(this.#package);
      mkdirSync(join(this.directory, "state"));
      chmodSync(this.directory, 0o755);
      execFileSync("chown", ["-R", `${this.user}:`, join(this.directory, "state")]);
    }
    this.kubeconfig = join(this.directory, "state", "kubeconfig");
    const mode = !isRoot || this.user ? `rootless${this.user ? ` as ${this.user}` : ""}` : "as root";
    process.stdout.write(`sandbox ${mode} in ${this.directory}\n`);
  }

  static async up(nodes = 1): Promise<MeshSandbox> {
    const sandbox = new MeshSandbox();
    sandbox.#up = ["--dir", sandbox.state, "--port", String(await freePort()), "--nodes", String(nodes)];
    sandbox.#start();
    return sandbox;
  }

  #start(): void {
    const { code, stderr } = this.mesh("sandbox", "up", ...this.#up);
    if (code !== 0) throw new Error(`sandbox up: ${stderr}`);
  }

  /** Kills it with all that runs in it, and starts it again with the state that it had: as a node that lost its power. */
  async restart(): Promise<void> {
    const { pid } = this.#record();
    process.kill(pid, "SIGKILL");
    await until(() => !existsSync(`/proc/${pid}`) || this.tree().length === 1, 10_000, "the sandbox's end");
    this.#start();
  }

  /** The API server forgets the past: a watch from before is answered by 410. */
  compact(): void {
    process.kill(this.processes("sandbox-daemon.js").at(-1)!, "SIGUSR2");
  }

  #record(): { pid: number } {
    return JSON.parse(readFileSync(join(this.state, "process.json"), "utf8"));
  }

  down(): void {
    this.mesh("sandbox", "down", "--delete", "--dir", join(this.directory, "state"));
    rmSync(this.directory, { recursive: true, force: true });
  }

  get state(): string {
    return join(this.directory, "state");
  }

  /** `kubectl mesh …` of the built package. */
  mesh(...args: string[]): Result {
    return this.run([process.execPath, join(this.#package, "bin/run.js"), ...args]);
  }

  kubectl(...args: string[]): Result {
    return this.run(["kubectl", ...args]);
  }

  /** kubectl's output. @throws Error with what it said when it fails */
  ask(...args: string[]): string {
    const { code, stdout, stderr } = this.kubectl(...args);
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  json<T = Record<string, unknown>>(...args: string[]): T {
    return JSON.parse(this.ask(...args, "-o", "json")) as T;
  }

  apply(manifest: string): void {
    const { status, stderr } = spawnSync("kubectl", ["apply", "-f", "-"], {
      input: manifest,
      env: this.#environment(),
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`kubectl apply: ${stderr}`);
  }

  /** Installs the mesh by the commands of the README and waits until it is well. @param flags of `install` */
  install(...flags: string[]): void {
    for (const args of [
      ["install", "--crds", "--apply"],
      ["install", "--apply", ...flags],
      ["check", "--wait", "120s"],
    ]) {
      const { code, stdout, stderr } = this.mesh(...args);
      if (code !== 0) throw new Error(`kubectl mesh ${args.join(" ")}: ${stdout}${stderr}`);
    }
  }

  run(argv: readonly string[], options: { input?: string } = {}): Result {
    const [command, ...args] = this.#as(argv);
    const { status, stdout, stderr } = spawnSync(command!, args, {
      env: this.#environment(),
      encoding: "utf8",
      timeout: 150_000,
      maxBuffer: 64 * 1024 * 1024,
      ...options,
    });
    return { code: status, stdout: stdout ?? "", stderr: stderr ?? "" };
  }

  /** Runs kubectl beside the test; resolves with its output. */
  async meanwhile(...args: string[]): Promise<string> {
    const [command, ...rest] = this.#as(["kubectl", ...args]);
    const child = spawn(command!, rest, { env: this.#environment(), stdio: ["ignore", "pipe", "pipe"] });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk) => (out += chunk));
    child.stderr.on("data", (chunk) => (err += chunk));
    const code = await new Promise((resolve) => child.on("close", resolve));
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${err}`);
    return out;
  }

  /** The sandbox's processes, each with those above it. */
  tree(): Process[] {
    const { pid } = this.#record();
    const rows = execFileSync("ps", ["-eo", "pid=,ppid=,rss=,args="], {
      encoding: "utf8",
      maxBuffer: 64 * 1024 * 1024,
    })
      .split("\n")
      .map((line) => /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(.*)$/.exec(line))
      .filter((row) => row !== null)
      .map((row) => ({
        id: Number(row[1]),
        parent: Number(row[2]),
        rss: Number(row[3]) / 1024,
        args: row[4]!,
      }));
    const inside = new Set([pid]);
    for (let grown = true; grown; ) {
      grown = false;
      for (const { id, parent } of rows) {
        if (inside.has(parent) && !inside.has(id)) {
          inside.add(id);
          grown = true;
        }
      }
    }
    return rows.filter(({ id }) => inside.has(id));
  }

  /** The sandbox's processes whose command line has `text`, by their ids here. */
  processes(text: string): number[] {
    return this.tree()
      .filter(({ args }) => args.includes(text))
      .map(({ id }) => id);
  }

  /** Runs a command in the node's network namespace. @throws Error with what it said when it fails */
  node(...argv: string[]): string {
    return output(this.onNode(argv));
  }

  /** Runs a command in the network namespace of a pod's process. @throws Error with what it said when it fails */
  pod(process: number, ...argv: string[]): string {
    return output(this.onNode(argv, process));
  }

  /** Arguments that run a command in the node's network namespace, or in that of a process. */
  onNode(argv: readonly string[], of?: number): string[] {
    const [daemon] = this.processes("sandbox-daemon.js").slice(-1);
    const enter =
      this.user === undefined && process.geteuid?.() === 0 ? [] : ["-U", "--preserve-credentials"];
    const network = of === undefined ? "-n" : `-n/proc/${of}/ns/net`;
    return this.#as(["nsenter", "-t", String(daemon), network, ...enter, ...argv]);
  }

  #as(argv: readonly string[]): string[] {
    if (!this.user) return [...argv];
    return ["setpriv", `--reuid=${this.user}`, `--regid=${this.user}`, "--init-groups", ...argv];
  }

  #environment(): NodeJS.ProcessEnv {
    const { NODE_OPTIONS: _options, ...rest } = process.env;
    return {
      ...rest,
      KUBECONFIG: this.kubeconfig,
      HOME: this.user ? this.state : process.env["HOME"],
      NO_COLOR: "1",
    };
  }
}

function output([command, ...args]: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command!, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${[command, ...args].join(" ")}: ${stderr}`);
  return stdout;
}

function hasSubordinateIds(user: string): boolean {
  const known = spawnSync("id", ["-u", user]).status === 0;
  return known && existsSync("/etc/subuid") && readFileSync("/etc/subuid", "utf8").includes(`${user}:`);
}

/** What is published, where every user can read it: a checkout may lie in a private directory. */
function copyPackage(target: string): void {
  const root = packageRoot();
  mkdirSync(target, { recursive: true });
  for (const part of [
    "bin",
    "dist",
    "package.json",
    "oclif.manifest.json",
    "node_modules/koffi",
    "node_modules/@koromix",
  ]) {
    cpSync(join(root, part), join(target, part), { recursive: true });
  }
}

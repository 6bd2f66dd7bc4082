// Runs what is measured: processes pinned to a core, their CPU and memory from /proc, rounds in turns.
//
// The proxies under test run on core 0, load and back ends on core 1, so that the one's hunger is not the other's.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BuildOptions, build } from "esbuild";
import { packageRoot } from "../src/util/package-root.ts";

/** Where the proxies run. */
export const PROXY_CORE = 0;
/** Where load and back ends run. */
export const LOAD_CORE = 1;

/** /proc counts CPU time in ticks of this many µs (USER_HZ is 100 everywhere). */
const TICK_US = 10_000;
/** Ports are taken from here up: below what the kernel gives to outgoing connections. */
const FIRST_PORT = 18_000;
const LAST_PORT = 32_000;
/** How much of a child's complaints is kept for its obituary, characters. */
const LAST_WORDS = 2_000;
/** A child that does not listen by then never will, ms. */
const START_TIMEOUT = 15_000;
/** What ends a bench from outside, by its number. */
const FATAL_SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

export interface BenchOptions {
  /** Length of one measurement, s. */
  readonly seconds: number;
  /** Measurements of each subject; their medians are told. */
  readonly rounds: number;
  /** Short waits everywhere: figures of a trial, not for publication. */
  readonly quick: boolean;
  /** Where our proxies write their CPU profiles; undefined: they do not. */
  readonly profile: string | undefined;
}

/** CPU time so far, µs. */
export interface CpuTime {
  readonly user: number;
  readonly system: number;
}

/** Memory now, MB: what each further copy of the process costs, and all that is mapped in. */
export interface Memory {
  readonly anonymous: number;
  readonly rss: number;
}

/** A process that the harness started. */
export class Child {
  readonly name: string;
  readonly process: ChildProcess;
  /** Resolves when it is gone. */
  readonly exited: Promise<void>;
  /** What it has written to standard output. */
  output = "";
  #complaints = "";

  constructor(name: string, process: ChildProcess) {
    this.name = name;
    this.process = process;
    process.stdout!.on("data", (chunk) => {
      this.output += chunk;
    });
    process.stderr!.on("data", (chunk) => {
      this.#complaints = (this.#complaints + chunk).slice(-LAST_WORDS);
    });
    this.exited = new Promise((resolve) => {
      process.once("exit", () => resolve());
      process.once("error", (error) => {
        this.#complaints += error.message;
        resolve();
      });
    });
  }

  get gone(): boolean {
    const { exitCode, signalCode, pid } = this.process;
    return exitCode !== null || signalCode !== null || pid === undefined;
  }

  /** Why it failed, for a person. */
  get obituary(): string {
    const { exitCode, signalCode } = this.process;
    const said = tellingLine(this.#complaints);
    return `${this.name} ended (${signalCode ?? exitCode ?? "not started"})${said ? `: ${said}` : ""}`;
  }

  cpu(): CpuTime {
    const stat = readFileSync(`/proc/${this.process.pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { user: Number(fields[11]) * TICK_US, system: Number(fields[12]) * TICK_US };
  }

  memory(): Memory {
    const text = readFileSync(`/proc/${this.process.pid}/smaps_rollup`, "latin1");
    const field = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0) / 1_024;
    return { anonymous: field("Anonymous"), rss: field("Rss") };
  }
}

/** Of a stack trace or log, the line that says what went wrong. */
function tellingLine(text: string): string | undefined {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.findLast((line) => /error|alert|fatal/i.test(line)) ?? lines.findLast((line) => line !== "");
}

/** What a core has done so far, µs, whoever it was for; of that, what the machine below gave to other machines. */
export function coreTime(core: number): { readonly busy: number; readonly stolen: number } {
  const line = readFileSync("/proc/stat", "latin1").match(new RegExp(`^cpu${core} (.*)$`, "m"));
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (line?.[1] ?? "")
    .split(" ")
    .map(Number);
  return { busy: (user + nice + system + irq + softirq + steal) * TICK_US, stolen: steal * TICK_US };
}

/** Something that carries traffic on `port`, by these processes. */
export interface Running {
  readonly port: number;
  /** The proxies that are measured; none for a direct connection. */
  readonly processes: readonly Child[];
  /** Where those of ours answer probes and scrapes. */
  readonly admin?: readonly number[];
}

/** Programs of this directory that run as processes of their own, as in the image: one bundle each. */
const PROGRAMS = [
  "load/open-loop.ts",
  "load/grpc-stream.ts",
  "load/handshake.ts",
  "peers/naive.ts",
  "peers/grpc-server.ts",
];

export class Bench {
  readonly options: BenchOptions;
  /** For configuration files and certificates; gone at the end. */
  readonly directory: string;
  readonly #bundles: string;
  readonly #children = new Set<Child>();
  readonly #cleanups: (() => Promise<void> | void)[] = [];
  #lastPort = FIRST_PORT + (process.pid % 1_000);

  private constructor(options: BenchOptions) {
    this.options = options;
    this.directory = mkdtempSync(join(tmpdir(), "mesh-bench-"));
    // Below the package, so that the proxy's one native dependency is found.
    this.#bundles = join(packageRoot(), ".cache", `bench-${process.pid}`);
  }

  /** Builds the programs that will run; `extra` adds bundles with their own options. */
  static async open(options: BenchOptions, extra: readonly BuildOptions[] = []): Promise<Bench> {
    const bench = new Bench(options);
    mkdirSync(bench.#bundles, { recursive: true });
    bench.#endWithProcess();
    const here = new URL(".", import.meta.url).pathname;
    const shared: BuildOptions = {
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node20.19",
      minifySyntax: true,
      minifyWhitespace: true,
      external: ["koffi"],
      outdir: bench.#bundles,
      outExtension: { ".js": ".mjs" },
      logLevel: "error",
    };
    await Promise.all([
      build({ ...shared, entryPoints: PROGRAMS.map((file) => join(here, file)), outbase: here }),
      ...extra.map((one) => build({ ...shared, ...one })),
    ]);
    return bench;
  }

  /** Where a bundled program is, by its path in this directory. */
  program(file: string): string {
    return join(this.#bundles, file.replace(/\.ts$/, ".mjs"));
  }

  /** A file in the bench's directory. @returns its path */
  write(name: string, text: string): string {
    const file = join(this.directory, name);
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  }

  /** Has `fn` run at the end, last come first. */
  onClose(fn: () => Promise<void> | void): void {
    this.#cleanups.push(fn);
  }

  start(
    name: string,
    core: number | readonly number[],
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): Child {
    const child = new Child(
      name,
      spawn("taskset", ["-c", String(core), command, ...args], {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, ...env },
      }),
    );
    this.#children.add(child);
    void child.exited.then(() => this.#children.delete(child));
    return child;
  }

  /** Runs a command to its end. @returns its standard output @throws Error with its last words when it fails */
  async run(
    name: string,
    core: number,
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): Promise<string> {
    const child = this.start(name, core, command, args, env);
    await child.exited;
    if (child.process.exitCode !== 0) throw new Error(child.obituary);
    return child.output;
  }

  /** Resolves once `child` accepts connections. @throws Error when it ends before, or takes too long */
  async listening(child: Child, port: number): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT;
    while (performance.now() < deadline) {
      if (child.gone) throw new Error(child.obituary);
      if (await accepts(port)) return;
      await sleep(20);
    }
    throw new Error(`${child.name} does not listen on port ${port}`);
  }

  /** A port that nothing listens on. */
  async port(): Promise<number> {
    for (let tries = 0; tries < LAST_PORT - FIRST_PORT; tries += 1) {
      this.#lastPort = this.#lastPort >= LAST_PORT ? FIRST_PORT : this.#lastPort + 1;
      if (await isFree(this.#lastPort)) return this.#lastPort;
    }
    throw new Error("no port is free");
  }

  async stop(processes: Iterable<Child>): Promise<void> {
    const { profile } = this.options;
    await Promise.all(
      [...processes].map((child) => {
        // Told politely, Node writes the profile that it was asked for.
        if (!child.gone) child.process.kill(profile ? "SIGINT" : "SIGKILL");
        return child.exited;
      }),
    );
  }

  async close(): Promise<void> {
    this.#endNow();
    for (const cleanup of this.#cleanups.reverse()) await cleanup();
  }

  /** However this process ends, told to or by an error that nobody handles, nothing that it started outlives it. */
  #endWithProcess(): void {
    process.once("exit", this.#endNow);
    for (const [signal, number] of Object.entries(FATAL_SIGNALS))
      process.once(signal, () => process.exit(128 + number));
  }

  /** Nothing here may wait: it is also done where no event loop runs any more. */
  readonly #endNow = (): void => {
    for (const child of this.#children) child.process.kill("SIGKILL");
    rmSync(this.directory, { recursive: true, force: true });
    rmSync(this.#bundles, { recursive: true, force: true });
  };
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("error", () => resolve(false));
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

// A walk through several commands: each step says what it does, shows the command that a person would type, runs
// it and tells how it went.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { MeshError } from "../util/error.ts";
import { packageRoot } from "../util/package-root.ts";
import { startProgress } from "./progress.ts";
import type { Style } from "./style.ts";

export interface JourneyOptions {
  readonly style: Style;
  readonly write: (text: string) => void;
  /** Steps in all, for the numbers. */
  readonly total: number;
  readonly now: () => number;
}

export class Journey {
  readonly #options: JourneyOptions;
  #step = 0;

  constructor(options: JourneyOptions) {
    this.#options = options;
  }

  /**
   * One step. `work` may return a remark for the line that ends it.
   * @param command what a person would type
   */
  async step(
    title: string,
    command: string,
    work: (say: (text: string) => void) => Promise<string | undefined>,
  ) {
    const { style, write, total, now } = this.#options;
    this.#step += 1;
    write(`\n${style.strong(`${this.#step}/${total}  ${title}`)}\n`);
    write(`     ${style.faint("$")} ${style.literal(command)}\n`);
    const started = now();
    const progress = startProgress(title, process.stdout);
    let remark: string | undefined;
    try {
      remark = await work((text) => progress.update(text));
    } finally {
      progress.stop();
    }
    const seconds = ((now() - started) / 1000).toFixed(1);
    write(`     ${style.ok("√")} ${remark ?? "done"} ${style.faint(`(${seconds} s)`)}\n`);
  }
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly stdin?: string;
  /** The child writes to our terminal itself. */
  readonly inherit?: boolean;
}

/** Most of a child's output that is kept, characters. */
const MAX_OUTPUT = 16 << 20;
/** Lines of a failed child's output that are shown. */
const TAIL = 15;

/**
 * Runs a program to its end and returns its standard output.
 * @param shown how the command is called in errors
 * @throws MeshError with the end of its output when it fails
 */
export function run(
  program: string,
  args: readonly string[],
  shown: string,
  options: RunOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, ...options.env },
      stdio: options.inherit ? "inherit" : ["pipe", "pipe", "pipe"],
    });
    let stdout = "";
    let all = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (stdout.length < MAX_OUTPUT) stdout += text;
      all = (all + text).slice(-16_384);
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      all = (all + text).slice(-16_384);
    });
    // A child that ends early does not read on: its exit code tells.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.stdin ?? "");
    child.on("error", (cause) => reject(new MeshError(`cannot run ${shown}: ${cause.message}`, { cause })));
    child.on("close", (code, signal) => {
      if (code === 0) return resolve(stdout);
      const why = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
      reject(failure(`${shown} ${why}`, all));
    });
  });
}

/** One of our own commands tells its error and hints in our way: they become this error's. */
function failure(what: string, output: string): MeshError {
  const lines = output.trim().split("\n");
  const error = lines.findLastIndex((line) => line.startsWith("Error: "));
  if (error < 0) return new MeshError(what, { hints: lines.slice(-TAIL) });
  const hints = lines.slice(error + 1).map((line) => line.replace(/^\s*→ /, ""));
  return new MeshError(lines[error]!.slice("Error: ".length), { hints: [...hints, `(${what})`] });
}

/** Runs one of our own commands, as a person would. */
export function runMesh(args: readonly string[], options: RunOptions = {}): Promise<string> {
  return run(
    process.execPath,
    [join(packageRoot(), "bin/run.js"), ...args],
    `kubectl mesh ${args.join(" ")}`,
    options,
  );
}

/** The program's path, if it is installed. */
export function findProgram(name: string, path = process.env["PATH"] ?? ""): string | undefined {
  return path
    .split(delimiter)
    .concat("/usr/sbin", "/sbin")
    .map((directory) => join(directory, name))
    .find((file) => existsSync(file));
}

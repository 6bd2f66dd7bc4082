// A command run inside a container for a client, with or without a terminal.
import { spawn } from "node:child_process";
import { readlinkSync } from "node:fs";
import { PassThrough } from "node:stream";
import type { ExecOptions, ExecSession } from "../node-api.ts";
import type { LogWriter } from "./log-file.ts";
import { makePipes } from "./pipes.ts";
import { type ContainerCommand, execArguments, exitOf, firstChild, tool } from "./process.ts";
import type { LaunchedInstance } from "./runtime.ts";

/** `pid`: the container's first process; `base`: how the container itself runs. */
export async function startExec(
  pid: number,
  base: ContainerCommand,
  options: ExecOptions,
  scratch: string,
): Promise<ExecSession> {
  const command = { ...base, argv: options.command };
  if (options.tty) return withTerminal(pid, command, options);
  const { argv, env } = execArguments(pid, command);
  const [stdout, stderr] = await makePipes(scratch, 2);
  const child = spawn(argv[0]!, argv.slice(1), {
    env,
    stdio: [options.stdin ? "pipe" : "ignore", stdout!.writer, stderr!.writer],
  });
  stdout!.closeWriter();
  stderr!.closeWriter();
  child.stdin?.on("error", () => {}); // the command may not want all of it
  return {
    stdin: child.stdin ?? nowhere(),
    stdout: stdout!.readable,
    stderr: stderr!.readable,
    resize: () => {},
    exit: exitOf(child).then(({ exitCode }) => exitCode),
    close: () => kill(firstChild(child.pid!) ?? child.pid!),
  };
}

/** script(1) gives the command a terminal of its own; ending it hangs up. */
function withTerminal(pid: number, command: ContainerCommand, options: ExecOptions): ExecSession {
  const environment = { TERM: "xterm", ...command.environment };
  const { argv, env } = execArguments(pid, { ...command, environment });
  const line = argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const child = spawn(tool("script"), ["-q", "-e", "-f", "-c", `exec ${line}`, "/dev/null"], {
    env: { ...env, SHELL: tool("sh") },
    stdio: [options.stdin ? "pipe" : "ignore", "pipe", "pipe"],
  });
  child.stdin?.on("error", () => {});
  const stderr = new PassThrough();
  stderr.end();
  child.stderr!.resume();
  let size: readonly [number, number] | undefined;
  let applying = false;
  let ended = false;
  const exit = exitOf(child).then(({ exitCode }) => {
    ended = true;
    return exitCode;
  });
  const apply = () => {
    if (ended || !size) return;
    const terminal = terminalOf(child.pid!);
    applying = terminal === undefined;
    // The terminal appears a moment after script has started.
    if (terminal === undefined) return void setTimeout(apply, 20).unref();
    const [columns, rows] = size;
    spawn(tool("stty"), ["-F", terminal, "cols", String(columns), "rows", String(rows)], {
      stdio: "ignore",
    }).on("error", () => {});
  };
  return {
    stdin: child.stdin ?? nowhere(),
    stdout: child.stdout!,
    stderr,
    resize: (width, height) => {
      size = [width, height];
      if (!applying) apply();
    },
    exit,
    close: () => kill(child.pid!),
  };
}

function terminalOf(script: number): string | undefined {
  const child = firstChild(script);
  if (child === undefined) return undefined;
  try {
    const target = readlinkSync(`/proc/${child}/fd/0`);
    return target.startsWith("/dev/pts/") ? target : undefined;
  } catch {
    return undefined;
  }
}

function nowhere(): PassThrough {
  const stream = new PassThrough();
  stream.resume();
  return stream;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended
  }
}

/** Follows what a container says from now on, and feeds its stdin if it has one. */
export function attach(instance: LaunchedInstance, log: LogWriter): ExecSession {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const detach = log.tap((stream, chunk) => (stream === "stdout" ? stdout : stderr).write(chunk));
  const close = () => {
    detach();
    stdout.end();
    stderr.end();
  };
  return {
    stdin: instance.process.stdin ?? nowhere(),
    stdout,
    stderr,
    resize: () => {},
    exit: instance.exited.then(async ({ exitCode }) => {
      await log.ended;
      close();
      return exitCode;
    }),
    close,
  };
}

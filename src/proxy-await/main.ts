// Waits until the pod's proxy is ready; then it ends, or runs a command whose end it can tell the proxy of. By it a
// proxy that is no native sidecar holds back the application's start, and a Job with one ends.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { errorMessage } from "../util/error.ts";
import { ask } from "./ask.ts";
import { type AwaitOptions, parseOptions } from "./options.ts";

/** As sysexits.h numbers them: a wrong command line; a service that is not there; a program that cannot be run. */
const EX_USAGE = 64;
const EX_UNAVAILABLE = 69;
const EX_OSERR = 71;

/** What stops a container must stop its command. */
const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

/**
 * Runs with `argv` and resolves to the exit code: the command's, or 0; 69 when the proxy is not ready in time, 64 for
 * wrong flags, 71 when there is no such command.
 */
export async function main(
  argv: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
  tell: (line: string) => void = (line) => void process.stderr.write(`proxy-await: ${line}\n`),
): Promise<number> {
  let options: AwaitOptions;
  try {
    options = parseOptions(argv, env);
  } catch (error) {
    tell(errorMessage(error));
    return EX_USAGE;
  }
  if (options.disabled !== undefined) tell(`not waiting for the proxy: ${options.disabled}`);
  else {
    const reason = await unready(options);
    if (reason !== undefined) {
      tell(`the proxy at ${options.port} is not ready after ${options.timeout} ms: ${reason}`);
      return EX_UNAVAILABLE;
    }
  }
  if (options.command.length === 0) return 0;
  const code = await run(options.command, tell);
  if (options.shutdown && options.disabled === undefined) await endProxy(options, tell);
  return code;
}

/** Waits; resolves to why the proxy is not ready when the time is over. */
async function unready({ port, timeout, backoff }: AwaitOptions): Promise<string | undefined> {
  const deadline = timeout === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeout;
  let last: string | undefined;
  for (;;) {
    const left = deadline - performance.now();
    const answer = await ask("GET", port, "/ready", left);
    if (answer === "ok") return undefined;
    // The last question may have had no time for an answer: what was said before tells more.
    if (performance.now() + backoff >= deadline) return last ?? answer;
    last = answer;
    await new Promise((resolve) => setTimeout(resolve, backoff));
  }
}

/** Runs the command with our streams and signals; its exit code as a shell tells it. */
function run([program, ...args]: readonly string[], tell: (line: string) => void): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(program!, args, { stdio: "inherit" });
    const relays = SIGNALS.map((signal) => [signal, () => void child.kill(signal)] as const);
    for (const [signal, relay] of relays) process.on(signal, relay);
    const done = (code: number) => {
      for (const [signal, relay] of relays) process.off(signal, relay);
      resolve(code);
    };
    child.on("error", (error) => {
      tell(`cannot run ${program}: ${errorMessage(error)}`);
      done(EX_OSERR);
    });
    child.on("exit", (code, signal) => done(code ?? 128 + (signal ? constants.signals[signal] : 0)));
  });
}

/** The command's result stands, whatever becomes of this. */
async function endProxy({ port }: AwaitOptions, tell: (line: string) => void): Promise<void> {
  const answer = await ask("POST", port, "/shutdown", Number.POSITIVE_INFINITY);
  if (answer !== "ok")
    tell(
      `the proxy was not told to end: ${answer}; its pod needs the annotation config.linkerd.io/proxy-admin-shutdown: enabled`,
    );
}

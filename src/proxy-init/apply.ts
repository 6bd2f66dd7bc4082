// Puts the rules into the kernel: finds an iptables that works here and applies everything in one transaction.
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import type { Logger } from "../log/logger.ts";
import { errorCode, errorMessage, MeshError } from "../util/error.ts";
import type { InitOptions, Mode } from "./options.ts";
import { redirectRules, restoreScript } from "./rules.ts";

/** What running a program came to; `missing` when there is no such program. */
export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly missing: boolean;
}

export type Run = (command: string, args: readonly string[], input: string) => Promise<RunResult>;

interface Backend {
  readonly restore: string;
  readonly save: string;
}

/** nft first: it is what kernels have today. */
const BACKENDS: Readonly<Record<Exclude<Mode, "auto">, string>> = {
  nft: "iptables-nft",
  plain: "iptables",
  legacy: "iptables-legacy",
};

/** The programs to try, in order. */
export function backends(options: InitOptions, family: 4 | 6): Backend[] {
  const named = (bin: string, save = `${bin}-save`): Backend => {
    const of = (program: string) => (family === 6 ? program.replace("iptables", "ip6tables") : program);
    return { restore: of(`${bin}-restore`), save: of(save) };
  };
  if (options.firewallBin) return [named(options.firewallBin, options.firewallSaveBin)];
  const modes = options.mode === "auto" ? (["nft", "plain", "legacy"] as const) : [options.mode];
  return modes.map((mode) => named(BACKENDS[mode]));
}

/** Seconds to wait for a lock that another program holds. */
const WAIT_S = "5";

/**
 * Lays the redirect of one address family with the first backend that takes it.
 * @returns the backend's name
 * @throws MeshError that says why none did
 */
export async function applyRules(
  options: InitOptions,
  family: 4 | 6,
  run: Run,
  log: Logger,
): Promise<string> {
  const rules = redirectRules(options.redirect, family);
  const failures: { program: string; result: RunResult }[] = [];
  for (const { restore, save } of backends(options, family)) {
    const current = await run(save, ["-t", "nat"], "");
    if (current.code !== 0) {
      failures.push({ program: save, result: current });
      continue;
    }
    const script = restoreScript(rules, current.stdout);
    log.debug("applying", { program: restore, script });
    const args = ["--noflush", ...(options.wait ? ["-w", WAIT_S] : [])];
    const result = await run(restore, args, script);
    if (result.code === 0) return restore.replace(/-restore$/, "");
    failures.push({ program: restore, result });
  }
  throw explain(failures);
}

function explain(failures: readonly { program: string; result: RunResult }[]): MeshError {
  if (failures.every(({ result }) => result.missing)) {
    return new MeshError(`none of ${failures.map(({ program }) => program).join(", ")} is installed`, {
      hints: ["Debian and Ubuntu: apt-get install iptables"],
    });
  }
  const told = failures.filter(({ result }) => !result.missing);
  const message = told
    .map(
      ({ program, result }) => `${program}: ${result.stderr.trim().split("\n")[0] || `exit ${result.code}`}`,
    )
    .join("; ");
  const denied = told.every(({ result }) =>
    /permission denied|operation not permitted|must be root/i.test(result.stderr),
  );
  return new MeshError(`the redirect rules were refused: ${message}`, {
    hints: denied
      ? [
          "this container needs the capabilities NET_ADMIN and NET_RAW",
          "a pod security standard (baseline, restricted) may forbid them: label the namespace pod-security.kubernetes.io/enforce=privileged",
        ]
      : [
          "the node's kernel needs nat tables with owner and multiport matches (modules xt_owner, xt_multiport, xt_REDIRECT)",
        ],
  });
}

const CLOSE_WAIT = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";

/** Sets how long conntrack keeps half-closed connections. @throws MeshError without the privilege to */
export async function setCloseWaitTimeout(seconds: number, file = CLOSE_WAIT): Promise<void> {
  try {
    await writeFile(file, `${seconds}\n`);
  } catch (cause) {
    throw new MeshError(`cannot set the CLOSE_WAIT timeout: ${file}: ${errorMessage(cause)}`, {
      hints: ["this setting needs a privileged init container: set proxyInit.privileged"],
      cause,
    });
  }
}

/** Output of a program beyond this is cut. */
const MAX_OUTPUT = 4 * 1024 * 1024;

/** Runs a program with `input` on stdin. */
export const runProgram: Run = (command, args, input) =>
  new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    const out = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (chunk: string) => {
        if (out[name].length < MAX_OUTPUT) out[name] += chunk;
      });
    }
    child.on("error", (error) => {
      resolve({ code: 127, stdout: "", stderr: errorMessage(error), missing: errorCode(error) === "ENOENT" });
    });
    child.on("close", (code) => resolve({ code: code ?? 1, ...out, missing: false }));
    // A program that ends early closes its stdin; its exit says why.
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });

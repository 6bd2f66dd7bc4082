// Runs the system's network tools (ip, nsenter, iptables-restore) with text on stdin and a deadline.
import { spawn } from "node:child_process";
import { errorCode, MeshError } from "../../util/error.ts";

export type RunCommand = (command: string, args: readonly string[], input?: string) => Promise<string>;

const TIMEOUT_MS = 15_000;
const MAX_OUTPUT = 64 * 1024;

/** Resolves with stdout. @throws MeshError with the tool's own words when it fails, is missing or hangs. */
export const runCommand: RunCommand = (command, args, input) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], timeout: TIMEOUT_MS });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      if (stdout.length < MAX_OUTPUT) stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      if (stderr.length < MAX_OUTPUT) stderr += text;
    });
    child.stdin.on("error", () => {}); // the tool may refuse its input early; its exit says why
    child.on("error", (error) => {
      const missing = errorCode(error) === "ENOENT";
      reject(
        new MeshError(missing ? `${command} is not installed` : `${command}: ${error.message}`, {
          cause: error,
          hints: missing ? ["Install it: apt-get install iproute2 iptables util-linux"] : [],
        }),
      );
    });
    child.on("close", (code, signal) => {
      if (code === 0) resolve(stdout);
      else {
        const why = stderr.trim() || stdout.trim() || (signal ? `ended by ${signal}` : `exit code ${code}`);
        reject(new MeshError(`${command} ${args.join(" ")}: ${why}`));
      }
    });
    child.stdin.end(input ?? "");
  });

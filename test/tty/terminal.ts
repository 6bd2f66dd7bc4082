// A real terminal for tests: tmux on a private socket. Waits for content, never for time.
import { execFile, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { packageRoot } from "../../src/util/package-root.ts";
import { until } from "../support/until.ts";

const run = promisify(execFile);

export interface Terminal {
  /** What is on the screen now. */
  screen(): Promise<string>;
  /** Waits until the screen shows `text`. */
  shows(text: string | RegExp): Promise<string>;
  /** tmux key names: `q`, `Down`, `Escape`, `C-c` … */
  press(...keys: string[]): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  close(): Promise<void>;
}

/** Whether this machine can run terminal tests; says so when not. */
export function hasTmux(): boolean {
  const found = spawnSync("tmux", ["-V"]).status === 0;
  if (!found) process.stdout.write("skipped: tmux is not installed\n");
  return found;
}

/** Starts a shell of the given size and types `command` into it. */
export async function openTerminal(command: string, columns: number, rows: number): Promise<Terminal> {
  const socket = `mesh-test-${randomBytes(4).toString("hex")}`;
  const tmux = (...args: string[]) => run("tmux", ["-L", socket, "-f", "/dev/null", ...args]);
  await tmux(
    "new-session",
    "-d",
    "-x",
    String(columns),
    "-y",
    String(rows),
    "-c",
    packageRoot(),
    "env PS1='$ ' ENV= sh",
  );
  await tmux("set-option", "-g", "status", "off");
  await tmux("resize-window", "-x", String(columns), "-y", String(rows));
  const screen = async () => (await tmux("capture-pane", "-p")).stdout;
  const terminal: Terminal = {
    screen,
    shows: async (text) => {
      let last = "";
      const found = until(async () => {
        last = await screen();
        return typeof text === "string" ? last.includes(text) : text.test(last);
      }, 20_000);
      await found.catch(() => {
        throw new Error(`the screen never showed ${text}; it shows:\n${last}`);
      });
      return last;
    },
    press: async (...keys) => void (await tmux("send-keys", ...keys)),
    resize: async (x, y) => void (await tmux("resize-window", "-x", String(x), "-y", String(y))),
    close: async () => void (await tmux("kill-server")),
  };
  await terminal.shows("$ ");
  // ink draws only the last frame when it believes to run in CI.
  await terminal.press(`CI=false ${command}`, "Enter");
  return terminal;
}

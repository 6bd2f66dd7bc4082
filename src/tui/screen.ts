// A full screen for ink: the alternate screen while it runs, the person's own screen back however it ends.
import chalk from "chalk";
import { type Instance, render } from "ink";
import type { ReactNode } from "react";
import { colorLevel } from "../cli/style.ts";

const ENTER = "\x1b[?1049h\x1b[H\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";

/** Shows `node` until it exits by itself (useApp) or the process is told to end. */
export async function showFullScreen(
  node: ReactNode,
  stdout: NodeJS.WriteStream = process.stdout,
): Promise<void> {
  chalk.level = colorLevel(stdout);
  let left = false;
  const leave = () => {
    if (left) return;
    left = true;
    stdout.write(LEAVE);
  };
  let app: Instance | undefined;
  const end = () => app?.unmount();
  stdout.write(ENTER);
  // The last line of defence: a crash must not leave the terminal on the other screen.
  process.once("exit", leave);
  for (const signal of ["SIGTERM", "SIGHUP"] as const) process.once(signal, end);
  try {
    // Not ink's incrementalRendering: in 6.8 each of its frames begins one line too low.
    app = render(node, { stdout, exitOnCtrlC: true, maxFps: 15 });
    await app.waitUntilExit();
  } finally {
    leave();
    process.off("exit", leave);
    for (const signal of ["SIGTERM", "SIGHUP"] as const) process.off(signal, end);
  }
}

// Colours, behind one door: on for a terminal, off for pipes, NO_COLOR and TERM=dumb; FORCE_COLOR wins.
import { Chalk, type ChalkInstance } from "chalk";

/** Colour depth for a stream: 0 means plain text. */
export function colorLevel(
  stream: { isTTY?: boolean | undefined },
  env: NodeJS.ProcessEnv = process.env,
): 0 | 1 | 2 | 3 {
  const forced = env["FORCE_COLOR"];
  if (forced !== undefined && forced !== "") return forced === "0" || forced === "false" ? 0 : 1;
  if (env["NO_COLOR"] || env["TERM"] === "dumb" || !stream.isTTY) return 0;
  if (/^(truecolor|24bit)$/.test(env["COLORTERM"] ?? "")) return 3;
  return /256/.test(env["TERM"] ?? "") ? 2 : 1;
}

export interface Style {
  readonly ok: (text: string) => string;
  readonly warn: (text: string) => string;
  readonly error: (text: string) => string;
  readonly strong: (text: string) => string;
  readonly faint: (text: string) => string;
  /** Commands, addresses, names that a reader may copy. */
  readonly literal: (text: string) => string;
}

function styleFor(chalk: ChalkInstance): Style {
  return {
    ok: chalk.green,
    warn: chalk.yellow,
    error: chalk.red,
    strong: chalk.bold,
    faint: chalk.dim,
    literal: chalk.cyan,
  };
}

/** The style of one stream, by default stdout. */
export function createStyle(
  stream: { isTTY?: boolean | undefined } = process.stdout,
  env: NodeJS.ProcessEnv = process.env,
): Style {
  return styleFor(new Chalk({ level: colorLevel(stream, env) }));
}

/** Text without its colour codes. */
export function plain(text: string): string {
  return text.replace(/\x1b\[[0-9;]*m/g, "");
}

// The command line, with the flags and environment variables of linkerd-await.
import { parseArgs } from "node:util";
import { parseDuration } from "../util/duration.ts";

export interface AwaitOptions {
  /** The proxy's admin port, on the loopback interface. */
  readonly port: number;
  /** Between two questions, ms. */
  readonly backoff: number;
  /** ms; undefined: without end. */
  readonly timeout: number | undefined;
  /** Tell the proxy to end after the command. */
  readonly shutdown: boolean;
  /** Run when the proxy is ready; may be empty. */
  readonly command: readonly string[];
  /** Why nothing is waited for, if so. */
  readonly disabled: string | undefined;
}

const FLAGS = {
  port: { type: "string", short: "p" },
  backoff: { type: "string", short: "b" },
  timeout: { type: "string", short: "t" },
  shutdown: { type: "boolean", short: "S" },
} as const;

/** @throws RangeError or TypeError that names the flag */
export function parseOptions(argv: readonly string[], env: NodeJS.ProcessEnv): AwaitOptions {
  const end = argv.indexOf("--");
  const own = end < 0 ? argv : argv.slice(0, end);
  const { values } = parseArgs({ args: [...own], options: FLAGS, strict: true, allowPositionals: false });
  const command = end < 0 ? [] : argv.slice(end + 1);
  if (values.shutdown && command.length === 0)
    throw new RangeError("--shutdown: expected a command after --, whose end is told to the proxy");
  const named = <T>(flag: "port" | "backoff" | "timeout", parse: (text: string) => T, fallback: T): T => {
    const given = values[flag];
    if (given === undefined) return fallback;
    try {
      return parse(given);
    } catch (cause) {
      throw new RangeError(`--${flag}: ${(cause as Error).message}`, { cause });
    }
  };
  return {
    port: named("port", portNumber, 4191),
    backoff: named("backoff", parseDuration, 100),
    timeout: named<number | undefined>("timeout", parseDuration, undefined),
    shutdown: values.shutdown === true,
    command,
    disabled: ["LINKERD_AWAIT_DISABLED", "LINKERD_DISABLED"]
      .filter((name) => (env[name] ?? "") !== "")
      .map((name) => `${name} is set (${env[name]})`)[0],
  };
}

function portNumber(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new RangeError(`expected a port, got ${JSON.stringify(text)}`);
  return port;
}

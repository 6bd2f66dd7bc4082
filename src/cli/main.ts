// Runs one command line: finds the command, reports what goes wrong, ends with the right exit code.
import { Config, run, settings } from "@oclif/core";
import { nearest } from "../util/nearest.ts";
import { packageRoot } from "../util/package-root.ts";
import { describeError, renderError, usageError } from "./errors.ts";
import { createStyle } from "./style.ts";

/** How hints call us, as kubectl users type it; package.json tells oclif's help the same. */
export const PROGRAM = "kubectl mesh";

type LoadOptions = Exclude<Parameters<typeof Config.load>[0], string | undefined>;

/**
 * Runs `argv` (without node and script).
 * @returns the exit code; see errors.ts for their meaning.
 */
export async function main(argv: readonly string[], load?: LoadOptions): Promise<number> {
  settings.enableAutoTranspile = false;
  // `kubectl mesh help stat` is what people type first.
  const words = argv[0] === "help" ? [...argv.slice(1), "--help"] : [...argv];
  let config: Config | undefined;
  try {
    config = (await Config.load(load ?? { root: packageRoot() })) as Config;
    await run(words, config as Parameters<typeof run>[1] & object);
    await drain();
    return Number(process.exitCode ?? 0);
  } catch (thrown) {
    const error = explainUnknownCommand(thrown, words, config);
    const report = describeError(error, commandWords(words, config));
    const text = renderError(report, createStyle(process.stderr), {
      verbose: words.includes("--verbose"),
      error,
    });
    if (text !== "") process.stderr.write(text);
    await drain();
    return report.exitCode;
  }
}

function commandIds(config: Config | undefined): string[] {
  return config?.commandIDs.map((id) => id.replaceAll(":", " ")) ?? [];
}

/** The typed words that name a command or topic, e.g. `kubectl mesh sandbox up`. */
function commandWords(words: readonly string[], config: Config | undefined): string {
  const ids = new Set(commandIds(config));
  for (let count = Math.min(3, words.length); count > 0; count -= 1) {
    const id = words.slice(0, count).join(" ");
    if (ids.has(id)) return `${PROGRAM} ${id}`;
  }
  return PROGRAM;
}

function explainUnknownCommand(
  error: unknown,
  words: readonly string[],
  config: Config | undefined,
): unknown {
  const message = (error as Error | undefined)?.message ?? "";
  if (!/^[Cc]ommand .* not found/.test(message)) return error;
  const flag = words.findIndex((word) => word.startsWith("-"));
  const typed = words.slice(0, flag < 0 ? undefined : flag);
  const name = typed.join(" ");
  const ids = commandIds(config);
  const close = nearest(name, ids) ?? nearest(typed[0] ?? "", ids);
  return usageError(
    `there is no command ${JSON.stringify(name)}`,
    ...(close === undefined ? [] : [`did you mean: ${PROGRAM} ${close}`]),
    `all commands: ${PROGRAM} --help`,
  );
}

/** Waits until what was written has left the process; a closed pipe is fine. */
async function drain(): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.destroyed || stream.writableLength === 0) continue;
    await new Promise<void>((resolve) => {
      stream.once("error", () => resolve());
      stream.write("", () => resolve());
    });
  }
}

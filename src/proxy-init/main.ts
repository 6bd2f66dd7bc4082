// The init container: lays the pod's redirect rules once and ends.
import { createLogger } from "../log/logger.ts";
import { errorMessage, MeshError } from "../util/error.ts";
import { applyRules, type Run, runProgram, setCloseWaitTimeout } from "./apply.ts";
import { type InitOptions, parseOptions } from "./options.ts";
import { redirectRules, restoreScript } from "./rules.ts";

/** A wrong command line, as sysexits.h numbers it. */
const EX_USAGE = 64;

/**
 * Runs with `argv` and resolves to the exit code: 0 done, 1 refused by the system, 64 wrong flags.
 * @param run how programs are run; tests bring their own
 */
export async function main(argv: readonly string[], run: Run = runProgram): Promise<number> {
  let options: InitOptions;
  try {
    options = parseOptions(argv);
  } catch (error) {
    process.stderr.write(`proxy-init: ${errorMessage(error)}\n`);
    return EX_USAGE;
  }
  const log = createLogger({ level: options.logLevel, format: options.logFormat });
  const families = options.ipv6 ? ([4, 6] as const) : ([4] as const);
  if (options.simulate) {
    for (const family of families) {
      process.stdout.write(restoreScript(redirectRules(options.redirect, family), ""));
    }
    return 0;
  }
  try {
    if (options.closeWaitSeconds > 0) await setCloseWaitTimeout(options.closeWaitSeconds);
    for (const family of families) {
      const backend = await applyRules(options, family, run, log);
      log.info("redirect rules are in place", { backend, family: `ipv${family}` });
    }
    return 0;
  } catch (error) {
    log.error(errorMessage(error));
    if (error instanceof MeshError) for (const hint of error.hints) log.error(`hint: ${hint}`);
    return 1;
  }
}

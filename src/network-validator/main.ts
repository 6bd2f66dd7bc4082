// The init container where a CNI plugin lays the redirect rules: it fails the pod's start when they are not there,
// before the application runs outside the mesh without anybody knowing.
//
//   dial an address that nobody has → (redirected) → our own listener → a random token comes back: the rules are there
import { createLogger, type Logger } from "../log/logger.ts";
import { errorMessage } from "../util/error.ts";
import { parseOptions, type ValidatorOptions } from "./options.ts";
import { RedirectError, validate } from "./validate.ts";

/** A wrong command line, as sysexits.h numbers it. */
const EX_USAGE = 64;
/** What Linkerd's validator ends with, and its CNI repair controller looks for. */
const NOT_REDIRECTED = 95;

/**
 * Runs with `argv` and resolves to the exit code: 0 the pod's connections reach the proxy's port, 95 they do not, 1 the
 * port cannot be listened on, 64 wrong flags.
 * @param log absent: one as the flags want it
 */
export async function main(argv: readonly string[], log?: Logger): Promise<number> {
  let options: ValidatorOptions;
  try {
    options = parseOptions(argv);
  } catch (error) {
    process.stderr.write(`network-validator: ${errorMessage(error)}\n`);
    return EX_USAGE;
  }
  const out = log ?? createLogger({ level: options.logLevel, format: options.logFormat });
  const { listen, connect } = options;
  try {
    await validate(options);
    out.info("connections are redirected to the proxy", { via: connect.text, listen: listen.text });
    return 0;
  } catch (error) {
    out.error(errorMessage(error));
    if (!(error instanceof RedirectError)) return 1;
    for (const hint of error.hints) out.error(`hint: ${hint}`);
    return NOT_REDIRECTED;
  }
}

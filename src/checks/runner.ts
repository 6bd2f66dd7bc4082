// Runs categories in order and the checks of one category side by side; tells results in the order of definition.
import { errorMessage } from "../util/error.ts";
import { type Category, type Check, type CheckContext, Skip } from "./check.ts";

export type Outcome = "success" | "warning" | "error";

export interface CheckResult {
  readonly category: string;
  readonly description: string;
  readonly anchor: string;
  readonly outcome: Outcome;
  /** Why it did not pass. */
  readonly error?: string;
}

/** Told as the run goes; all are optional. */
export interface Observer {
  readonly category?: (id: string) => void;
  readonly progress?: (text: string) => void;
  readonly result?: (result: CheckResult) => void;
}

export interface RunOptions {
  /** How long checks that may be tried again are, in all, ms. */
  readonly wait: number;
  /** Pause between tries, ms. */
  readonly pause?: number;
  /** Bound of one try, ms. */
  readonly timeout?: number;
  readonly observer?: Observer;
}

const PAUSE_MS = 1_000;
const TRY_TIMEOUT_MS = 30_000;
const WAITING = "waiting for check to complete";

/** @returns every result; what comes after a fatal failure is left out, since it would only repeat it. */
export async function runChecks(
  categories: readonly Category[],
  context: CheckContext,
  options: RunOptions,
): Promise<CheckResult[]> {
  const { observer } = options;
  const deadline = Date.now() + options.wait;
  const results: CheckResult[] = [];
  for (const category of categories) {
    if (category.checks.length === 0) continue;
    observer?.category?.(category.id);
    const abort = new AbortController();
    const runs = category.checks.map((check) => ({
      check,
      state: tryCheck(check, context, options, deadline, abort.signal, observer),
    }));
    for (const { check, state } of runs) {
      const failure = await state;
      if (failure instanceof Skip) continue;
      const outcome = failure === undefined ? "success" : check.warning ? "warning" : "error";
      const result: CheckResult = {
        category: category.id,
        description: check.description,
        anchor: check.anchor,
        outcome,
        ...(failure === undefined ? {} : { error: failure }),
      };
      results.push(result);
      observer?.result?.(result);
      if (outcome === "error" && check.fatal) {
        abort.abort();
        await Promise.all(runs.map((run) => run.state));
        return results;
      }
    }
  }
  return results;
}

/** Resolves to undefined when it passes, to a Skip, or to what is wrong. Never rejects. */
async function tryCheck(
  check: Check,
  context: CheckContext,
  options: RunOptions,
  deadline: number,
  signal: AbortSignal,
  observer: Observer | undefined,
): Promise<string | Skip | undefined> {
  for (;;) {
    try {
      const answer = await within(check.run(context), options.timeout ?? TRY_TIMEOUT_MS);
      return answer instanceof Skip ? answer : undefined;
    } catch (error) {
      const message = errorMessage(error);
      const pause = options.pause ?? PAUSE_MS;
      if (!check.retry || signal.aborted || Date.now() + pause > deadline) return message;
      observer?.progress?.(check.surface ? message : WAITING);
      await sleep(pause, signal);
    }
  }
}

async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

/** Whether the run as a whole is fine: warnings do not count. */
export const succeeded = (results: readonly CheckResult[]): boolean =>
  results.every(({ outcome }) => outcome !== "error");

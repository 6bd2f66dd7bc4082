// A file that is replaced while we run, as Kubernetes replaces mounted Secrets and ConfigMaps (by renaming a
// symbolic link of the directory, which file watches miss): looked at every few seconds.
import { readFileSync } from "node:fs";
import { type Clock, systemClock, type Timer } from "../util/clock.ts";
import { errorMessage } from "../util/error.ts";

export interface WatchedFiles {
  stop(): void;
}

/** Reads a file as text. */
export type ReadFile = (file: string) => string;

/** How often files are looked at, ms. */
const INTERVAL = 5_000;

export interface WatchOptions {
  /** How often files are looked at, ms. Default 5 s. */
  readonly interval?: number | undefined;
  /** Files that cannot be read or taken at first go to `onError` too, and are looked at again like all others. */
  readonly patient?: boolean;
  readonly clock?: Clock;
  /** Default: from the file system. */
  readonly readFile?: ReadFile | undefined;
}

/**
 * Reads `files` now and whenever one of them changes, and hands their contents on in the same order.
 * @throws Error from the first reading or its `take`, unless patient; later failures go to `onError`, each once, and what
 * was taken stays.
 */
export function watchFiles(
  files: readonly string[],
  take: (contents: readonly string[]) => void,
  onError: (error: unknown) => void,
  options: WatchOptions = {},
): WatchedFiles {
  const { interval = INTERVAL, patient = false, clock = systemClock } = options;
  const { readFile = (file) => readFileSync(file, "utf8") } = options;
  const read = () => files.map(readFile);
  let known: readonly string[] = [];
  let unreadable = "";
  const look = () => {
    let now: readonly string[];
    try {
      now = read();
    } catch (error) {
      const again = errorMessage(error) === unreadable;
      unreadable = errorMessage(error);
      if (again) return;
      throw error;
    }
    unreadable = "";
    if (now.length === known.length && now.every((text, index) => text === known[index])) return;
    // Remembered even when it is refused: the same bad content is reported once.
    known = now;
    take(now);
  };
  try {
    look();
  } catch (error) {
    if (!patient) throw error;
    onError(error);
  }
  let timer: Timer | undefined;
  const again = () => {
    timer = clock.after(interval, again);
    try {
      look();
    } catch (error) {
      onError(error);
    }
  };
  timer = clock.after(interval, again);
  return { stop: () => clock.clear(timer) };
}

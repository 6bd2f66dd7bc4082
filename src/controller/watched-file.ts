// A file that is replaced while we run, as Kubernetes replaces mounted Secrets and ConfigMaps (by renaming a
// symbolic link of the directory, which file watches miss): looked at every few seconds.
import { readFileSync } from "node:fs";

export interface WatchedFiles {
  stop(): void;
}

/** How often files are looked at, ms. */
const INTERVAL = 5_000;

/**
 * Reads `files` now and whenever one of them changes, and hands their contents on in the same order.
 * @throws Error from the first reading or its `take`; later failures go to `onError`, and what was taken stays.
 */
export function watchFiles(
  files: readonly string[],
  take: (contents: readonly string[]) => void,
  onError: (error: unknown) => void,
  interval = INTERVAL,
): WatchedFiles {
  const read = () => files.map((file) => readFileSync(file, "utf8"));
  let known = read();
  take(known);
  const timer = setInterval(() => {
    try {
      const now = read();
      if (now.every((text, index) => text === known[index])) return;
      // Remembered even when it is refused: the same bad content is reported once.
      known = now;
      take(now);
    } catch (error) {
      onError(error);
    }
  }, interval);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}

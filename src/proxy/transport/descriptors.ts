// How many connections there are descriptors for: it is better to turn a connection away, and say so, than to accept it
// and have none left for its upstream.
import { readFileSync } from "node:fs";

/** For the admin port, the control plane, files and what the process itself opens. */
const RESERVE = 128;
/** A side has its accepted connections and about as many upstream; there are two sides. */
const EACH = 4;

/**
 * The most connections that a side may accept.
 * @param descriptors that the process may have; undefined: not known
 */
export function connectionLimit(configured: number, descriptors: number | undefined): number {
  if (descriptors === undefined) return configured;
  return Math.max(1, Math.min(configured, Math.floor((descriptors - RESERVE) / EACH)));
}

/** The process's limit of open files; undefined when there is none, or /proc does not tell. */
export function maxDescriptors(): number | undefined {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}

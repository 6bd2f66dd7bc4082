// Gives memory back once a load has ended. V8 keeps garbage until it needs room, and malloc keeps what it was given
// back between what is still in use: after a bulk transfer that is several times what the proxy itself needs.
import { openSync, readSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { dropSparePages } from "../http2/output.ts";
import type { Logger } from "../log/logger.ts";
import { MemoryReturn } from "../rules/memory-return.ts";
import type { Clock } from "../util/clock.ts";
import { dropPages } from "./transport/pages.ts";

/** How often it is looked whether there is a load, ms. */
const INTERVAL = 10_000;
/** A second collection finds young memory empty, and moves together what the first one left scattered; after this, ms. */
const SECOND = 1_000;

/** What can be known and done of a process's memory. */
export interface ProcessMemory {
  /** CPU time used so far, ms. */
  cpu(): number;
  /** Memory that no other process shares, in pages. */
  held(): number;
  /** Frees what is not used any more. @param compact also moves what is used together, which takes half as long again */
  collect(compact: boolean): void;
  /** Gives what is free to the system. */
  trim(): void;
}

export class MemoryKeeper {
  readonly #memory: ProcessMemory;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #rule: MemoryReturn;

  constructor(memory: ProcessMemory, clock: Clock, log: Logger) {
    this.#memory = memory;
    this.#clock = clock;
    this.#log = log;
    this.#rule = new MemoryReturn(memory.cpu(), clock.monotonic());
    clock.after(INTERVAL, this.#look);
  }

  readonly #look = (): void => {
    const memory = this.#memory;
    const clock = this.#clock;
    const held = memory.held();
    if (this.#rule.look(memory.cpu(), held, clock.monotonic()) !== "release") {
      clock.after(INTERVAL, this.#look);
      return;
    }
    giveBack(memory, clock, (pause) => {
      const left = memory.held();
      this.#log.debug("memory given back", {
        pages_before: held,
        pages_after: left,
        longest_pause_ms: pause,
      });
      this.#rule.released(memory.cpu(), left, clock.monotonic());
      clock.after(INTERVAL, this.#look);
    });
  };
}

/** @param then called once it is done, about a second later, with the longest time for which everything stood still, ms */
export function giveBack(memory: ProcessMemory, clock: Clock, then: (pause: number) => void): void {
  const began = clock.monotonic();
  memory.collect(false);
  const first = clock.monotonic() - began;
  clock.after(SECOND, () => {
    const again = clock.monotonic();
    memory.collect(true);
    memory.trim();
    then(Math.round(Math.max(first, clock.monotonic() - again)));
  });
}

/**
 * This process's. Nothing is collected without --expose-gc, nor trimmed with another libc than glibc.
 * @throws Error when koffi cannot be loaded (no prebuilt binary for the machine), or there is no /proc
 */
export async function processMemory(): Promise<ProcessMemory> {
  const { default: koffi } = await import("koffi");
  let trim: ((pad: number) => number) | undefined;
  try {
    trim = koffi.load(null).func("int malloc_trim(size_t pad)");
  } catch {
    // musl has none, and keeps less.
  }
  // Kept open: running out of descriptors must not end in here.
  const statm = openSync("/proc/self/statm", "r");
  const line = Buffer.alloc(128);
  return {
    cpu: () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000;
    },
    held: () => {
      // Pages: of all, resident, of those shared. To sum up smaps_rollup, the kernel would visit every page.
      const [, resident, shared] = line
        .toString("latin1", 0, readSync(statm, line, 0, line.length, 0))
        .split(" ");
      return Number(resident) - Number(shared);
    },
    collect: (compact) => {
      dropSparePages();
      dropPages();
      // By itself V8 leaves pages that are half empty as they are: there is always room in them, until there is no load.
      if (compact) setFlagsFromString("--compact-on-every-full-gc");
      globalThis.gc?.();
      if (compact) setFlagsFromString("--no-compact-on-every-full-gc");
    },
    trim: () => void trim?.(0),
  };
}

// The logs of all containers of a sandbox, also of those that are gone: a second name for each file, which outlives it.
import { linkSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { MeshSandbox } from "../../test/support/mesh-sandbox.ts";

/** A container that lives for less may leave no log, ms. */
const INTERVAL = 500;

export class LogKeeper {
  readonly #pods: string;
  readonly #kept: string;
  readonly #timer: NodeJS.Timeout;

  /** @param directory on the file system of the sandbox; a folder a pod, by its uid */
  constructor(sandbox: MeshSandbox, directory: string) {
    this.#pods = join(sandbox.state, "pods");
    this.#kept = directory;
    this.#timer = setInterval(() => this.#look(), INTERVAL);
  }

  end(): void {
    clearInterval(this.#timer);
    this.#look();
  }

  #look(): void {
    for (const pod of names(this.#pods)) {
      const logs = join(this.#pods, pod, "logs");
      for (const log of names(logs)) {
        mkdirSync(join(this.#kept, pod), { recursive: true });
        try {
          linkSync(join(logs, log), join(this.#kept, pod, log));
        } catch {
          // Known already, or gone meanwhile.
        }
      }
    }
  }
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

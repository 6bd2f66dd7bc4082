// Real pipes for a child's output. Node's own are socket pairs, and a program that opens /dev/stdout by name
// cannot open a socket.
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { runCommand } from "../network/command.ts";

export interface Pipe {
  readonly readable: Readable;
  /** To be given to a child, then closed with {@link Pipe.closeWriter}. */
  readonly writer: number;
  closeWriter(): void;
}

/** Pipes with nothing left in the file system. */
export async function makePipes(directory: string, count: number): Promise<Pipe[]> {
  const scratch = mkdtempSync(join(directory, "pipe-"));
  try {
    const paths = Array.from({ length: count }, (_, i) => join(scratch, String(i)));
    // Writable by all: the container's user opens it again through /dev/stdout.
    await runCommand("mkfifo", ["-m", "666", ...paths]);
    return paths.map((path) => {
      const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const writer = openSync(path, constants.O_WRONLY);
      let open = true;
      return {
        readable: new Socket({ fd: reader, readable: true, writable: false }),
        writer,
        closeWriter: () => {
          if (open) closeSync(writer);
          open = false;
        },
      };
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

// What is fuzzed: each target takes any bytes and throws when something is wrong with what was made of them. Run by
// scripts/fuzz.ts for a bounded time, and over the kept corpora by test/fuzz/corpus.test.ts.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/util/package-root.ts";

export interface Target {
  /**
   * @returns what became of the bytes, in a word or a few: inputs with an outcome not seen before are mutated further
   * @throws when a promise is broken
   */
  fuzz(bytes: Buffer): string;
}

/** A target's name is that of its file and of its corpus. */
export const TARGETS: Readonly<Record<string, () => Promise<Target>>> = {
  http1: () => import("./http1.ts"),
  hpack: () => import("./hpack.ts"),
  "http2-connection": () => import("./http2-connection.ts"),
  huffman: () => import("./huffman.ts"),
  protobuf: () => import("./protobuf.ts"),
  "client-hello": () => import("./client-hello.ts"),
  "transport-header": () => import("./transport-header.ts"),
};

export const corpusOf = (target: string): string => join(packageRoot(), "test/fuzz/corpus", target);

/** The kept inputs of a target, by file name. */
export function corpus(target: string): [name: string, bytes: Buffer][] {
  const directory = corpusOf(target);
  return readdirSync(directory)
    .sort()
    .map((name) => [name, readFileSync(join(directory, name))]);
}

// The answer to a scrape. A small exposition is one buffer; a large one goes out in pieces, with a turn of the event
// loop between two of them, so that the data path goes on meanwhile.
import { Readable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { createGzip, gzipSync } from "node:zlib";
import type { Registry } from "../../metrics/registry.ts";
import type { AdminResponse } from "./http.ts";

/**
 * Beyond this, bytes, compression leaves the main thread. Below it takes less than a millisecond, and a thread's own
 * heap would cost every proxy half a megabyte (measured).
 */
const LARGE = 128 * 1024;
/** Prometheus compresses nothing better than this level makes it, for what it costs. */
const LEVEL = { level: 1 };
const TYPE = "text/plain; version=0.0.4; charset=utf-8";

export function metricsResponse(registry: Registry, gzip: boolean): AdminResponse {
  const pieces = registry.pieces();
  const first: Buffer[] = [];
  let size = 0;
  while (size <= LARGE) {
    const next = pieces.next();
    if (next.done) {
      const body = Buffer.concat(first, size);
      return gzip
        ? { status: 200, type: TYPE, body: gzipSync(body, LEVEL), encoding: "gzip" }
        : { status: 200, type: TYPE, body };
    }
    first.push(next.value);
    size += next.value.length;
  }
  const body = inTurns(first, pieces);
  return gzip
    ? { status: 200, type: TYPE, body: Readable.from(body).pipe(createGzip(LEVEL)), encoding: "gzip" }
    : { status: 200, type: TYPE, body };
}

async function* inTurns(first: readonly Buffer[], rest: Iterable<Buffer>): AsyncGenerator<Buffer> {
  yield* first;
  for (const piece of rest) {
    yield piece;
    await turn();
  }
}

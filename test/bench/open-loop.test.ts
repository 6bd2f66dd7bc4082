// The open-loop generator: a server that stands still is charged for every request that was due meanwhile, and one that
// does not answer is not passed over.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Histogram } from "../../bench/histogram.ts";
import type { OpenLoopResult, OpenLoopSettings } from "../../bench/load/open-loop.ts";
import { packageRoot } from "../../src/util/package-root.ts";

const test = suite("bench open loop");

const directory = mkdtempSync(join(tmpdir(), "mesh-bench-test-"));
const program = join(directory, "open-loop.mjs");

test.before(async () => {
  // As the bench has it: its clock is a worker thread, which only runs what is JavaScript.
  const source = join(packageRoot(), "bench/load/open-loop.ts");
  await build({ entryPoints: [source], outfile: program, bundle: true, platform: "node", format: "esm" });
});

test.after(() => rmSync(directory, { recursive: true }));

async function run(settings: OpenLoopSettings): Promise<OpenLoopResult> {
  const env = { ...process.env, OPEN_LOOP: JSON.stringify(settings) };
  const { stdout } = await promisify(execFile)(process.execPath, [program], { env });
  return JSON.parse(stdout);
}

/** A server that answers each chunk, which is a request here, by `answer`. */
async function withServer(
  answer: (socket: Socket) => void,
  use: (port: number) => Promise<void>,
): Promise<void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use((server.address() as { port: number }).port);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SETTINGS = { rate: 500, connections: 2, seconds: 1, warmUp: 0 };

test("a stall is charged to all that were due in it, though two connections could only send two", async () => {
  const stall = 400;
  let seen = 0;
  let ready = Promise.resolve();
  await withServer(
    (socket) => {
      seen += 1;
      if (seen === 100) ready = new Promise((resolve) => setTimeout(resolve, stall));
      void ready.then(() => socket.write(OK));
    },
    async (port) => {
      const { due, failed, latency } = await run({ port, ...SETTINGS });
      const histogram = Histogram.of(latency);
      assert.is(failed, 0);
      assert.is(due, 500);
      assert.is(histogram.count, 500);
      // 200 of 500 were due in the stall, and a quarter of those waited three quarters of it or longer.
      assert.ok(histogram.percentile(90) >= (stall * 1_000) / 2, `p90 ${histogram.percentile(90)} µs`);
    },
  );
});

test("errors, and requests that are never answered, have failed", async () => {
  let seen = 0;
  await withServer(
    (socket) => {
      seen += 1;
      if (seen === 10) socket.write("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
      else if (seen === 20) socket.destroy();
      else socket.write(OK);
    },
    async (port) => {
      const { due, failed } = await run({ port, ...SETTINGS });
      assert.is(due, 500);
      assert.ok(failed >= 2 && failed < 500, `${failed} failed`);
    },
  );
});

test.run();

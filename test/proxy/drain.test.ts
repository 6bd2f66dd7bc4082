// The proxy's end: once, in time, or at once when asked again.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../src/log/logger.ts";
import { Drain } from "../../src/proxy/drain.ts";

const test = suite("proxy drain");
const log = createLogger({ level: "off" });

class FakePath {
  timeout: number | undefined;
  closed = false;
  finish: () => void = () => {};
  drain(timeout: number): Promise<void> {
    this.timeout = timeout;
    return new Promise((resolve) => {
      this.finish = resolve;
    });
  }
  close(): void {
    this.closed = true;
  }
  connections(): number {
    return 1;
  }
}

test("ends once, when all paths are drained", async () => {
  const paths = [new FakePath(), new FakePath()] as const;
  let ends = 0;
  const ended = new Promise<void>((resolve) => {
    const drain = new Drain({
      paths,
      gracePeriod: 5_000,
      log,
      onEnd: () => {
        ends += 1;
        resolve();
      },
    });
    assert.is(drain.reason, undefined);
    drain.begin("SIGTERM");
    assert.is(drain.reason, "SIGTERM");
  });
  assert.is(paths[0].timeout, 5_000);
  paths[0].finish();
  await new Promise((resolve) => setImmediate(resolve));
  assert.is(ends, 0);
  paths[1].finish();
  await ended;
  assert.is(ends, 1);
});

test("asked again it cuts what is open", async () => {
  const path = new FakePath();
  let ends = 0;
  const drain = new Drain({ paths: [path], gracePeriod: 5_000, log, onEnd: () => (ends += 1) });
  drain.begin("SIGTERM");
  drain.begin("SIGINT");
  assert.ok(path.closed);
  assert.is(ends, 1);
  path.finish();
  await new Promise((resolve) => setImmediate(resolve));
  assert.is(ends, 1);
});

test("a path that fails to drain does not keep the process", async () => {
  const path = new FakePath();
  path.drain = () => Promise.reject(new Error("stuck"));
  await new Promise<void>((resolve) => {
    new Drain({ paths: [path], gracePeriod: 5_000, log, onEnd: resolve }).begin("POST /shutdown");
  });
  assert.ok(path.closed);
});

test.run();

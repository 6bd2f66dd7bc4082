// Container logs: what goes in comes out, bounded, whole lines, and a follower misses nothing.
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LogWriter, type ReadOptions, readLog } from "../../../src/sandbox/kubelet/log-file.ts";
import { systemClock } from "../../../src/util/clock.ts";

const test = suite<{ directory: string }>("container logs");
test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), "mesh-log-"));
});
test.after.each((context) => rmSync(context.directory, { recursive: true, force: true }));

const all: ReadOptions = { follow: false, timestamps: false };

async function written(path: string, chunks: readonly Buffer[], limit?: number): Promise<LogWriter> {
  const writer = new LogWriter(path, systemClock, limit);
  const source = new PassThrough();
  writer.consume(source, "stdout");
  for (const chunk of chunks) source.write(chunk);
  source.end();
  source.resume();
  await writer.ended;
  return writer;
}

async function text(path: string, options: Partial<ReadOptions> = {}, writer?: LogWriter): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of readLog(path, { ...all, ...options }, writer)) parts.push(part);
  return Buffer.concat(parts).toString("utf8");
}

test("any output comes back as it was, however it was cut into chunks", async ({ directory }) => {
  let n = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.stringMatching(/^[ -~\n]{0,40}$/), { maxLength: 20 }), async (chunks) => {
      const path = join(directory, `${n++}.log`);
      await written(
        path,
        chunks.filter((chunk) => chunk !== "").map((chunk) => Buffer.from(chunk)),
      );
      const said = chunks.join("");
      const expected = said === "" || said.endsWith("\n") ? said : `${said}\n`;
      assert.is(await text(path).catch(() => ""), expected);
    }),
    { numRuns: 60 },
  );
});

test("a line longer than the limit is stored in parts and read as one", async ({ directory }) => {
  const path = join(directory, "long.log");
  const long = "x".repeat(50_000);
  await written(path, [Buffer.from(`${long}\nshort\n`)]);
  assert.ok(readFileSync(path, "utf8").includes(" stdout P "));
  assert.is(await text(path), `${long}\nshort\n`);
});

test("tail, since, limit and timestamps pick what was asked for", async ({ directory }) => {
  const path = join(directory, "a.log");
  await written(path, [Buffer.from("one\ntwo\nthree\n")]);
  assert.is(await text(path, { tailLines: 2 }), "two\nthree\n");
  assert.is(await text(path, { tailLines: 0 }), "");
  assert.is(await text(path, { limitBytes: 5 }), "one\nt");
  assert.is(await text(path, { since: systemClock.now() + 60_000 }), "");
  assert.is(await text(path, { since: systemClock.now() - 60_000 }), "one\ntwo\nthree\n");
  assert.match(await text(path, { timestamps: true, tailLines: 1 }), /^\d{4}-\d\d-\d\dT[\d:.]+Z three\n$/);
});

test("the file is bounded: old lines move away, the newest stay", async ({ directory }) => {
  const path = join(directory, "b.log");
  const lines = Array.from({ length: 400 }, (_, i) => Buffer.from(`line ${i}\n`));
  const writer = new LogWriter(path, systemClock, 2_000);
  const source = new PassThrough();
  writer.consume(source, "stdout");
  for (const line of lines) {
    source.write(line);
    await new Promise((resolve) => setImmediate(resolve));
  }
  source.end();
  await writer.ended;
  assert.ok(statSync(path).size <= 2_000);
  assert.ok(statSync(`${path}.1`).size <= 2_000);
  assert.ok((await text(path)).endsWith("line 398\nline 399\n"));
});

test("a follower gets what comes, and its end", async ({ directory }) => {
  const path = join(directory, "c.log");
  const writer = new LogWriter(path, systemClock);
  const source = new PassThrough();
  writer.consume(source, "stdout");
  source.write("before\n");
  const seen: string[] = [];
  const following = (async () => {
    for await (const part of readLog(path, { ...all, follow: true }, writer)) {
      seen.push(part.toString());
      if (seen.join("") === "before\n") source.write("after\n");
      if (seen.join("").endsWith("after\n")) source.end("last");
    }
  })();
  await following;
  assert.is(seen.join(""), "before\nafter\nlast\n");
});

test("a termination message is the end of the log", async ({ directory }) => {
  const writer = await written(join(directory, "d.log"), [Buffer.from("a\nb\nc\n")]);
  assert.is(writer.tail(2048, 2), "b\nc\n");
});

test.run();

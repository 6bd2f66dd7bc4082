// The state directory: what was stored is there again after any end, and a disk that fails refuses changes.

import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../../src/log/logger.ts";
import { openJournal } from "../../../src/sandbox/store/journal.ts";
import { encodeRecord, readRecords } from "../../../src/sandbox/store/records.ts";
import { Store } from "../../../src/sandbox/store/store.ts";

const log = createLogger({ level: "off" });
const test = suite<{ dir: string }>("journal");
test.before.each((context) => {
  context.dir = mkdtempSync(join(tmpdir(), "s1-journal-"));
});
test.after.each(({ dir }) => rmSync(dir, { recursive: true, force: true }));

function open(dir: string) {
  const store = new Store();
  const journal = openJournal(dir, store, log);
  return { store, journal };
}

const object = (name: string, data?: string) => ({ metadata: { name }, data });
const names = (store: Store) => [...store.entries("/maps")].map(([key]) => key).sort();

test("a new process finds every change, its version, and what a watch missed", ({ dir }) => {
  const first = open(dir);
  first.store.put("/maps", "a", object("a"));
  first.store.put("/maps", "b", object("b"));
  const { version } = first.store;
  first.store.put("/maps", "a", object("a", "2"));
  first.store.remove("/maps", "b");
  // No close: the process was killed.
  const second = open(dir);
  assert.equal(names(second.store), ["a"]);
  assert.is(second.store.get("/maps", "a")?.data, "2");
  assert.is(second.store.version, first.store.version);
  assert.equal(
    second.store.since("/maps", version)?.map((change) => change.type),
    ["MODIFIED", "DELETED"],
  );
  first.journal.close();
  second.journal.close();
});

test("a change cut short is dropped, those before it stay, and writing goes on", ({ dir }) => {
  const first = open(dir);
  first.store.put("/maps", "a", object("a"));
  first.store.put("/maps", "b", object("b"));
  first.journal.close();
  const file = join(dir, readdirSync(dir).find((name) => name.startsWith("log.")) as string);
  truncateSync(file, readFileSync(file).length - 3);
  const second = open(dir);
  assert.equal(names(second.store), ["a"]);
  second.store.put("/maps", "c", object("c"));
  second.journal.close();
  const third = open(dir);
  assert.equal(names(third.store), ["a", "c"]);
  third.journal.close();
});

test("a log that has grown is replaced by a snapshot, and both ends of that survive", ({ dir }) => {
  const first = open(dir);
  const large = "x".repeat(100_000);
  for (let i = 0; i < 200; i++) first.store.put("/maps", `k${i % 20}`, object(`k${i % 20}`, large));
  assert.ok(readdirSync(dir).includes("snapshot"));
  const logs = readdirSync(dir).filter((name) => name.startsWith("log."));
  assert.is(logs.length, 1);
  first.journal.close();
  writeFileSync(join(dir, "log.1"), "left over");
  writeFileSync(join(dir, "snapshot.new"), "half");
  const second = open(dir);
  assert.is(names(second.store).length, 20);
  assert.is(second.store.version, first.store.version);
  assert.not(readdirSync(dir).includes("snapshot.new"));
  second.journal.close();
});

test("a damaged snapshot is an error that says what to do, not an empty cluster", ({ dir }) => {
  const first = open(dir);
  for (let i = 0; i < 100; i++) first.store.put("/maps", "k", object("k", "x".repeat(100_000)));
  first.journal.close();
  const path = join(dir, "snapshot");
  truncateSync(path, readFileSync(path).length - 10);
  assert.throws(() => open(dir), /is damaged/);
});

test("a directory that cannot be used is a clear error", ({ dir }) => {
  const file = join(dir, "file");
  writeFileSync(file, "");
  assert.throws(() => open(join(file, "state")), /cannot use .*file\/state for the cluster's state/);
});

test("a change that cannot be written is refused and not visible", ({ dir }) => {
  const { store, journal } = open(dir);
  store.put("/maps", "a", object("a"));
  journal.close();
  assert.throws(() => store.put("/maps", "b", object("b")), /the change is refused/);
  assert.equal(names(store), ["a"]);
});

test("records come back as written, up to the first damage", ({ dir }) => {
  mkdirSync(join(dir, "r"));
  fc.assert(
    fc.property(fc.array(fc.jsonValue(), { maxLength: 8 }), fc.nat(), (values, cut) => {
      const path = join(dir, "r", "file");
      writeFileSync(path, "");
      const ends: number[] = [0];
      for (const value of values) {
        const record = encodeRecord(value);
        appendFileSync(path, record);
        ends.push((ends.at(-1) as number) + record.length);
      }
      const bytes = readFileSync(path);
      const length = bytes.length === 0 ? 0 : cut % (bytes.length + 1);
      const read: unknown[] = [];
      const { end, damaged } = readRecords(bytes.subarray(0, length), (value) => read.push(value));
      const whole = ends.filter((offset) => offset <= length).length - 1;
      assert.equal(JSON.stringify(read), JSON.stringify(values.slice(0, whole)));
      assert.is(end, ends[whole] as number);
      assert.is(damaged, length !== end);
    }),
    { numRuns: 100 },
  );
});

test.run();

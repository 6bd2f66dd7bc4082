// Volumes of API objects change all at once or not at all.
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { writeAtomically } from "../../../src/sandbox/kubelet/atomic-directory.ts";

const test = suite<{ directory: string }>("volume directory");
test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), "mesh-volume-"));
});
test.after.each((context) => rmSync(context.directory, { recursive: true, force: true }));

const files = (content: Record<string, string>, mode = 0o644) =>
  new Map(Object.entries(content).map(([path, text]) => [path, { data: Buffer.from(text), mode }]));
const visible = (directory: string) =>
  readdirSync(directory)
    .filter((name) => !name.startsWith(".."))
    .sort();

test("files are there through one link that is replaced", ({ directory }) => {
  writeAtomically(directory, files({ a: "1", "sub/b": "2" }));
  assert.equal(visible(directory), ["a", "sub"]);
  const before = readlinkSync(join(directory, "..data"));
  writeAtomically(directory, files({ a: "3", c: "4" }));
  assert.not.equal(readlinkSync(join(directory, "..data")), before);
  assert.is(readFileSync(join(directory, "a"), "utf8"), "3");
  assert.equal(visible(directory), ["a", "c"]);
  assert.is(readdirSync(directory).filter((name) => name.startsWith("..2")).length, 1, "the old set is gone");
});

test("the same content again changes nothing", ({ directory }) => {
  writeAtomically(directory, files({ a: "1" }));
  const before = readlinkSync(join(directory, "..data"));
  writeAtomically(directory, files({ a: "1" }));
  assert.is(readlinkSync(join(directory, "..data")), before);
});

test("modes are those asked for", ({ directory }) => {
  writeAtomically(directory, files({ key: "k" }, 0o400));
  assert.is(statSync(join(directory, "key")).mode & 0o777, 0o400);
});

test("an empty set leaves an empty volume", ({ directory }) => {
  writeAtomically(directory, files({ a: "1" }));
  writeAtomically(directory, files({}));
  assert.equal(visible(directory), []);
});

test.run();

// What the built files contain: every import in the proxy is paid by every pod, and start-up by every command.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../../src/util/package-root.ts";

const test = suite("bundles");
const root = packageRoot();

interface Output {
  readonly bytes: number;
  readonly inputs: readonly string[];
  readonly imports: readonly string[];
}
const outputs = JSON.parse(readFileSync(join(root, "dist/outputs.json"), "utf8")) as Record<string, Output>;

/** Every source that is loaded when `file` is, following static imports of chunks. */
function loadedBy(file: string, seen = new Set<string>()): string[] {
  const output = outputs[file];
  if (!output || seen.has(file)) return [];
  seen.add(file);
  return [...output.inputs, ...output.imports.flatMap((next) => loadedBy(next, seen))];
}

const HEAVY = /node_modules\/(@kubernetes\/client-node|ink|react|yoga-layout|execa|yaml|node-forge)\//;

test("the proxy holds none of the command line's packages and stays small", () => {
  const proxy = outputs["dist/entry/proxy.js"]!;
  const foreign = proxy.inputs.filter(
    (input) =>
      input.includes("node_modules/") &&
      !/node_modules\/node-forge\/lib\/(asn1|forge|oids|util|baseN|pem)\.js/.test(input),
  );
  assert.equal(foreign, []);
  assert.ok(proxy.bytes < 500_000, `dist/entry/proxy.js has ${proxy.bytes} bytes`);
});

for (const file of Object.keys(outputs).filter((name) => name.startsWith("dist/commands/"))) {
  test(`${file} loads nothing heavy before it runs`, () => {
    assert.equal(
      loadedBy(file).filter((input) => HEAVY.test(input)),
      [],
    );
  });
}

test("the client's version is told without loading the command line", () => {
  const output = execFileSync(process.execPath, [join(root, "bin/run.js"), "version", "--client"]).toString();
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  assert.is(output, `Client version: ${version}\n`);
});

test.run();

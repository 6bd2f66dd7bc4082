// The table of what tests show is complete, true, and the one in the docs.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { COVERAGE_FILE, renderCoverage } from "../../scripts/coverage.ts";
import { OPEN_KEYS } from "../../src/inject/annotation-review.ts";
import { packageRoot } from "../../src/util/package-root.ts";
import { ALSO, OPEN, type TestRef } from "./coverage.ts";
import { EFFECTS, EXPECTED, IDLE } from "./effects/index.ts";

const test = suite("coverage of fields and annotations");

test("every field and annotation of every kind has a row, and no row is of none", () => {
  for (const [kind, expected] of EXPECTED) {
    const found = EFFECTS.find((each) => each.kind === kind);
    assert.is(found === undefined, kind in IDLE, kind);
    if (!found) continue;
    const rows = [...found.effects.map(({ field }) => field), ...Object.keys(found.without ?? {})];
    assert.equal(
      expected.filter((field) => !rows.includes(field)),
      [],
      `${kind}: fields without a row`,
    );
    assert.equal(
      rows.filter((field) => !expected.includes(field) && !field.includes(".linkerd.io/")),
      [],
      `${kind}: rows of no field`,
    );
    assert.is(new Set(rows).size, rows.length, `${kind}: a field has two rows`);
  }
});

test("every annotation that is no setting has a test, or a reason", () => {
  const wanted = OPEN_KEYS.filter((key) => key !== "linkerd.io/inject");
  assert.equal(Object.keys(OPEN).sort(), [...wanted].sort());
});

/** Whether the file has a test of this name. */
function isThere([file, name]: TestRef): boolean {
  const path = join(packageRoot(), file);
  if (!existsSync(path)) return false;
  const parts = name.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`["\`]${parts.join("\\$\\{[^}]+\\}")}["\`]`).test(readFileSync(path, "utf8"));
}

test("every test that is named exists", () => {
  const named = [
    ...Object.values(ALSO).flat(),
    ...Object.values(OPEN).filter((said): said is TestRef => typeof said !== "string"),
    ["test/inject/annotation-effects.test.ts", "* on the pod and on its namespace"],
    ["test/crds/effects.test.ts", "* *"],
  ] as readonly TestRef[];
  assert.equal(
    named.filter((ref) => !isThere(ref)),
    [],
  );
  const kinds = EFFECTS.map(({ kind }) => kind);
  assert.equal(
    Object.keys(ALSO).filter((kind) => !kinds.includes(kind)),
    [],
  );
});

test("the docs have this table: npm run coverage writes it", () => {
  assert.fixture(renderCoverage(), readFileSync(COVERAGE_FILE, "utf8"));
});

test.run();

// Renders docs/coverage.md: every field and annotation with the tests of its effect. `tsx scripts/coverage.ts` writes it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { OPEN_KEYS } from "../src/inject/annotation-review.ts";
import { SETTING_KEYS } from "../src/inject/index.ts";
import { packageRoot } from "../src/util/package-root.ts";
import { ALSO, OPEN, type TestRef } from "../test/crds/coverage.ts";
import { EFFECTS, IDLE } from "../test/crds/effects/index.ts";

export const COVERAGE_FILE = join(packageRoot(), "docs/coverage.md");

const refText = ([file, name]: TestRef) => `\`${file}\`: ${name.replaceAll("|", "\\|")}`;
const row = (...cells: readonly string[]) => `| ${cells.join(" | ")} |`;

function kindSection({ kind, effects, without = {} }: (typeof EFFECTS)[number]): string[] {
  return [
    "",
    `### ${kind}`,
    "",
    ...(ALSO[kind] ?? []).map((test) => `- also: ${refText(test)}`),
    "",
    row("field", "test in `test/crds/effects.test.ts`"),
    row("---", "---"),
    ...effects.map(({ field }) => row(`\`${field}\``, `${kind} ${field}`)),
    ...Object.entries(without).map(([field, why]) => row(`\`${field}\``, `no effect of its own: ${why}`)),
  ];
}

export function renderCoverage(): string {
  const lines = [
    "# What tests show of each field and annotation",
    "",
    "Made by `npm run coverage` from the descriptions of the kinds (`src/crds`) and from the tests; a unit test fails when a field or an",
    "annotation has no row here, or a row names a test that does not exist. Each test of `test/crds/effects.test.ts` takes an object with",
    "two values of one field, and compares what the proxies are told, or decide, with both: as expected, and not the same. Kinds are judged as",
    "a whole (types, ranges, rules between fields) by `test/crds/schemas.test.ts`, valid and invalid.",
    "",
    "## Kinds, and annotations of what they are attached to",
    ...EFFECTS.flatMap(kindSection),
    ...Object.entries(IDLE).flatMap(([kind, why]) => [
      "",
      `### ${kind}`,
      "",
      `No field has an effect: ${why}.`,
    ]),
    "",
    "## Annotations of workloads and namespaces",
    "",
    row("annotation", "test in `test/inject/annotation-effects.test.ts`"),
    row("---", "---"),
    ...[...SETTING_KEYS, "linkerd.io/inject"].map((key) =>
      row(`\`${key}\``, `${key} on the pod and on its namespace`),
    ),
    "",
    "## Annotations that others write, or that are written for others",
    "",
    row("annotation", "test"),
    row("---", "---"),
    ...OPEN_KEYS.filter((key) => key !== "linkerd.io/inject").map((key) => {
      const said = OPEN[key];
      return row(`\`${key}\``, typeof said === "string" ? said : said ? refText(said) : "none");
    }),
  ];
  return `${lines.join("\n").replace(/\n{3,}/g, "\n\n")}\n`;
}

if (process.argv[1] && import.meta.url.endsWith(process.argv[1].split("/").at(-1) as string)) {
  writeFileSync(COVERAGE_FILE, renderCoverage());
}

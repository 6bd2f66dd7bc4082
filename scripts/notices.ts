// The licences of the packages that the bundles contain, as those licences ask.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One section a package, sorted by name. `inputs` are the source files of all bundles. */
export function renderNotices(root: string, inputs: readonly string[]): string {
  const names = new Set<string>();
  for (const input of inputs) {
    const match = /^.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input);
    if (match) names.add(match[0]);
  }
  return [...names]
    .sort()
    .map((directory) => section(join(root, directory)))
    .join("\n");
}

function section(directory: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
  const file = readdirSync(directory).find((entry) => /^(licen[cs]e|copying)/i.test(entry));
  const path = file && join(directory, file);
  const text = path && existsSync(path) ? readFileSync(path, "utf8").trim() : `Licence: ${license}`;
  return `${name} ${version}\n${"-".repeat(60)}\n${text}\n`;
}

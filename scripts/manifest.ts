// Renders oclif.manifest.json from the command sources, as `oclif manifest` would from a build. Run under tsx;
// `tsx scripts/manifest.ts` writes the file.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Plugin } from "@oclif/core/config";
import { packageRoot } from "../src/util/package-root.ts";

const file = join(packageRoot(), "oclif.manifest.json");

/** The manifest's text: what the sources say, with the paths that the build will give. */
export async function renderManifest(): Promise<string> {
  const root = packageRoot();
  const pjson = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  pjson.oclif.commands.target = "./src/commands";
  const plugin = new Plugin({
    root,
    type: "core",
    isRoot: true,
    pjson,
    ignoreManifest: true,
    errorOnManifestCreate: true,
    respectNoCacheDefault: true,
  });
  await plugin.load();
  const { commands, version } = plugin.manifest;
  for (const command of Object.values(commands)) {
    const path = command.relativePath as string[];
    command.relativePath = ["dist", ...path.slice(1, -1), path.at(-1)!.replace(/\.tsx?$/, ".js")];
  }
  const sorted = Object.fromEntries(Object.entries(commands).sort(([a], [b]) => (a < b ? -1 : 1)));
  return `${JSON.stringify({ commands: sorted, version }, null, 2)}\n`;
}

if (process.argv[1] && import.meta.url.endsWith(process.argv[1].split("/").at(-1) as string)) {
  writeFileSync(file, await renderManifest());
}

// Builds dist/ with esbuild: one entry per command, one per process, shared chunks between commands; then
// writes oclif.manifest.json. `tsx scripts/build.ts`.
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BuildOptions, build } from "esbuild";
import { packageRoot } from "../src/util/package-root.ts";
import { renderManifest } from "./manifest.ts";
import { renderNotices } from "./notices.ts";

const root = packageRoot();
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };

/** CommonJS packages inside an ES module bundle ask for `require`. */
const REQUIRE_BANNER =
  'import { createRequire as __meshRequire } from "node:module"; const require = __meshRequire(import.meta.url);';

/** Built here and then renamed, so that whoever runs from dist/ never finds it half there. */
const NEXT = "dist.next";

const shared: BuildOptions = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20.19",
  minifySyntax: true,
  minifyWhitespace: true,
  sourcemap: "external",
  legalComments: "none",
  metafile: true,
  outdir: NEXT,
  outbase: "src",
  external: ["koffi"],
  banner: { js: REQUIRE_BANNER },
  define: {
    __MESH_VERSION__: JSON.stringify(version),
    "process.env.NODE_ENV": '"production"',
    "process.env.DEV": '"false"',
  },
  // ink asks for the React dev tools when DEV is set; they would crash at import in a bundle.
  alias: { "react-devtools-core": join(root, "scripts/empty-module.ts") },
  logLevel: "warning",
};

/** Source files below `directory`, recursively, relative to the package. */
function sources(directory: string): string[] {
  return readdirSync(join(root, directory), { withFileTypes: true, recursive: true })
    .filter((file) => file.isFile() && /\.tsx?$/.test(file.name))
    .map((file) => join(file.parentPath, file.name).slice(root.length + 1))
    .sort();
}

rmSync(join(root, NEXT), { recursive: true, force: true });

// Commands and the CLI's own entries share chunks. Processes do not: each is one file, so that a container reads
// what it runs and no more.
const CLI_ENTRIES = ["src/entry/cli.ts", "src/entry/complete.ts"];
const entries = sources("src/entry");
const builds = await Promise.all([
  build({
    ...shared,
    entryPoints: [...sources("src/commands"), ...entries.filter((entry) => CLI_ENTRIES.includes(entry))],
    splitting: true,
    chunkNames: "chunks/[hash]",
  }),
  ...entries
    .filter((entry) => !CLI_ENTRIES.includes(entry))
    .map((entry) => build({ ...shared, entryPoints: [entry] })),
]);

/** What ended up in each output file, for the tests that guard start-up and the proxy's memory. */
const outputs: Record<string, { bytes: number; inputs: string[]; imports: string[] }> = {};
for (const { metafile } of builds) {
  for (const [file, output] of Object.entries(metafile!.outputs)) {
    if (file.endsWith(".map")) continue;
    outputs[file.replace(NEXT, "dist")] = {
      bytes: output.bytes,
      inputs: Object.keys(output.inputs),
      imports: output.imports
        .filter((i) => i.kind === "import-statement" && !i.external)
        .map((i) => i.path.replace(NEXT, "dist")),
    };
  }
}
writeFileSync(join(root, NEXT, "outputs.json"), JSON.stringify(outputs));
writeFileSync(
  join(root, NEXT, "THIRD-PARTY-NOTICES"),
  renderNotices(
    root,
    Object.values(outputs).flatMap((output) => output.inputs),
  ),
);
writeFileSync(join(root, "oclif.manifest.json"), await renderManifest());

const old = join(root, "dist.old");
rmSync(old, { recursive: true, force: true });
if (existsSync(join(root, "dist"))) renameSync(join(root, "dist"), old);
renameSync(join(root, NEXT), join(root, "dist"));
rmSync(old, { recursive: true, force: true });

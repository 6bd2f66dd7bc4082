#!/usr/bin/env node
// Starts `kubectl mesh`. The version is answered here, before anything is loaded.
import { existsSync } from "node:fs";
import module from "node:module";
import process from "node:process";

const argv = process.argv.slice(2);
const line = argv.join(" ");

if (line === "version --client" || line === "version --client --short" || line === "--version") {
  const { version } = module.createRequire(import.meta.url)("../package.json");
  process.stdout.write(line === "version --client" ? `Client version: ${version}\n` : `${version}\n`);
} else {
  module.enableCompileCache?.();
  // A reader that left (`| head`) is not a failure.
  process.stdout.on("error", (error) => {
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  const cli = new URL("../dist/entry/cli.js", import.meta.url);
  if (!existsSync(cli)) {
    process.stderr.write("Error: kubectl-mesh is not built\n  → npm ci && npm run build\n");
    process.exit(1);
  }
  const { main } = await import(cli.href);
  process.exit(await main(argv));
}

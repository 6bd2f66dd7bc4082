#!/usr/bin/env node
// Starts `kubectl mesh`. The version is answered here, before anything is loaded.
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
  const { main } = await import("../dist/entry/cli.js");
  process.exit(await main(argv));
}

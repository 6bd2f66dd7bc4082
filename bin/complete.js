#!/usr/bin/env node
// `kubectl_complete-mesh`: kubectl (1.26 and newer) runs it to complete `kubectl mesh …`.
import process from "node:process";

try {
  const { completionLines } = await import("../dist/entry/complete.js");
  process.stdout.write(await completionLines(process.argv.slice(2)), () => process.exit(0));
} catch {
  process.stdout.write(":1\n");
}

// Runs the end-to-end and terminal tests: each file in a process of its own, one after another since they
// start whole clusters, each with a time limit. `tsx scripts/e2e.ts [part of a file name]`.
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../src/util/package-root.ts";

/** Longest a single file may take, ms. */
const FILE_TIMEOUT = 240_000;

const root = packageRoot();
const wanted = process.argv[2] ?? "";
const files = ["test/e2e", "test/tty"]
  .flatMap((directory) =>
    readdirSync(join(root, directory), { recursive: true }).map((name) => `${directory}/${name}`),
  )
  .filter((file) => /\.test\.tsx?$/.test(file) && file.includes(wanted))
  .sort();

let failed = 0;
for (const file of files) {
  const started = performance.now();
  const { code, output } = await run(file);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(`${code === 0 ? "ok  " : "FAIL"} ${file} (${seconds} s)\n`);
  if (code !== 0 || process.env["VERBOSE"]) process.stdout.write(`${output}\n`);
  if (code !== 0) failed += 1;
}
process.stdout.write(`\n${files.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 && files.length > 0 ? 0 : 1;

function run(file: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--import", "tsx", file], {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    const timer = setTimeout(() => {
      output += `\nkilled after ${FILE_TIMEOUT / 1000} s\n`;
      // The whole group: a file that hangs may have started processes of its own.
      process.kill(-child.pid!, "SIGKILL");
    }, FILE_TIMEOUT);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}

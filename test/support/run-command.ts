// Runs a command line from sources in this process and hands back what it wrote.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Config } from "@oclif/core";
import { Plugin } from "@oclif/core/config";
import { main } from "../../src/cli/main.ts";
import { packageRoot } from "../../src/util/package-root.ts";

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

let loaded: Config | undefined;

/** oclif's view of src/commands, without the manifest (which knows dist/ only). */
async function sourceConfig(): Promise<Config> {
  if (loaded) return loaded;
  const root = packageRoot();
  const pjson = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  pjson.oclif.commands = { strategy: "pattern", target: "./src/commands" };
  const plugin = new Plugin({ root, pjson, isRoot: true, ignoreManifest: true });
  await plugin.load();
  loaded = (await Config.load({ root, pjson, plugins: new Map([[plugin.name, plugin]]) })) as Config;
  return loaded;
}

/** One at a time: the process's stdout and stderr are taken over meanwhile. */
export async function runCommand(...argv: string[]): Promise<CommandResult> {
  const config = await sourceConfig();
  const out = capture(process.stdout);
  const err = capture(process.stderr);
  const before = process.exitCode;
  process.exitCode = undefined;
  try {
    const code = await main(argv, config);
    return { stdout: out.text(), stderr: err.text(), code };
  } finally {
    out.restore();
    err.restore();
    process.exitCode = before;
  }
}

function capture(stream: NodeJS.WriteStream): { text: () => string; restore: () => void } {
  const original = stream.write;
  let text = "";
  stream.write = ((chunk: string | Uint8Array, ...rest: unknown[]) => {
    text += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString();
    const done = rest.find((item) => typeof item === "function") as (() => void) | undefined;
    if (done) queueMicrotask(done);
    return true;
  }) as typeof stream.write;
  return {
    text: () => text,
    restore: () => {
      stream.write = original;
    },
  };
}

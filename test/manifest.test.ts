// The committed manifest and the snapshot of the command surface: neither changes unnoticed.
// `UPDATE=1 npm run test:unit` writes both anew.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { renderManifest } from "../scripts/manifest.ts";
import { packageRoot } from "../src/util/package-root.ts";

const test = suite("manifest");
const root = packageRoot();

interface Flag {
  name: string;
  char?: string;
  type: string;
  required?: boolean;
  multiple?: boolean;
  options?: string[];
  aliases?: string[];
  hidden?: boolean;
}
interface Command {
  id: string;
  aliases?: string[];
  hidden?: boolean;
  summary?: string;
  examples?: unknown[];
  args: Record<string, { name: string; required?: boolean }>;
  flags: Record<string, Flag>;
}

/** One line a command with its arguments, then one a flag: what scripts and fingers depend on. */
function surface(commands: Record<string, Command>): string {
  const lines: string[] = [];
  for (const id of Object.keys(commands).sort()) {
    const command = commands[id]!;
    const args = Object.values(command.args).map((arg) => (arg.required ? arg.name : `[${arg.name}]`));
    const aliases = command.aliases?.length ? ` (also ${command.aliases.join(", ")})` : "";
    lines.push([id, ...args].join(" ") + aliases);
    for (const name of Object.keys(command.flags).sort()) {
      const flag = command.flags[name]!;
      const parts = [`--${name}`];
      if (flag.char) parts.unshift(`-${flag.char}`);
      if (flag.type === "option") parts.push(flag.options ? flag.options.join("|") : "VALUE");
      if (flag.multiple) parts.push("…");
      if (flag.required) parts.push("required");
      lines.push(`  ${parts.join(" ")}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

const rendered = await renderManifest();
const commands = JSON.parse(rendered).commands as Record<string, Command>;
const files = {
  "oclif.manifest.json": rendered,
  "test/fixtures/commands.snapshot.txt": surface(commands),
};

for (const [file, text] of Object.entries(files)) {
  test(`${file} is what the commands say`, () => {
    const path = join(root, file);
    if (process.env["UPDATE"]) writeFileSync(path, text);
    assert.fixture(readFileSync(path, "utf8"), text);
  });
}

test("every command has a summary, and an example unless hidden", () => {
  const lacking = Object.values(commands)
    .filter((c) => !c.hidden && (!c.summary || !c.examples?.length))
    .map((c) => c.id);
  assert.equal(lacking, []);
});

test.run();

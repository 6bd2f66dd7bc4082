// `kubectl mesh completion`: how to get completion, and the scripts for shells.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { Args } from "@oclif/core";
import { PlainCommand } from "../cli/base-command.ts";
import { completionScript, SHELLS } from "../cli/completion-scripts.ts";
import { packageRoot } from "../util/package-root.ts";

const EXECUTABLE = "kubectl_complete-mesh";

export default class Completion extends PlainCommand<typeof Completion> {
  static override summary = "Set up completion of `kubectl mesh` in your shell.";
  static override description =
    `kubectl 1.26 and newer completes \`kubectl mesh …\` by itself as soon as an executable named ${EXECUTABLE} is on PATH; npm installs it beside kubectl-mesh. With the name of a shell this prints a script that completes the words \`kubectl-mesh\` and \`mesh\` (for an alias) as well.`;
  static override examples = [
    "<%= config.bin %> completion",
    "source <(<%= config.bin %> completion bash)",
    "<%= config.bin %> completion fish > ~/.config/fish/completions/kubectl-mesh.fish",
  ];
  static override args = {
    shell: Args.string({ description: "Shell to print a script for.", options: [...SHELLS] }),
  };

  async run(): Promise<void> {
    const program = join(packageRoot(), "bin/complete.js");
    const shell = SHELLS.find((name) => name === this.args.shell);
    if (shell) {
      this.write(completionScript(shell, program));
      return;
    }
    const found = (process.env["PATH"] ?? "")
      .split(delimiter)
      .map((directory) => join(directory, EXECUTABLE))
      .find((path) => existsSync(path));
    const { literal, ok, warn } = this.style;
    this.write(
      found
        ? `${ok("√")} ${EXECUTABLE} is on PATH (${found}): kubectl 1.26 and newer completes \`kubectl mesh\`.\n`
        : [
            `${warn("‼")} ${EXECUTABLE} is not on PATH. Put it there, and kubectl 1.26 and newer completes \`kubectl mesh\`:`,
            `    ${literal(`ln -s ${program} /usr/local/bin/${EXECUTABLE}`)}`,
            "",
          ].join("\n"),
    );
    this.write(
      [
        "",
        "kubectl's own completion must be loaded:",
        `    ${literal("source <(kubectl completion bash)")}   (or zsh; for fish: kubectl completion fish | source)`,
        "",
        "For the words `kubectl-mesh` and `mesh`, without kubectl:",
        `    ${literal("source <(kubectl mesh completion bash)")}   (or zsh; for fish: kubectl mesh completion fish | source)`,
        "",
      ].join("\n"),
    );
  }
}

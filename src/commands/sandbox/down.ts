// `kubectl mesh sandbox down`: ends the embedded cluster.
import { Flags } from "@oclif/core";
import { PlainCommand } from "../../cli/base-command.ts";
import { sandboxDirFlag } from "../../cli/sandbox-flags.ts";
import { down, stateDirectory } from "../../sandbox/lifecycle/index.ts";

export default class SandboxDown extends PlainCommand<typeof SandboxDown> {
  static override summary = "Stop the cluster on this machine.";
  static override description =
    "Ends all pods and the cluster. Its state stays on disk for the next `up`, unless --delete is given.";
  static override examples = ["<%= config.bin %> sandbox down", "<%= config.bin %> sandbox down --delete"];
  static override flags = {
    ...sandboxDirFlag,
    delete: Flags.boolean({ summary: "Remove the cluster's state, too." }),
  };

  async run(): Promise<void> {
    const directory = stateDirectory(this.flags.dir);
    const progress = this.progress("stopping the sandbox");
    const result = await down({ directory, delete: this.flags.delete }).finally(() => progress.stop());
    this.note(result.stopped ? "The sandbox is down." : "The sandbox was not running.");
    if (result.killed) this.note("It did not end by itself and was killed.");
    if (result.deleted) this.note(`Its state in ${directory} is gone.`);
    else if (result.stopped) this.note(`Its state stays in ${directory}; --delete removes it.`);
  }
}

// `kubectl mesh sandbox kubeconfig`: how clients reach the embedded cluster.
import { existsSync, readFileSync } from "node:fs";
import { Flags } from "@oclif/core";
import { PlainCommand } from "../../cli/base-command.ts";
import { sandboxDirFlag } from "../../cli/sandbox-flags.ts";
import { kubeconfigPath, stateDirectory } from "../../sandbox/lifecycle/index.ts";
import { MeshError } from "../../util/error.ts";

export default class SandboxKubeconfig extends PlainCommand<typeof SandboxKubeconfig> {
  static override summary = "Print the kubeconfig of the cluster on this machine.";
  static override examples = [
    'export KUBECONFIG="$(<%= config.bin %> sandbox kubeconfig --path)"',
    "<%= config.bin %> sandbox kubeconfig > sandbox.kubeconfig",
  ];
  static override flags = {
    ...sandboxDirFlag,
    path: Flags.boolean({ summary: "Print where the file is instead of what is in it." }),
  };

  async run(): Promise<void> {
    const path = kubeconfigPath(stateDirectory(this.flags.dir));
    if (!existsSync(path)) {
      throw new MeshError(`there is no sandbox: ${path} does not exist`, {
        hints: ["start it: kubectl mesh sandbox up"],
      });
    }
    this.write(this.flags.path ? `${path}\n` : readFileSync(path, "utf8"));
  }
}

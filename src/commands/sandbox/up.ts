// `kubectl mesh sandbox up`: an embedded cluster on this machine.
import { Flags } from "@oclif/core";
import { PlainCommand } from "../../cli/base-command.ts";
import { sandboxDirFlag } from "../../cli/sandbox-flags.ts";
import { DEFAULT_PORT, stateDirectory, up } from "../../sandbox/lifecycle/index.ts";
import { VERSION } from "../../util/version.ts";

export default class SandboxUp extends PlainCommand<typeof SandboxUp> {
  static override summary = "Start a cluster on this machine.";
  static override description =
    "Starts an API server with its controllers and nodes in namespaces of their own: no Docker, no virtual machine, nothing of the host's network is touched. What was there at the last `down` is there again. Run it when it is up already and it says where.";
  static override examples = [
    "<%= config.bin %> sandbox up",
    "<%= config.bin %> sandbox up --nodes 3",
    'export KUBECONFIG="$(<%= config.bin %> sandbox kubeconfig --path)"',
  ];
  static override flags = {
    ...sandboxDirFlag,
    nodes: Flags.integer({ min: 1, max: 100, default: 1, summary: "How many nodes the cluster has." }),
    port: Flags.integer({
      min: 1,
      max: 65_535,
      default: DEFAULT_PORT,
      summary: "Port of the API server on 127.0.0.1.",
    }),
  };

  async run(): Promise<void> {
    const { nodes, port } = this.flags;
    const progress = this.progress("starting the sandbox");
    const started = performance.now();
    const result = await up({
      directory: stateDirectory(this.flags.dir),
      port,
      nodes,
      onStep: (text) => progress.update(text),
    }).finally(() => progress.stop());
    const { record, kubeconfig } = result;
    const where = `https://127.0.0.1:${record.port}`;
    if (result.alreadyUp) {
      this.note(`The sandbox is already up: ${where}`);
      if (record.nodes !== nodes || record.port !== port) {
        this.note(
          `It has ${record.nodes} node(s) on port ${record.port}; to change that: kubectl mesh sandbox down`,
        );
      }
      if (record.version !== VERSION) {
        this.note(
          `It runs version ${record.version}, this is ${VERSION}: kubectl mesh sandbox down, then up`,
        );
      }
    } else {
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      this.note(`The sandbox is up after ${seconds} s: ${where}`);
    }
    this.note();
    this.write(`export KUBECONFIG=${shellWord(kubeconfig)}\n`);
  }
}

/** Quoted where a shell would take it apart. */
function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// `kubectl mesh sandbox status`: what runs on this machine.
import { PlainCommand } from "../../cli/base-command.ts";
import { outputFlag } from "../../cli/flags.ts";
import { renderAs, renderTable } from "../../cli/output.ts";
import { sandboxDirFlag } from "../../cli/sandbox-flags.ts";
import { type SandboxStatus as Status, stateDirectory, status } from "../../sandbox/lifecycle/index.ts";

export default class SandboxStatus extends PlainCommand<typeof SandboxStatus> {
  static override summary = "Show whether the cluster on this machine runs.";
  static override description = "Exits with 0 when it runs and answers, with 1 otherwise.";
  static override examples = ["<%= config.bin %> sandbox status", "<%= config.bin %> sandbox status -o json"];
  static override flags = { ...sandboxDirFlag, ...outputFlag(["table", "json", "yaml"]) };

  async run(): Promise<void> {
    const found = await status(stateDirectory(this.flags.dir));
    this.write(await renderAs(this.flags.output, found, () => renderTable(COLUMNS, [found])));
    if (found.problem) this.note(`\nThe API server does not answer: ${found.problem}\nIts log: ${found.log}`);
    if (found.state === "stopped") this.note("\nStart it: kubectl mesh sandbox up");
    if (found.state !== "running") process.exitCode = 1;
  }
}

const share = (count: { ready: number; total: number } | undefined) =>
  count && `${count.ready}/${count.total}`;

const COLUMNS = [
  { header: "STATE", value: (row: Status) => row.state },
  { header: "SERVER", value: (row: Status) => row.server },
  { header: "NODES", value: (row: Status) => share(row.nodes) },
  { header: "PODS", value: (row: Status) => share(row.pods) },
  { header: "VERSION", value: (row: Status) => row.version },
  { header: "DIRECTORY", value: (row: Status) => row.directory },
];

// `kubectl mesh version`: which versions run where.
import { Flags } from "@oclif/core";
import { MeshCommand } from "../cli/base-command.ts";
import { outputFlag } from "../cli/flags.ts";
import { renderAs } from "../cli/output.ts";
import { VERSION } from "../util/version.ts";

export default class Version extends MeshCommand<typeof Version> {
  static override summary = "Print the versions of the client.";
  static override examples = ["<%= config.bin %> version --client"];
  static override flags = {
    client: Flags.boolean({ summary: "Print the client's version only; asks no cluster." }),
    ...outputFlag(["table", "json", "yaml"]),
  };

  async run(): Promise<void> {
    this.write(await renderAs(this.flags.output, { client: VERSION }, () => `Client version: ${VERSION}\n`));
  }
}

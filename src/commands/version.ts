// `kubectl mesh version`: which versions run where.
import { Flags } from "@oclif/core";
import { MeshCommand } from "../cli/base-command.ts";
import { outputFlag } from "../cli/flags.ts";
import { renderAs } from "../cli/output.ts";
import type { ProxyVersion } from "../cli/versions.ts";
import { errorMessage } from "../util/error.ts";
import { VERSION } from "../util/version.ts";

interface Versions {
  readonly client: string;
  /** Null: not installed, or the cluster cannot be reached. */
  readonly server?: string | null;
  readonly proxies?: readonly ProxyVersion[];
}

export default class Version extends MeshCommand<typeof Version> {
  static override summary = "Print the versions of the client, the control plane and the proxies.";
  static override examples = [
    "<%= config.bin %> version",
    "<%= config.bin %> version --client",
    "<%= config.bin %> version -n demo -o json",
  ];
  static override flags = {
    client: Flags.boolean({ summary: "Print the client's version only; asks no cluster." }),
    short: Flags.boolean({ summary: "Print the bare versions of client and control plane, one a line." }),
    namespace: Flags.string({
      char: "n",
      helpValue: "NAMESPACE",
      summary: "Namespace whose proxies are counted. Default: all.",
    }),
    ...outputFlag(["table", "json", "yaml"]),
  };

  async run(): Promise<void> {
    const versions = this.flags.client ? { client: VERSION } : await this.collect();
    this.write(
      await renderAs(this.flags.output, versions, () =>
        this.flags.short ? short(versions) : long(versions),
      ),
    );
  }

  private async collect(): Promise<Versions> {
    const { proxyVersions, serverVersion } = await import("../cli/versions.ts");
    try {
      const { client } = await this.cluster();
      const [server, proxies] = await Promise.all([
        serverVersion(client, this.meshNamespace),
        proxyVersions(client, this.meshNamespace, this.flags.namespace),
      ]);
      if (server === undefined) this.note(`Note: no mesh is installed in namespace ${this.meshNamespace}.`);
      return { client: VERSION, server: server ?? null, proxies };
    } catch (error) {
      // The client's version is an answer too.
      this.note(`Note: ${errorMessage(error)}`);
      return { client: VERSION, server: null };
    }
  }
}

function short(versions: Versions): string {
  return `${[versions.client, ...(versions.server === undefined ? [] : [versions.server ?? "unavailable"])].join("\n")}\n`;
}

function long(versions: Versions): string {
  const lines = [`Client version: ${versions.client}`];
  if (versions.server !== undefined) lines.push(`Server version: ${versions.server ?? "unavailable"}`);
  for (const { version, pods } of versions.proxies ?? []) {
    lines.push(`Proxy version:  ${version} (${pods} ${pods === 1 ? "pod" : "pods"})`);
  }
  return `${lines.join("\n")}\n`;
}

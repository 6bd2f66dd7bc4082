// What every command shares: the global flags, one way to write answers and one way to reach the cluster.
// Nothing heavy is imported here: kube/, yaml, ink and the like are loaded by the command that needs them.
import { Command, type Interfaces } from "@oclif/core";
import type { KubeClient } from "../kube/client.ts";
import type { ClusterConfig, KubeConfigOptions } from "../kube/config.ts";
import { clusterFlags, verboseFlag } from "./flags.ts";
import { type Column, type OutputFormat, renderAs, renderTable } from "./output.ts";
import { type Progress, startProgress } from "./progress.ts";
import { createStyle, type Style } from "./style.ts";

type PlainFlags<T extends typeof Command> = Interfaces.InferredFlags<
  (typeof PlainCommand)["baseFlags"] & T["flags"]
>;
export type FlagsOf<T extends typeof Command> = Interfaces.InferredFlags<
  (typeof MeshCommand)["baseFlags"] & T["flags"]
>;
export type ArgsOf<T extends typeof Command> = Interfaces.InferredArgs<T["args"]>;

/** The cluster that the flags point at. */
export interface Cluster {
  readonly config: ClusterConfig;
  readonly client: KubeClient;
}

/**
 * Base of commands that need no cluster. Failures are thrown: MeshError for what the user can act on, usageError
 * for a wrong command line.
 */
export abstract class PlainCommand<T extends typeof Command> extends Command {
  static override baseFlags = { ...verboseFlag };

  protected flags!: PlainFlags<T>;
  protected args!: ArgsOf<T>;
  /** All words that are not flags, for commands with `strict = false`. */
  protected words: string[] = [];
  protected readonly style: Style = createStyle(process.stdout);

  override async init(): Promise<void> {
    await super.init();
    const parsed = await this.parse({
      args: this.ctor.args,
      flags: this.ctor.flags,
      baseFlags: (this.ctor as typeof PlainCommand).baseFlags,
      strict: this.ctor.strict,
    });
    this.flags = parsed.flags as PlainFlags<T>;
    this.args = parsed.args as ArgsOf<T>;
    this.words = parsed.argv as string[];
  }

  /** Writes data to stdout as it is. */
  protected write(text: string): void {
    process.stdout.write(text);
  }

  /** Talks to the person: a line on stderr, so that stdout can be piped. */
  protected note(text = ""): void {
    process.stderr.write(`${text}\n`);
  }

  /** A line on stderr that only --verbose shows. */
  protected detail(text: string): void {
    if ((this.flags as { verbose?: boolean }).verbose) this.note(text);
  }

  protected progress(text: string): Progress {
    return startProgress(text);
  }

  /** Writes rows in the format that `-o` asks for; `data` is what JSON and YAML show. */
  protected async writeRows<Row>(
    format: OutputFormat,
    data: unknown,
    columns: readonly Column<Row>[],
    rows: readonly Row[],
  ): Promise<void> {
    this.write(await renderAs(format, data, () => renderTable(columns, rows, { wide: format === "wide" })));
  }
}

/**
 * Base of commands that talk to a cluster:
 *
 *     export default class Stat extends MeshCommand<typeof Stat> {
 *       static override flags = { ...namespaceFlag, ...outputFlag(["table", "json"]) };
 *       async run() { const { client } = await this.cluster(); … this.write(…) }
 *     }
 */
export abstract class MeshCommand<T extends typeof Command> extends PlainCommand<T> {
  static override baseFlags = { ...verboseFlag, ...clusterFlags };

  declare protected flags: FlagsOf<T>;

  protected get meshNamespace(): string {
    return (this.flags as { "mesh-namespace": string })["mesh-namespace"];
  }

  protected get clusterOptions(): KubeConfigOptions {
    const flags = this.flags as {
      kubeconfig?: string;
      context?: string;
      as?: string;
      "as-group"?: string[];
    };
    return {
      kubeconfig: flags.kubeconfig,
      context: flags.context,
      as: flags.as,
      asGroups: flags["as-group"],
    };
  }

  /** @throws MeshError when no cluster is configured. */
  protected async cluster(): Promise<Cluster> {
    const [{ loadKubeConfig }, { KubeClient }] = await Promise.all([
      import("../kube/config.ts"),
      import("../kube/client.ts"),
    ]);
    const config = await loadKubeConfig(this.clusterOptions);
    this.detail(`cluster ${config.server}, context ${config.context}`);
    return { config, client: new KubeClient(config) };
  }

  /** The namespace to look in: -n, or the context's. */
  protected namespaceIn(config: ClusterConfig): string {
    return (this.flags as { namespace?: string }).namespace ?? config.namespace;
  }
}

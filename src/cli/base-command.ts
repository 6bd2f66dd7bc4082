// What every command shares: the global flags, one way to write answers and one way to reach the cluster.
// Nothing heavy is imported here: kube/, yaml, ink and the like are loaded by the command that needs them.
import { Command, type Interfaces } from "@oclif/core";
import { clusterFlags, verboseFlag } from "./flags.ts";
import { type Column, type OutputFormat, renderAs, renderTable } from "./output.ts";
import { type Progress, startProgress } from "./progress.ts";
import { createStyle, type Style } from "./style.ts";

export type FlagsOf<T extends typeof Command> = Interfaces.InferredFlags<
  (typeof MeshCommand)["baseFlags"] & T["flags"]
>;
export type ArgsOf<T extends typeof Command> = Interfaces.InferredArgs<T["args"]>;

/** How to reach the cluster, as kube/'s loadKubeConfig takes it. */
export interface ClusterOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly as?: string;
  readonly asGroups?: readonly string[];
}

/**
 * Base of all commands:
 *
 *     export default class Stat extends MeshCommand<typeof Stat> {
 *       static override flags = { ...namespaceFlag, ...outputFlag(["table", "json"]) };
 *       async run() { this.write(...) }
 *     }
 *
 * Failures are thrown: MeshError for what the user can act on, usageError for a wrong command line.
 */
export abstract class MeshCommand<T extends typeof Command> extends Command {
  static override baseFlags = { ...clusterFlags, ...verboseFlag };

  protected flags!: FlagsOf<T>;
  protected args!: ArgsOf<T>;
  /** All words that are not flags, for commands with `strict = false`. */
  protected words: string[] = [];
  protected readonly style: Style = createStyle(process.stdout);

  override async init(): Promise<void> {
    await super.init();
    const parsed = await this.parse({
      args: this.ctor.args,
      flags: this.ctor.flags,
      baseFlags: (this.ctor as typeof MeshCommand).baseFlags,
      strict: this.ctor.strict,
    });
    this.flags = parsed.flags as FlagsOf<T>;
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

  protected get meshNamespace(): string {
    return (this.flags as { "mesh-namespace": string })["mesh-namespace"];
  }

  protected get clusterOptions(): ClusterOptions {
    const flags = this.flags as {
      kubeconfig?: string;
      context?: string;
      as?: string;
      "as-group"?: string[];
    };
    return {
      ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
      ...(flags.context === undefined ? {} : { context: flags.context }),
      ...(flags.as === undefined ? {} : { as: flags.as }),
      ...(flags["as-group"] === undefined ? {} : { asGroups: flags["as-group"] }),
    };
  }
}

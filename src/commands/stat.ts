// `kubectl mesh stat`: golden metrics of workloads over the last minute.
import { Flags } from "@oclif/core";
import type { StatRow } from "../api/stat.ts";
import { MeshCommand } from "../cli/base-command.ts";
import { usageError } from "../cli/errors.ts";
import { allNamespacesFlag, namespaceFlag, outputFlag, selectorFlag } from "../cli/flags.ts";
import { parseDuration } from "../util/duration.ts";
import { errorMessage, MeshError } from "../util/error.ts";
import { breaches, type Limit, parseLimits } from "../viz/gate.ts";
import { parseResource, parseResources, within } from "../viz/resource.ts";
import { statColumns, statJson } from "../viz/stat-rows.ts";

const MIN_WINDOW = 15_000;

export default class Stat extends MeshCommand<typeof Stat> {
  static override summary = "Show success rate, requests, latency and connections of workloads.";
  static override description =
    `The numbers come from the proxies of the meshed pods and cover the last minute, or --time-window.
RESOURCES are KIND, KIND NAME… or KIND/NAME…; kinds: deploy, po, svc, ns, sts, ds, job, cj, rs, rc.`;
  static override aliases = ["viz:stat"];
  static override strict = false;
  static override usage = "stat RESOURCES… [flags]";
  static override examples = [
    "<%= config.bin %> stat deploy",
    "<%= config.bin %> stat deploy/web -n demo -o wide",
    "<%= config.bin %> stat ns",
    "<%= config.bin %> stat deploy/web --to svc/voting",
    "<%= config.bin %> stat deploy -A -o json",
    "<%= config.bin %> stat deploy -n demo --fail-under success=99,p99=500ms",
  ];
  static override flags = {
    ...namespaceFlag,
    ...allNamespacesFlag,
    ...selectorFlag,
    to: Flags.string({ helpValue: "RESOURCE", summary: "Only what is sent to this resource." }),
    "to-namespace": Flags.string({
      helpValue: "NAMESPACE",
      summary: "Namespace of --to. Default: that of -n.",
    }),
    from: Flags.string({
      helpValue: "RESOURCE",
      exclusive: ["to"],
      summary: "Only what comes from this resource.",
    }),
    "from-namespace": Flags.string({
      helpValue: "NAMESPACE",
      summary: "Namespace of --from. Default: that of -n.",
    }),
    "time-window": Flags.string({
      char: "t",
      default: "1m",
      helpValue: "DURATION",
      summary: "How far to look back, at least 15s.",
    }),
    unmeshed: Flags.boolean({ summary: "Also list workloads that have no proxy." }),
    "fail-under": Flags.string({
      helpValue: "LIMITS",
      summary:
        "Exit 1 when quality falls short, for pipelines: success=PERCENT, rps=NUMBER, p50|p95|p99=DURATION.",
    }),
    ...outputFlag(["table", "wide", "json", "yaml"]),
  };

  async run(): Promise<void> {
    const { flags } = this;
    const window = this.parseWindow();
    const limits = this.parseGate();
    const asked = parseResources(this.words);
    const to = flags.to === undefined ? undefined : parseResource(flags.to);
    const from = flags.from === undefined ? undefined : parseResource(flags.from);
    if (to && asked.some(({ kind }) => kind === "service")) {
      throw usageError(
        "a service sends nothing itself, so --to cannot be asked of it",
        "name a workload: deploy, sts …",
      );
    }

    const { config, client } = await this.cluster();
    const namespace = flags["all-namespaces"] ? undefined : this.namespaceIn(config);
    const resources = asked.map((ref) => within(ref, namespace));
    const { openMetricsApi } = await import("../viz/metrics-api-source.ts");
    const source = await openMetricsApi(client, this.meshNamespace);
    try {
      const answers = await Promise.all(
        resources.map((resource) =>
          source.stat({
            resource,
            window,
            ...(flags.selector === undefined ? {} : { selector: flags.selector }),
            ...(to ? { to: within(to, flags["to-namespace"] ?? namespace) } : {}),
            ...(from ? { from: within(from, flags["from-namespace"] ?? namespace) } : {}),
          }),
        ),
      );
      const all = answers.flatMap((answer) => answer.rows);
      const named = resources.some(({ name }) => name !== undefined);
      const rows = flags.unmeshed || named ? all : all.filter((row) => row.pods?.meshed !== 0);
      if (answers.some((answer) => answer.incomplete)) {
        this.note("Note: the metrics API reached its memory limit; some traffic is missing here.");
      }
      const covered = Math.max(0, ...answers.map((answer) => answer.window));
      if (rows.some((row) => row.requests || row.tcp) && covered < window * 0.9) {
        this.note(
          `Note: the numbers cover the last ${Math.round(covered / 1000)}s; there are none from before.`,
        );
      }
      await this.show(rows, all.length - rows.length);
      this.judge(rows, limits);
    } finally {
      source.close();
    }
  }

  private parseWindow(): number {
    const text = this.flags["time-window"];
    try {
      const window = parseDuration(text);
      if (window >= MIN_WINDOW) return window;
    } catch (error) {
      throw usageError(`--time-window: ${errorMessage(error)}`);
    }
    throw usageError(`--time-window: expected at least 15s, got ${text}`);
  }

  private parseGate(): Limit[] {
    try {
      return this.flags["fail-under"] === undefined ? [] : parseLimits(this.flags["fail-under"]);
    } catch (error) {
      throw usageError(`--fail-under: ${errorMessage(error)}`);
    }
  }

  private async show(rows: readonly StatRow[], hidden: number): Promise<void> {
    const { output } = this.flags;
    if (rows.length === 0 && (output === "table" || output === "wide")) {
      this.note("No traffic found.");
      if (hidden > 0)
        this.note(
          `${hidden} without a proxy; list them with --unmeshed, mesh them with: kubectl mesh inject`,
        );
      return;
    }
    const columns = statColumns({
      namespace: this.flags["all-namespaces"] === true,
      kinds: new Set(rows.map((row) => row.kind)).size > 1,
      status: rows.some((row) => row.status !== undefined),
    });
    await this.writeRows(output, rows.map(statJson), columns, rows);
  }

  private judge(rows: readonly StatRow[], limits: readonly Limit[]): void {
    if (limits.length === 0) return;
    const short = breaches(rows, limits);
    if (short.length === 0) return;
    throw new MeshError("the traffic falls short of --fail-under", { hints: short });
  }
}

// `kubectl mesh top`: live traffic of workloads.
import { MeshCommand } from "../cli/base-command.ts";
import { usageError } from "../cli/errors.ts";
import { allNamespacesFlag, namespaceFlag, outputFlag, selectorFlag } from "../cli/flags.ts";
import { systemClock } from "../util/clock.ts";
import { formatResource, parseResources, within } from "../viz/resource.ts";
import { statColumns, statJson } from "../viz/stat-rows.ts";

/** Live numbers look back this far, ms. */
const WINDOW = 15_000;
const REFRESH = 1_000;

export default class Top extends MeshCommand<typeof Top> {
  static override summary = "Watch live traffic of workloads.";
  static override description =
    `A table that is renewed every second: success rate, requests, latencies, connections and the course of the request rate, and for the selected row who it talks to. Without a terminal, one snapshot is printed.
Keys: arrows select, s sorts, / filters, p pauses, q quits.`;
  static override aliases = ["viz:top"];
  static override strict = false;
  static override usage = "top [RESOURCE] [flags]";
  static override examples = [
    "<%= config.bin %> top",
    "<%= config.bin %> top deploy -A",
    "<%= config.bin %> top deploy/web -n demo",
  ];
  static override flags = {
    ...namespaceFlag,
    ...allNamespacesFlag,
    ...selectorFlag,
    ...outputFlag(["table", "wide", "json", "yaml"]),
  };

  async run(): Promise<void> {
    const { flags } = this;
    const resources = parseResources(this.words.length === 0 ? ["deploy"] : this.words);
    const [asked] = resources;
    if (!asked || resources.length > 1) throw usageError("top watches one kind or one resource at a time");
    const { config, client } = await this.cluster();
    const namespace = flags["all-namespaces"] ? undefined : this.namespaceIn(config);
    const resource = within(asked, namespace);
    const { openMetricsApi } = await import("../viz/metrics-api-source.ts");
    const source = await openMetricsApi(client, this.meshNamespace);
    const ask = async () => {
      const query = {
        resource,
        window: WINDOW,
        ...(flags.selector === undefined ? {} : { selector: flags.selector }),
      };
      const [stat, edges] = await Promise.all([
        source.stat(query),
        source.edges({ resource, window: WINDOW }),
      ]);
      return { rows: stat.rows, edges: edges.rows };
    };
    try {
      if (!process.stdout.isTTY || !process.stdin.isTTY || flags.output !== "table") {
        const { rows } = await ask();
        const columns = statColumns({ namespace: namespace === undefined, kinds: false, status: false });
        await this.writeRows(flags.output, rows.map(statJson), columns, rows);
        return;
      }
      const [{ showTop }, { TopStore }] = await Promise.all([
        import("../tui/top-screen.tsx"),
        import("../tui/top-store.ts"),
      ]);
      const where = namespace === undefined ? "all namespaces" : namespace;
      await showTop(new TopStore({ ask, clock: systemClock, interval: REFRESH }), {
        title: `${formatResource(resource)} in ${where}`,
        namespaces: namespace === undefined,
      });
    } finally {
      source.close();
    }
  }
}

// `kubectl mesh check`: is the mesh well, and if not, what to do.
import { Flags } from "@oclif/core";
import { MeshCommand } from "../cli/base-command.ts";
import { usageError } from "../cli/errors.ts";
import { namespaceFlag } from "../cli/flags.ts";
import { renderJson } from "../cli/output.ts";
import { parseDuration } from "../util/duration.ts";
import { errorMessage } from "../util/error.ts";
import { VERSION } from "../util/version.ts";

export default class Check extends MeshCommand<typeof Check> {
  static override summary = "Check the cluster, the control plane and the proxies.";
  static override description =
    "Exits with 1 when a check fails; warnings do not count. What each one means and how to mend it: docs/checks.md.";
  static override examples = [
    "<%= config.bin %> check --pre",
    "<%= config.bin %> check",
    "<%= config.bin %> check --proxy -n shop -o junit",
  ];
  static override flags = {
    pre: Flags.boolean({
      exclusive: ["proxy", "crds"],
      summary: "Before the installation: can the mesh be installed here?",
    }),
    crds: Flags.boolean({ exclusive: ["proxy"], summary: "Only the custom resource definitions." }),
    proxy: Flags.boolean({ summary: "The proxies of applications, too." }),
    wait: Flags.string({
      default: "5m",
      helpValue: "DURATION",
      summary: "How long to wait for what is still starting, e.g. 30s; 0 asks once.",
    }),
    output: Flags.option({
      char: "o",
      default: "table" as const,
      options: ["table", "short", "json", "junit"] as const,
      summary: "Output format.",
    })(),
    ...namespaceFlag,
  };

  async run(): Promise<void> {
    const checks = await import("../checks/index.ts");
    const { KubeClient, loadKubeConfig } = await import("../kube/index.ts");
    const { flags } = this;
    const wait = this.#wait();
    const stage = flags.pre ? "before" : flags.crds ? "crds" : flags.proxy ? "data-plane" : "control-plane";
    const context = new checks.CheckContext({
      meshNamespace: this.meshNamespace,
      namespace: flags.namespace,
      version: VERSION,
      now: Date.now,
      connect: async () => new KubeClient(await loadKubeConfig(this.clusterOptions)),
    });
    const streamed = flags.output === "table" || flags.output === "short";
    const short = flags.output === "short";
    let spinner = this.progress("checking");
    /** The spinner's line must be gone while something is written. */
    const write = (text: string) => {
      spinner.stop();
      this.write(text);
      spinner = this.progress("checking");
    };
    const table = checks.tableObserver(write, this.style, { short });
    const results = await checks.runChecks(checks.STAGES[stage], context, {
      wait,
      observer: { progress: (text) => spinner.update(text), ...(streamed ? table : {}) },
    });
    spinner.stop();
    if (flags.output === "json") this.write(renderJson(checks.jsonReport(results)));
    else if (flags.output === "junit") this.write(checks.junitReport(results));
    else this.write(checks.verdictLine(results, this.style, short));
    if (!checks.succeeded(results)) this.exit(1);
  }

  #wait(): number {
    try {
      return parseDuration(this.flags.wait);
    } catch (error) {
      throw usageError(`--wait: ${errorMessage(error)}`);
    }
  }
}

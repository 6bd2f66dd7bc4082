// `kubectl mesh uninject`: takes the mesh out of manifests again.
import { Args } from "@oclif/core";
import { MeshCommand } from "../cli/base-command.ts";
import { outputFlag } from "../cli/flags.ts";
import { renderJson } from "../cli/output.ts";
import { createStyle } from "../cli/style.ts";

export default class Uninject extends MeshCommand<typeof Uninject> {
  static override summary = "Take the mesh out of workloads: meshed manifests in, plain ones out.";
  static override description =
    "Removes the containers, volumes, labels and annotations that inject adds. Settings under config.linkerd.io/ are yours and stay.";
  static override examples = [
    "kubectl get deploy -o yaml | <%= config.bin %> uninject - | kubectl apply -f -",
  ];
  static override args = {
    source: Args.string({
      required: true,
      description: "File, directory, https URL, or - for standard input.",
    }),
  };
  static override flags = { ...outputFlag(["yaml", "json"]) };

  async run(): Promise<void> {
    const { renderReport, transformStream, uninjectResource } = await import("../inject/index.ts");
    const { joinStreams, readInputs } = await import("../inject/input.ts");
    const inputs = await readInputs(this.args.source);
    const results = inputs.map(({ name, text }) => transformStream(text, name, uninjectResource));
    const resources = results.flatMap((result) => result.resources);
    process.stderr.write(
      renderReport(resources, createStyle(process.stderr), { verb: "uninject", verbose: this.flags.verbose }),
    );
    const objects = () => results.flatMap((result) => result.objects());
    this.write(
      this.flags.output === "json"
        ? renderJson(
            objects().length === 1 ? objects()[0] : { apiVersion: "v1", kind: "List", items: objects() },
          )
        : joinStreams(results.map((result) => result.text)),
    );
  }
}

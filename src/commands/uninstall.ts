// `kubectl mesh uninstall`: what belongs to the mesh in this cluster, printed for kubectl delete, or deleted.
import { Flags } from "@oclif/core";
import { MeshCommand } from "../cli/base-command.ts";
import { outputFlag } from "../cli/flags.ts";
import { renderJson, renderYaml } from "../cli/output.ts";
import { MeshError } from "../util/error.ts";

export default class Uninstall extends MeshCommand<typeof Uninstall> {
  static override summary = "Remove the mesh: print its objects for kubectl delete, or delete them.";
  static override examples = [
    "<%= config.bin %> uninstall | kubectl delete -f -",
    "<%= config.bin %> uninstall --apply",
  ];
  static override flags = {
    force: Flags.boolean({ summary: "Even while pods still run with a proxy." }),
    apply: Flags.boolean({ summary: "Delete from the cluster instead of printing." }),
    ...outputFlag(["yaml", "json"]),
  };

  async run(): Promise<void> {
    const { deleteAll, KubeClient, loadKubeConfig } = await import("../kube/index.ts");
    const { clusterObjects, meshedPods } = await import("../manifests/index.ts");
    const client = new KubeClient(await loadKubeConfig(this.clusterOptions));
    const objects = await clusterObjects(client, this.meshNamespace);
    if (objects.length === 0)
      throw new MeshError(`the mesh is not installed in namespace ${this.meshNamespace}`);
    const pods = this.flags.force ? [] : await meshedPods(client, this.meshNamespace);
    if (pods.length > 0) {
      const shown = pods.slice(0, SHOWN).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
      const more = pods.length > SHOWN ? ` and ${pods.length - SHOWN} more` : "";
      throw new MeshError(
        `${pods.length} ${pods.length === 1 ? "pod still runs" : "pods still run"} with a proxy: ${shown.join(", ")}${more}; nothing was changed`,
        {
          hints: [
            "unmesh them: kubectl get deploy -o yaml | kubectl mesh uninject - | kubectl apply -f -",
            "or remove the mesh under them: kubectl mesh uninstall --force",
          ],
        },
      );
    }
    if (this.flags.apply) {
      await deleteAll(client, objects);
      this.note(`${this.style.ok("√")} ${objects.length} objects deleted, and all that the namespace holds`);
    } else if (this.flags.output === "json") {
      this.write(renderJson({ apiVersion: "v1", kind: "List", items: objects }));
    } else this.write(await renderYaml(...objects));
  }
}

/** Pods that the refusal names. */
const SHOWN = 5;

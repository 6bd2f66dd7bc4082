// `kubectl mesh identity`: the certificates that pods show to their peers.
import type { X509Certificate } from "node:crypto";
import { MeshCommand } from "../cli/base-command.ts";
import { usageError } from "../cli/errors.ts";
import { allNamespacesFlag, namespaceFlag, outputFlag, selectorFlag } from "../cli/flags.ts";
import { renderJson, renderYaml } from "../cli/output.ts";
import { certificateJson, certificateText, podIdentity, readCertificate } from "../cli/pod-certificate.ts";
import type { Pod } from "../kube/types.ts";
import { errorMessage, MeshError } from "../util/error.ts";

const ADMIN_PORT = 4191;

export default class Identity extends MeshCommand<typeof Identity> {
  static override summary = "Show the certificates that meshed pods show to their peers.";
  static override description =
    "Opens TLS to each pod's proxy with the pod's identity as server name and prints the certificate it answers with.";
  static override strict = false;
  static override usage = "identity [PODS…] [-l SELECTOR] [flags]";
  static override examples = [
    "<%= config.bin %> identity web-5d9c7b6f4-x2x9z -n demo",
    "<%= config.bin %> identity -l app=web -n demo",
    "<%= config.bin %> identity -l app=web -n demo -o pem | openssl x509 -noout -text",
  ];
  static override flags = {
    ...namespaceFlag,
    ...allNamespacesFlag,
    ...selectorFlag,
    ...outputFlag(["table", "json", "yaml", "pem"]),
  };

  async run(): Promise<void> {
    const { flags, words } = this;
    if (words.length === 0 && flags.selector === undefined) {
      throw usageError("which pods?", "name pods, or select them with -l app=web");
    }
    const { config, client } = await this.cluster();
    const namespace = this.namespaceIn(config);
    let pods: Pod[];
    if (words.length > 0) {
      const names = words.map((word) => word.replace(/^(po|pod|pods)\//, ""));
      pods = await Promise.all(
        names.map((name) =>
          client.get<Pod>(`/api/v1/namespaces/${namespace}/pods/${encodeURIComponent(name)}`),
        ),
      );
    } else {
      const path = flags["all-namespaces"] ? "/api/v1/pods" : `/api/v1/namespaces/${namespace}/pods`;
      pods = (await client.list<Pod>(path, { labelSelector: flags.selector })).items;
      if (pods.length === 0) throw new MeshError(`no pods match ${flags.selector}`);
    }

    const { portForwardDuplex } = await import("../kube/port-forward.ts");
    const found: { pod: Pod; certificate: X509Certificate }[] = [];
    const failures: string[] = [];
    for (const pod of pods) {
      try {
        const name = podIdentity(pod);
        const target = {
          namespace: pod.metadata.namespace ?? namespace,
          pod: pod.metadata.name,
          port: ADMIN_PORT,
        };
        const certificate = await readCertificate(await portForwardDuplex(client, target), name);
        found.push({ pod, certificate });
      } catch (error) {
        failures.push(`${pod.metadata.name}: ${errorMessage(error)}`);
      }
    }
    await this.show(found);
    if (failures.length > 0) {
      throw new MeshError(`${failures.length} of ${pods.length} pods showed no certificate`, {
        hints: failures,
      });
    }
  }

  private async show(found: readonly { pod: Pod; certificate: X509Certificate }[]): Promise<void> {
    const { output } = this.flags;
    if (output === "pem") {
      for (const { certificate } of found) this.write(certificate.toString());
      return;
    }
    const all = found.map(({ pod, certificate }) => certificateJson(pod, certificate));
    if (output === "json") return this.write(renderJson(all));
    if (output === "yaml") return this.write(await renderYaml(all));
    for (const [i, json] of all.entries()) {
      this.write(`${i > 0 ? "\n" : ""}POD ${json.pod} (${i + 1} of ${all.length})\n\n`);
      this.write(certificateText(json, Date.now()));
    }
  }
}

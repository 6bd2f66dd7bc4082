// `kubectl mesh inject`: workloads in, meshed workloads out.
import { readFile } from "node:fs/promises";
import { Args, Flags } from "@oclif/core";
import { MeshCommand } from "../cli/base-command.ts";
import { usageError } from "../cli/errors.ts";
import { outputFlag } from "../cli/flags.ts";
import { renderJson } from "../cli/output.ts";
import { createStyle } from "../cli/style.ts";
import { proxyFlags } from "../cli/value-flags.ts";
import type { Values } from "../manifests/index.ts";
import { MeshError } from "../util/error.ts";

export default class Inject extends MeshCommand<typeof Inject> {
  static override summary = "Add the mesh to workloads: manifests in, meshed manifests out.";
  static override description =
    "By default an annotation asks the cluster's webhook to add the proxy to each pod that starts; --manual writes the proxy into the manifests. What is not a workload passes through untouched.";
  static override examples = [
    "kubectl get deploy -o yaml | <%= config.bin %> inject - | kubectl apply -f -",
    "<%= config.bin %> inject app.yaml | kubectl apply -f -",
  ];
  static override args = {
    source: Args.string({
      required: true,
      description: "File, directory, https URL, or - for standard input.",
    }),
  };
  static override flags = {
    manual: Flags.boolean({ summary: "Write the whole sidecar into the manifests." }),
    "ignore-cluster": Flags.boolean({
      summary: "With --manual: take the defaults, not the installation's values.",
    }),
    "identity-trust-anchors-file": Flags.string({
      helpValue: "FILE",
      dependsOn: ["ignore-cluster"],
      summary: "PEM file with the trust anchors, for --ignore-cluster.",
    }),
    ingress: Flags.boolean({
      summary: "Mesh an ingress controller: requests go where their l5d-dst-override says.",
    }),
    ...outputFlag(["yaml", "json"]),
    ...proxyFlags,
    "native-sidecar": Flags.string({
      helpGroup: "PROXY",
      helpValue: "true|false",
      summary: "Run the proxy as a native sidecar.",
    }),
    "wait-before-exit-seconds": Flags.string({
      helpGroup: "PROXY",
      helpValue: "SECONDS",
      summary: "Keep the proxy this long after the pod is told to stop.",
    }),
    "require-identity-on-inbound-ports": Flags.string({
      helpGroup: "PROXY",
      helpValue: "PORTS",
      summary: "Inbound ports that demand mutual TLS.",
    }),
    "close-wait-timeout": Flags.string({
      helpGroup: "PROXY",
      helpValue: "DURATION",
      summary: "How long half-closed connections are remembered; needs a privileged init container.",
    }),
    "enable-debug-sidecar": Flags.boolean({
      helpGroup: "PROXY",
      summary: "Add a container that shows the pod's packets.",
    }),
    "access-log": Flags.string({
      helpGroup: "PROXY",
      helpValue: "FORMAT",
      summary: "Access log: apache or json.",
    }),
  };

  async run(): Promise<void> {
    const { failure, injectResource, renderReport, transformStream } = await import("../inject/index.ts");
    const { joinStreams, readInputs } = await import("../inject/input.ts");
    const { flags } = this;
    const inputs = await readInputs(this.args.source);
    const values = flags.manual ? await this.#values() : undefined;
    const options = {
      mode: flags.manual ? ("manual" as const) : ("annotate" as const),
      ingress: flags.ingress,
      annotations: this.#annotations(),
      ...(values ? { values } : {}),
    };
    const results = inputs.map(({ name, text }) =>
      transformStream(text, name, (resource) => injectResource(resource, options)),
    );
    const resources = results.flatMap((result) => result.resources);
    process.stderr.write(
      renderReport(resources, createStyle(process.stderr), { verb: "inject", verbose: flags.verbose }),
    );
    const failed = failure(resources);
    if (failed) throw new MeshError(failed);
    this.write(
      flags.output === "json"
        ? renderJson(asOne(results.flatMap((result) => result.objects())))
        : joinStreams(results.map((result) => result.text)),
    );
  }

  #annotations(): Record<string, string> {
    return Object.fromEntries(
      Object.entries(this.flags).flatMap(([flag, given]) => {
        const key =
          ANNOTATIONS[flag] ?? (Object.hasOwn(proxyFlags, flag) ? `config.linkerd.io/${flag}` : undefined);
        const text = given === true ? "true" : given;
        return key === undefined || typeof text !== "string" ? [] : [[key, text]];
      }),
    );
  }

  async #values(): Promise<Values> {
    const { DEFAULT_VALUES, installedValues } = await import("../manifests/index.ts");
    if (!this.flags["ignore-cluster"]) {
      const { KubeClient, loadKubeConfig } = await import("../kube/index.ts");
      return installedValues(new KubeClient(await loadKubeConfig(this.clusterOptions)), this.meshNamespace);
    }
    const file = this.flags["identity-trust-anchors-file"];
    if (file === undefined) {
      throw usageError(
        "--manual --ignore-cluster needs the trust anchors that the proxies shall trust",
        "--identity-trust-anchors-file FILE",
      );
    }
    return {
      ...DEFAULT_VALUES,
      namespace: this.meshNamespace,
      identityTrustAnchorsPEM: await readFile(file, "utf8"),
    };
  }
}

const asOne = (objects: readonly unknown[]): unknown =>
  objects.length === 1 ? objects[0] : { apiVersion: "v1", kind: "List", items: objects };

/** Flags whose annotation has another name. */
const ANNOTATIONS: Readonly<Record<string, string>> = {
  "native-sidecar": "config.linkerd.io/proxy-enable-native-sidecar",
  "wait-before-exit-seconds": "config.alpha.linkerd.io/proxy-wait-before-exit-seconds",
  "require-identity-on-inbound-ports": "config.linkerd.io/proxy-require-identity-inbound-ports",
  "close-wait-timeout": "config.linkerd.io/close-wait-timeout",
  "access-log": "config.linkerd.io/access-log",
  "enable-debug-sidecar": "config.linkerd.io/enable-debug-sidecar",
};

// `kubectl mesh install`: the control plane's manifests, printed or applied.
import { readFile } from "node:fs/promises";
import { Flags } from "@oclif/core";
import { MeshCommand } from "../cli/base-command.ts";
import { usageError } from "../cli/errors.ts";
import { outputFlag } from "../cli/flags.ts";
import { renderJson, renderYaml } from "../cli/output.ts";
import { proxyFlags, valueFlags } from "../cli/value-flags.ts";
import type { KubeClient, KubeObject } from "../kube/index.ts";
import type { IdentityCredentials, OptionalApi } from "../manifests/index.ts";

export default class Install extends MeshCommand<typeof Install> {
  static override summary = "Install the mesh: print its manifests for kubectl apply, or apply them.";
  static override description =
    "Without certificates of your own, a root and an issuer are made; the root's key is forgotten at once.";
  static override examples = [
    "<%= config.bin %> install --crds | kubectl apply -f -",
    "<%= config.bin %> install | kubectl apply -f -",
    "<%= config.bin %> install --apply --set proxy.logLevel=debug",
    "<%= config.bin %> install --ha | kubectl apply -f -",
  ];
  static override flags = {
    crds: Flags.boolean({ summary: "The custom resource definitions only; they come first." }),
    "with-api": Flags.string({
      multiple: true,
      options: ["smi", "multicluster"],
      dependsOn: ["crds"],
      summary:
        "Also definitions that come with other products: TrafficSplit (smi), Link (multicluster); not over those of others.",
    }),
    apply: Flags.boolean({
      exclusive: ["ignore-cluster"],
      summary: "Apply to the cluster (server-side) instead of printing.",
    }),
    ha: Flags.boolean({
      summary:
        "Three replicas on three nodes, disruption budgets, no pod without its proxy; --set wins over it.",
    }),
    "ignore-cluster": Flags.boolean({
      summary: "Ask the cluster nothing: not whether the mesh is there already.",
    }),
    ...outputFlag(["yaml", "json"]),
    ...valueFlags,
    "cluster-domain": Flags.string({ helpValue: "DOMAIN", summary: "DNS domain of the cluster." }),
    "identity-trust-domain": Flags.string({ helpValue: "DOMAIN", summary: "Domain that identities end in." }),
    "identity-issuance-lifetime": Flags.string({
      helpValue: "DURATION",
      summary: "Lifetime of proxies' certificates.",
    }),
    "identity-clock-skew-allowance": Flags.string({
      helpValue: "DURATION",
      summary: "Clock difference that certificates forgive.",
    }),
    "identity-trust-anchors-file": Flags.string({
      helpValue: "FILE",
      summary: "PEM file with your trust anchors.",
    }),
    "identity-issuer-certificate-file": Flags.string({
      helpValue: "FILE",
      summary: "PEM file with your issuer's certificate.",
    }),
    "identity-issuer-key-file": Flags.string({
      helpValue: "FILE",
      summary: "PEM file with your issuer's key.",
    }),
    "controller-replicas": Flags.string({ helpValue: "COUNT", summary: "Replicas of each controller." }),
    "controller-log-level": Flags.string({ helpValue: "LEVEL", summary: "Log level of the controllers." }),
    ...proxyFlags,
  };

  async run(): Promise<void> {
    const { flags } = this;
    const manifests = await import("../manifests/index.ts");
    const client = flags["ignore-cluster"] ? undefined : await this.#client();
    if (flags.crds) {
      if (client) await client.request("/version");
      return this.#deliver(client, await this.#definitions(client));
    }
    const tree = await this.#tree();
    const given = await this.#credentials();
    if (client) await manifests.assertInstallable(client, this.meshNamespace);
    const serverPorts = client ? await manifests.apiServerPorts(client) : "";
    const { objects } = manifests.planInstall({ tree, given, serverPorts, now: Date.now() });
    await this.#deliver(client, objects);
  }

  async #definitions(client: KubeClient | undefined) {
    const { customResourceDefinitions, foreignDefinitions } = await import("../manifests/index.ts");
    const also = (this.flags["with-api"] ?? []) as OptionalApi[];
    const definitions = customResourceDefinitions(this.meshNamespace, also);
    const foreign = client ? await foreignDefinitions(client, definitions) : [];
    for (const name of foreign)
      this.note(`${this.style.warn("‼")} ${name} is there already, from somebody else: it is left as it is`);
    return definitions.filter(({ metadata }) => !foreign.includes(metadata.name));
  }

  async #client(): Promise<KubeClient> {
    const { KubeClient, loadKubeConfig } = await import("../kube/index.ts");
    return new KubeClient(await loadKubeConfig(this.clusterOptions));
  }

  /** What the user set, over --ha: files, then --set, then the flags with names of their own. */
  async #tree(): Promise<unknown> {
    const { HA_VALUES, mergeTrees, treeOfSets } = await import("../manifests/index.ts");
    const { valuePathOf } = await import("../inject/index.ts");
    const { parse } = await import("../util/yaml.ts");
    let tree: unknown = this.flags.ha ? HA_VALUES : {};
    for (const file of this.flags.values ?? []) {
      const text = await readFile(file, "utf8");
      let values: unknown;
      try {
        values = parse(text) ?? {};
      } catch (error) {
        throw usageError(`${file}: ${(error as Error).message.split("\n")[0]}`);
      }
      if (typeof values !== "object" || Array.isArray(values))
        throw usageError(`${file}: expected a map of values`);
      tree = mergeTrees(tree, values);
    }
    const named = Object.entries(this.flags).flatMap(([flag, text]) => {
      const path = NAMED[flag] ?? (Object.hasOwn(proxyFlags, flag) ? valuePathOf(flag) : undefined);
      return path === undefined || typeof text !== "string" ? [] : [`${path}=${text}`];
    });
    return mergeTrees(tree, treeOfSets([...(this.flags.set ?? []), ...named]));
  }

  async #credentials(): Promise<IdentityCredentials | undefined> {
    const files = [
      "identity-trust-anchors-file",
      "identity-issuer-certificate-file",
      "identity-issuer-key-file",
    ] as const;
    const given = files.filter((flag) => this.flags[flag] !== undefined);
    if (given.length === 0) return undefined;
    if (given.length < files.length) {
      const missing = files.filter((flag) => !given.includes(flag)).map((flag) => `--${flag}`);
      throw usageError(`your own certificates need all three files; missing: ${missing.join(", ")}`);
    }
    const [trustAnchors, issuerCertificate, issuerKey] = await Promise.all(
      files.map((flag) => readFile(this.flags[flag] as string, "utf8")),
    );
    return { trustAnchors: trustAnchors!, issuerCertificate: issuerCertificate!, issuerKey: issuerKey! };
  }

  async #deliver(client: KubeClient | undefined, objects: readonly KubeObject[]): Promise<void> {
    if (!this.flags.apply || !client) {
      this.write(this.flags.output === "json" ? renderJson(asList(objects)) : await renderYaml(...objects));
      return;
    }
    const { applyAll } = await import("../kube/index.ts");
    const progress = this.progress("applying");
    try {
      await applyAll(client, objects, {
        onApplied: (object, done, total) => {
          progress.update(`${done}/${total} ${object.kind} ${object.metadata.name}`);
          this.detail(`${object.kind} ${object.metadata.name} applied`);
        },
      });
    } finally {
      progress.stop();
    }
    this.note(`${this.style.ok("√")} ${objects.length} objects applied`);
    this.note(this.flags.crds ? "  next: kubectl mesh install --apply" : "  next: kubectl mesh check");
  }
}

const asList = (objects: readonly KubeObject[]) => ({ apiVersion: "v1", kind: "List", items: objects });

/** Values that have a flag of their own. */
const NAMED: Readonly<Record<string, string>> = {
  "mesh-namespace": "namespace",
  "cluster-domain": "clusterDomain",
  "identity-trust-domain": "identityTrustDomain",
  "identity-issuance-lifetime": "identity.issuer.issuanceLifetime",
  "identity-clock-skew-allowance": "identity.issuer.clockSkewAllowance",
  "controller-replicas": "controllerReplicas",
  "controller-log-level": "controllerLogLevel",
};

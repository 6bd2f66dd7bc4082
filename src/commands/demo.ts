// `kubectl mesh demo`: the whole way of a newcomer, from nothing to live traffic of a meshed application.
import { createInterface } from "node:readline/promises";
import { Flags } from "@oclif/core";
import { PlainCommand } from "../cli/base-command.ts";
import { findProgram, Journey, run, runMesh } from "../cli/journey.ts";
import { renderYaml } from "../cli/output.ts";
import { sandboxDirFlag } from "../cli/sandbox-flags.ts";
import { DEMO_NAMESPACE, demoObjects } from "../demo/manifest.ts";
import type { KubeClient } from "../kube/client.ts";
import type { Deployment, KubeObject } from "../kube/types.ts";
import { installCommand, isRoot, missingTools } from "../sandbox/lifecycle/requirements.ts";
import { MeshError } from "../util/error.ts";
import { VERSION } from "../util/version.ts";

const ROLLOUT_TIMEOUT = 120_000;
/** Until every service of the demo shows live traffic, ms. */
const TRAFFIC_TIMEOUT = 60_000;
const MESH_NAMESPACE = "mesh-system";
const IMAGE = `kubectl-mesh:${VERSION}`;

export default class Demo extends PlainCommand<typeof Demo> {
  static override summary = "See a service mesh work on this machine, in a minute.";
  static override description =
    `Starts a sandbox cluster, installs the mesh, deploys an application that knows nothing of it, meshes it and shows its live traffic. Every step shows the command that you would type. Nothing outside the sandbox is touched; one command removes it.`;
  static override examples = [
    "<%= config.bin %> demo",
    "<%= config.bin %> demo --manifest | kubectl apply -f -",
  ];
  static override flags = {
    manifest: Flags.boolean({ summary: "Print the demo application's manifests and do nothing else." }),
    image: Flags.string({
      dependsOn: ["manifest"],
      helpValue: "IMAGE",
      summary: "Image of the application in --manifest. Default: kubectl-mesh of this version.",
    }),
    ...sandboxDirFlag,
    port: Flags.integer({ min: 1, max: 65_535, summary: "Port of the sandbox's API server on 127.0.0.1." }),
    yes: Flags.boolean({ char: "y", summary: "Install missing system tools without asking." }),
  };

  async run(): Promise<void> {
    if (this.flags.manifest) {
      this.write(await renderYaml(...demoObjects({ image: this.flags.image ?? IMAGE })));
      return;
    }
    await this.needTools();
    const sandbox = this.flags.dir === undefined ? [] : ["--dir", this.flags.dir];
    const journey = new Journey({
      style: this.style,
      write: (text) => this.write(text),
      total: 8,
      now: () => performance.now(),
    });
    const started = performance.now();
    const port = this.flags.port === undefined ? [] : ["--port", String(this.flags.port)];
    const up = ["sandbox", "up", ...sandbox, ...port];
    await journey.step("Start a cluster on this machine", line("kubectl mesh", up), async () => {
      await runMesh(up);
      return "the sandbox is up";
    });
    const kubeconfig = (await runMesh(["sandbox", "kubeconfig", "--path", ...sandbox])).trim();
    const env = { KUBECONFIG: kubeconfig };
    const client = await connect(kubeconfig);
    try {
      await this.install(journey, client, env);
      await this.deploy(journey, client, env);
      await journey.step(
        "See its traffic",
        "kubectl mesh stat deploy -n demo",
        async (say) => `live numbers after ${await waitForTraffic(client, say)} s`,
      );
      await runMesh(["stat", "deploy", "-n", DEMO_NAMESPACE, "-t", "15s"], { env, inherit: true });
    } finally {
      client.close();
    }
    this.write(`\nFrom nothing to here in ${((performance.now() - started) / 1000).toFixed(0)} s.\n`);
    if (process.stdout.isTTY && process.stdin.isTTY) await this.watch(env);
    this.farewell(kubeconfig, sandbox);
  }

  private async install(journey: Journey, client: KubeClient, env: NodeJS.ProcessEnv): Promise<void> {
    const { installedConfig } = await import("../manifests/installed.ts");
    const installed = (await installedConfig(client, MESH_NAMESPACE)) !== undefined;
    await journey.step("Ask whether the mesh can be installed", "kubectl mesh check --pre", async () => {
      if (installed) return "the mesh is there already";
      const said = await runMesh(["check", "--pre"], { env });
      return said.trim().split("\n").at(-1);
    });
    for (const [title, args] of [
      ["Install the mesh's resource definitions", ["install", "--crds"]],
      ["Install the control plane", ["install"]],
    ] as const) {
      await journey.step(title, `kubectl mesh ${args.join(" ")} | kubectl apply -f -`, async () =>
        installed ? "already installed" : apply(client, env, await runMesh(args, { env })),
      );
    }
    let report = "";
    await journey.step("Wait until the control plane is well", "kubectl mesh check", async () => {
      const colour = process.stdout.isTTY ? { FORCE_COLOR: "1" } : {};
      report = await runMesh(["check", "--wait", `${ROLLOUT_TIMEOUT / 1000}s`], {
        env: { ...env, ...colour },
      });
      return "it says:";
    });
    this.write(report.replace(/^(?=.)/gm, "     "));
  }

  private async deploy(journey: Journey, client: KubeClient, env: NodeJS.ProcessEnv): Promise<void> {
    const { waitForRollout } = await import("../cli/rollout.ts");
    const settled = (say: (text: string) => void) =>
      waitForRollout(client, DEMO_NAMESPACE, {
        timeout: ROLLOUT_TIMEOUT,
        onProgress: (ready, total) => say(`${ready} of ${total} Deployments are ready`),
      });
    await journey.step(
      "Deploy an application that knows nothing of the mesh",
      "kubectl mesh demo --manifest | kubectl apply -f -",
      async (say) => {
        if (await isMeshed(client)) return "it is there already, and meshed";
        const objects = demoObjects({ image: IMAGE });
        await apply(client, env, await renderYaml(...objects));
        await settled(say);
        return "web, emoji, voting, tally and a bot that votes are running, without a proxy";
      },
    );
    await journey.step(
      "Mesh it: the same Deployments, with a proxy in every pod",
      "kubectl get -n demo deploy -o yaml | kubectl mesh inject - | kubectl apply -f -",
      async (say) => {
        await apply(
          client,
          env,
          await runMesh(["inject", "-"], { env, stdin: await getDeployments(client, env) }),
        );
        await settled(say);
        return "every pod has a proxy; they speak mutual TLS among themselves";
      },
    );
  }

  private async watch(env: NodeJS.ProcessEnv): Promise<void> {
    this.write(`Next: live, in your terminal. ${this.style.strong("q")} ends it.\n`);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await runMesh(["top", "deploy", "-n", DEMO_NAMESPACE], { env, inherit: true });
  }

  private farewell(kubeconfig: string, sandbox: readonly string[]): void {
    const { literal, strong } = this.style;
    const rows: [string, string][] = [
      [`export KUBECONFIG=${kubeconfig}`, "point kubectl at the sandbox"],
      ["kubectl get pods -A", "what runs there"],
      ["kubectl mesh top deploy -n demo", "live traffic"],
      ["kubectl mesh stat deploy/voting -n demo --from deploy/web", "one edge of it"],
      ["kubectl mesh identity -n demo -l app=web", "the certificate of a pod"],
      ["kubectl port-forward -n demo svc/web 8080:80", "then vote at http://localhost:8080"],
    ];
    const width = Math.max(...rows.map(([command]) => command.length));
    this.write(`\n${strong("Look around")}\n`);
    for (const [command, about] of rows) this.write(`  ${literal(command.padEnd(width))}  ${about}\n`);
    this.write(
      `\n${strong("Remove everything")}\n  ${literal(line("kubectl mesh sandbox down --delete", sandbox))}\n`,
    );
    if (!findProgram("kubectl-mesh")) {
      this.write(
        "\n`kubectl mesh` works once the package is on PATH: npm link, or npm install -g kubectl-mesh\n",
      );
    }
  }

  /** Offers to install what is missing where that can be done. @throws MeshError when tools stay missing */
  private async needTools(): Promise<void> {
    const missing = missingTools();
    if (missing.tools.length === 0) return;
    const names = missing.tools.join(", ");
    const command = installCommand(missing.packages);
    const apt = findProgram("apt-get");
    const question = `The sandbox needs ${names}. Install with \`${command}\`?`;
    if (apt && isRoot() && (this.flags.yes || (await this.agrees(question)))) {
      const env = { DEBIAN_FRONTEND: "noninteractive" };
      const progress = this.progress(command);
      try {
        await run(apt, ["update"], "apt-get update", { env });
        await run(apt, ["install", "-y", ...missing.packages], command, { env });
      } finally {
        progress.stop();
      }
    }
    const still = missingTools();
    if (still.tools.length === 0) return;
    throw new MeshError(`the sandbox needs system tools that are not here: ${still.tools.join(", ")}`, {
      hints: [`${apt ? "install them" : "on Debian and Ubuntu"}: ${installCommand(still.packages)}`],
    });
  }

  private async agrees(question: string): Promise<boolean> {
    if (!process.stdin.isTTY || !process.stdout.isTTY) return false;
    const terminal = createInterface({ input: process.stdin, output: process.stdout });
    const answer = await terminal.question(`${question} [Y/n] `);
    terminal.close();
    return /^(y|yes)?$/i.test(answer.trim());
  }
}

const line = (command: string, more: readonly string[]) => [command, ...more].join(" ");

async function connect(kubeconfig: string): Promise<KubeClient> {
  const [{ loadKubeConfig }, { KubeClient }] = await Promise.all([
    import("../kube/config.ts"),
    import("../kube/client.ts"),
  ]);
  return new KubeClient(await loadKubeConfig({ kubeconfig }));
}

/** `kubectl apply -f -`; where kubectl is missing, the same by our own client. */
async function apply(client: KubeClient, env: NodeJS.ProcessEnv, yaml: string): Promise<string> {
  const kubectl = findProgram("kubectl");
  if (kubectl) {
    const said = await run(kubectl, ["apply", "-f", "-"], "kubectl apply", { env, stdin: yaml });
    return `${said.trim().split("\n").length} objects applied`;
  }
  const [{ applyAll }, { parseAllDocuments }] = await Promise.all([
    import("../kube/apply.ts"),
    import("../util/yaml.ts"),
  ]);
  const objects = parseAllDocuments(yaml).flatMap((document) => {
    const object = document.toJS() as (KubeObject & { items?: KubeObject[] }) | null;
    return object ? (object.items ?? [object]) : [];
  });
  await applyAll(client, objects.map(asWritten));
  return `${objects.length} objects applied (kubectl is not installed, so by the mesh's own client)`;
}

/** `kubectl get deploy -o yaml`. */
async function getDeployments(client: KubeClient, env: NodeJS.ProcessEnv): Promise<string> {
  const kubectl = findProgram("kubectl");
  if (kubectl)
    return run(kubectl, ["get", "-n", DEMO_NAMESPACE, "deploy", "-o", "yaml"], "kubectl get deploy", { env });
  return renderYaml({ apiVersion: "v1", kind: "List", items: await deployments(client) });
}

async function deployments(client: KubeClient): Promise<Deployment[]> {
  const { items } = await client.list<Deployment>(`/apis/apps/v1/namespaces/${DEMO_NAMESPACE}/deployments`);
  return items.map((item) => ({ ...item, apiVersion: "apps/v1", kind: "Deployment" }));
}

async function isMeshed(client: KubeClient): Promise<boolean> {
  const all = await deployments(client);
  return (
    all.length > 0 &&
    all.every(({ spec }) => spec.template.metadata?.annotations?.["linkerd.io/inject"] === "enabled")
  );
}

/** What the server added to an object it was given, taken off again: server-side apply refuses it. */
function asWritten(object: KubeObject): KubeObject {
  const { status: _, ...rest } = object as KubeObject & { status?: unknown };
  const { uid, resourceVersion, generation, creationTimestamp, managedFields, ...metadata } =
    object.metadata as KubeObject["metadata"] & { managedFields?: unknown };
  return { ...rest, metadata };
}

/** Until every service has requests or connections; the seconds it took. @throws MeshError */
async function waitForTraffic(client: KubeClient, say: (text: string) => void): Promise<string> {
  const { openMetricsApi } = await import("../viz/metrics-api-source.ts");
  const started = performance.now();
  const source = await openMetricsApi(client, MESH_NAMESPACE);
  try {
    for (;;) {
      const answer = await source.stat({
        resource: { kind: "deployment", namespace: DEMO_NAMESPACE },
        window: 15_000,
      });
      // The bot takes no requests, and tally's are not HTTP.
      const silent = answer.rows.filter(({ name, requests, tcp }) => {
        if (name === "bot") return false;
        return name === "tally" ? !tcp?.openConnections : requests === null;
      });
      const waited = performance.now() - started;
      // Failures come once in a while: some seconds must be seen for the rate to say something.
      if (answer.rows.length > 0 && silent.length === 0 && answer.window >= 5_000)
        return (waited / 1000).toFixed(1);
      say(`waiting for traffic of ${silent.map(({ name }) => name).join(", ") || "some seconds"}`);
      if (waited > TRAFFIC_TIMEOUT) {
        const names = silent.map(({ name }) => name).join(", ");
        throw new MeshError(`no traffic was seen of: ${names}`, {
          hints: ["kubectl mesh check --proxy -n demo", "kubectl -n demo logs deploy/bot"],
        });
      }
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  } finally {
    source.close();
  }
}

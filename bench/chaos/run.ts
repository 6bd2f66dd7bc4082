// One chaos run: a cluster, the mesh, an application under load, events by a seed, then what is left of it all.
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { KubeClient, loadKubeConfig } from "../../src/kube/index.ts";
import { COMPONENTS, MESH_NAMESPACE } from "../../src/manifests/names.ts";
import { MeshSandbox } from "../../test/support/mesh-sandbox.ts";
import { until } from "../../test/support/until.ts";
import { seeded } from "../random.ts";
import { application, client, NAMESPACE, TIERS } from "./application.ts";
import { Chaos, EVENTS, type EventName, Issuers, SHARES } from "./events.ts";
import { LogKeeper } from "./log-keeper.ts";
import type { ChaosReport, Happened, Percentiles, RequestFailure, Sum } from "./verdict.ts";

export interface ChaosOptions {
  /** Of the load, s. */
  readonly seconds: number;
  readonly seed: number;
  /** Of each controller. */
  readonly controllers: number;
  /** As `install --ha` has it, on three nodes. */
  readonly ha?: boolean;
  /** Where every container's log is kept, also of those that are gone; absent: nowhere. */
  readonly logs?: string | undefined;
  /** Mean time between two events, ms. */
  readonly every: number;
  readonly events: readonly EventName[];
  /** The events in this order, over and over, instead of by chance and their shares. */
  readonly inTurn?: boolean;
  /** Requests a second of each kind. */
  readonly rates: { readonly web: number; readonly rpc: number; readonly tcp: number };
  readonly say: (line: string) => void;
}

/** Of each tier. */
const REPLICAS = 2;
/** Between two looks at processes, leaders and the load, ms. */
const SAMPLING = 5_000;
/** For rollouts and containers that wait for their next start, s. */
const PATIENCE = 420;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Makes a cluster, runs and takes all down again. @throws when the cluster cannot be made or does not come to rest */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { controllers, ha, say } = options;
  const sandbox = await MeshSandbox.up(ha ? 3 : 1);
  const logs = options.logs === undefined ? undefined : new LogKeeper(sandbox, options.logs);
  try {
    const issuers = new Issuers();
    installMesh(sandbox, issuers, ...(ha ? ["--ha"] : ["--controller-replicas", String(controllers)]));
    say("the mesh is there");
    return await chaosOn(sandbox, issuers, options);
  } finally {
    logs?.end();
    sandbox.down();
  }
}

/** Installs the mesh with certificates of `issuers`. @param flags of `install` */
export function installMesh(sandbox: MeshSandbox, issuers: Issuers, ...flags: string[]): void {
  const files = join(sandbox.directory, "issuer");
  mkdirSync(files);
  const issuer = issuers.next();
  const file = (name: string, text: string) => {
    const path = join(files, name);
    writeFileSync(path, text);
    chmodSync(path, 0o644);
    return path;
  };
  sandbox.install(
    ...["--identity-trust-anchors-file", file("root.pem", issuers.root.pem)],
    ...["--identity-issuer-certificate-file", file("issuer.pem", issuer.pem)],
    ...["--identity-issuer-key-file", file("issuer.key", issuer.keyPem)],
    // Proxies renew under way.
    ...["--identity-issuance-lifetime", "5m"],
    // No pod without its proxy: it would be refused, or not be counted on.
    ...["--set", "webhookFailurePolicy=Fail"],
    ...flags,
  );
}

/** Runs in a cluster that has the mesh of {@link installMesh}. @throws when it does not come to rest */
export function chaosOn(sandbox: MeshSandbox, issuers: Issuers, options: ChaosOptions): Promise<ChaosReport> {
  return new Run(sandbox, issuers, options).report();
}

interface RestartedPod {
  readonly metadata: { readonly name: string };
  readonly status: { readonly containerStatuses?: readonly { readonly restartCount: number }[] };
}

interface Slice {
  readonly endpoints: readonly {
    readonly targetRef?: { readonly name: string };
    readonly conditions: { readonly ready?: boolean };
  }[];
}

class Run {
  readonly #sandbox: MeshSandbox;
  readonly #issuers: Issuers;
  readonly #options: ChaosOptions;
  readonly #events: Happened[] = [];
  readonly #problems: string[] = [];
  readonly #memory = new Map<string, { at: number; rss: number }[]>();
  readonly #holders = new Map<string, string[]>();
  readonly #busy: number[] = [];
  #log = { sums: {} as Record<string, Sum>, failures: [] as RequestFailure[] };
  #percentiles: Record<string, Percentiles> | undefined;

  constructor(sandbox: MeshSandbox, issuers: Issuers, options: ChaosOptions) {
    this.#sandbox = sandbox;
    this.#issuers = issuers;
    this.#options = options;
  }

  async report(): Promise<ChaosReport> {
    const { seconds, seed, controllers, rates, say } = this.#options;
    this.#sandbox.apply(JSON.stringify(application(REPLICAS)));
    this.#rolledOut();
    this.#sandbox.apply(JSON.stringify(client({ seconds, ...rates })));
    this.#sandbox.ask("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/client", "--timeout=60s");
    await until(() => this.#read() > 0, 60_000, "the load");
    say("the application is there, and its load");
    const api = new KubeClient(await loadKubeConfig({ kubeconfig: this.#sandbox.kubeconfig }));
    const random = seeded(seed);
    const chaos = new Chaos(this.#sandbox, api, this.#issuers, random, REPLICAS);
    await this.#happen(chaos, random, performance.now() + (seconds - 10) * 1_000);
    await chaos.rest();
    await until(() => this.#read() > 0 && this.#percentiles, 120_000, "the end of the load");
    this.#rolledOut();
    await this.#endpoints();
    this.#leaders(true);
    api.close();
    const { sums, failures } = this.#log;
    return {
      seconds,
      seed,
      replicas: controllers,
      busy: this.#busy.reduce((sum, each) => sum + each, 0) / Math.max(1, this.#busy.length),
      cores: availableParallelism(),
      sums,
      percentiles: this.#percentiles!,
      failures,
      events: this.#events,
      problems: this.#problems,
      memory: [...this.#memory].map(([program, samples]) => ({ program, samples })),
      restarts: this.#restarts(),
      leaders: Object.fromEntries([...this.#holders].map(([lease, holders]) => [lease, holders.length - 1])),
    };
  }

  async #happen(chaos: Chaos, random: () => number, end: number): Promise<void> {
    const { every, events, inTurn, say } = this.#options;
    let sampled = 0;
    while (performance.now() < end) {
      const due = Math.min(end, performance.now() + every * 2 * random());
      while (performance.now() < due) {
        if (performance.now() - sampled > SAMPLING) {
          sampled = performance.now();
          this.#sample();
        }
        await sleep(Math.min(1_000, Math.max(0, due - performance.now())));
      }
      const event = inTurn ? events[this.#events.length % events.length]! : choose(events, random());
      const at = Date.now();
      let target: string;
      try {
        target = await chaos.make(event);
      } catch (error) {
        target = "(failed)";
        this.#problems.push(`${event}: ${(error as Error).message}`);
      }
      this.#events.push({ at, until: Date.now(), event, target });
      say(
        `${new Date(at).toISOString().slice(11, 23)} ${event}: ${target}; load ${loadavg()[0]!.toFixed(0)}; failed ${this.#log.failures.length}`,
      );
    }
  }

  #sample(): void {
    const at = Date.now();
    this.#busy.push(loadavg()[0]!);
    for (const { rss, args } of this.#sandbox.tree()) {
      const program = /^node .*dist\/entry\/([a-z-]+)\.js/.exec(args)?.[1];
      if (!program) continue;
      const samples = this.#memory.get(program) ?? [];
      samples.push({ at, rss });
      this.#memory.set(program, samples);
    }
    this.#leaders(false);
    this.#read();
  }

  /** Reads what the load has said. @returns how many requests it has sent */
  #read(): number {
    const { code, stdout } = this.#sandbox.kubectl("logs", "-n", NAMESPACE, "client", "-c", "client");
    if (code !== 0) return 0;
    const failures: RequestFailure[] = [];
    let sums: Record<string, Sum> = {};
    for (const line of stdout.split("\n")) {
      if (!line.startsWith("{")) {
        if (line) this.#problems.push(`the load says: ${line}`);
        continue;
      }
      const said = JSON.parse(line) as {
        sums?: Record<string, Sum>;
        failure?: RequestFailure;
        ended?: Record<string, Percentiles>;
      };
      if (said.sums) sums = said.sums;
      if (said.failure) failures.push(said.failure);
      if (said.ended) this.#percentiles = said.ended;
    }
    this.#log = { sums, failures };
    return Object.values(sums).reduce((sum, { sent }) => sum + sent, 0);
  }

  #rolledOut(): void {
    const deployments = [
      ...TIERS.map((tier) => [NAMESPACE, tier]),
      ...Object.values(COMPONENTS).map(({ workload }) => [MESH_NAMESPACE, workload]),
    ];
    const deadline = performance.now() + PATIENCE * 1_000;
    for (const [namespace, name] of deployments) {
      for (;;) {
        const { code, stdout, stderr } = this.#sandbox.kubectl(
          ...["rollout", "status", "-n", namespace!, `deploy/${name}`, "--timeout=60s"],
        );
        if (code === 0) break;
        if (performance.now() < deadline) continue;
        this.#problems.push(`${namespace}/${name} does not come to rest: ${stdout} ${stderr}`);
        break;
      }
    }
  }

  /** The clients' proxies know the endpoints that the cluster has: as many, and none but those answer. */
  async #endpoints(): Promise<void> {
    const webs = this.#ready("web");
    const asked = [
      ...(["web", "rpc", "tcp"] as const).map((tier) => ({ pod: "client", container: "client", tier })),
      ...webs.map((pod) => ({ pod, container: "web", tier: "api" as const })),
    ];
    for (const { pod, container, tier } of asked) {
      let there: string[] = [];
      let answering: string[] = [];
      let known = 0;
      await until(() => {
        there = this.#ready(tier);
        answering = this.#answering(pod, container, tier);
        known = this.#known(pod, container, tier);
        return known === there.length && answering.every((name) => there.includes(name));
      }, 60_000).catch(() =>
        this.#problems.push(
          `${pod}'s proxy knows ${known} endpoints of ${tier}, of whom ${answering.join()} answer; the cluster has ${there.join()}`,
        ),
      );
    }
  }

  /** Names of a tier's pods, by its EndpointSlices. */
  #ready(tier: string): string[] {
    const { items } = this.#sandbox.json<{ items: Slice[] }>(
      ...["get", "endpointslices", "-n", NAMESPACE, "-l", `kubernetes.io/service-name=${tier}`],
    );
    return items
      .flatMap(({ endpoints }) => endpoints)
      .filter(({ conditions }) => conditions.ready)
      .map(({ targetRef }) => targetRef!.name)
      .sort();
  }

  /** Names of those that answer to a pod, when it asks often. */
  #answering(pod: string, container: string, tier: string): string[] {
    const { stdout } = this.#sandbox.kubectl(
      ...["exec", "-n", NAMESPACE, pod, "-c", container, "--", "node", "/programs/ask.mjs", tier],
    );
    return stdout.trim().split("\n").sort();
  }

  /** How many endpoints of a tier the proxy of a pod has in its balancer. */
  #known(pod: string, container: string, tier: string): number {
    const script =
      'fetch("http://127.0.0.1:4191/metrics").then((r) => r.text()).then((text) => console.log(text))';
    const { stdout } = this.#sandbox.kubectl(
      ...["exec", "-n", NAMESPACE, pod, "-c", container, "--", "node", "-e", script],
    );
    const series = `outbound_http_balancer_p2c_endpoints{backend_name="${tier}.${NAMESPACE}.svc.cluster.local:80"}`;
    const line = stdout.split("\n").find((each) => each.startsWith(series));
    return Number(line?.slice(series.length) ?? 0);
  }

  #leaders(last: boolean): void {
    const { code, stdout } = this.#sandbox.kubectl("get", "leases", "-n", MESH_NAMESPACE, "-o", "json");
    if (code !== 0) return;
    const { items } = JSON.parse(stdout) as {
      items: { metadata: { name: string }; spec: { holderIdentity?: string } }[];
    };
    const pods = last ? this.#sandbox.ask("get", "pods", "-n", MESH_NAMESPACE, "-o", "name") : "";
    for (const { metadata, spec } of items) {
      const holders = this.#holders.get(metadata.name) ?? [];
      const holder = spec.holderIdentity ?? "";
      if (holders.at(-1) !== holder) holders.push(holder);
      this.#holders.set(metadata.name, holders);
      if (last && !pods.includes(`/${holder}\n`))
        this.#problems.push(`the Lease ${metadata.name} is held by ${holder || "nobody"}, which is no pod`);
    }
  }

  #restarts(): number {
    const { items } = this.#sandbox.json<{ items: RestartedPod[] }>("get", "pods", "-n", MESH_NAMESPACE);
    return items
      .flatMap(({ status }) => status.containerStatuses ?? [])
      .reduce((sum, { restartCount }) => sum + restartCount, 0);
  }
}

function choose(events: readonly EventName[], chance: number): EventName {
  let left = chance * events.reduce((sum, event) => sum + SHARES[event], 0);
  for (const event of events) {
    if (left < SHARES[event]) return event;
    left -= SHARES[event];
  }
  return EVENTS[0]!;
}

// The soak's cluster: a client's proxy, and pods of an application with a proxy each, which come and go.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Service } from "../control-plane.ts";
import { type Bench, type Child, LOAD_CORE, sleep } from "../harness.ts";
import { type Mesh, type MeshProxy, meshedEndpoint } from "../mesh.ts";
import type { Outage } from "./verdict.ts";

/** How long clients may not have heard yet that a pod goes, ms. */
const PROPAGATION = 300;
/** A drained proxy is gone within this, or something holds it, ms. */
const DRAIN_LIMIT = 30_000;
/** Before a crashed application is started anew, ms. */
const CRASH_LOOP = 300;
/** Requests that met the dead application may be answered this much after it is back, ms. */
const AFTERMATH = 1_000;
/** What takes hours in a cluster takes seconds here, so what is kept for minutes is kept for seconds too. */
const COMPRESSED = {
  // Renewed at 70 % of their life, but no sooner than each second.
  LINKERD2_PROXY_IDENTITY_MIN_REFRESH: "1s",
  LINKERD2_PROXY_METRICS_RETAIN_IDLE: "10s",
};

/** Who was told to give memory back has done so within this, ms. */
const REST_TIMEOUT = 10_000;

/** A proxy that can be told to give memory back, and where it writes what is left. */
const followed = (bench: Bench, name: string) => ({
  program: "soak/proxy.ts",
  env: { ...COMPRESSED, SOAK_MEMORY: memoryFile(bench, name) },
});

const memoryFile = (bench: Bench, name: string): string => join(bench.directory, `${name}.memory`);

interface Pod {
  readonly name: string;
  readonly port: number;
  app: Child;
  readonly proxy: MeshProxy;
  /** Something is being done to it. */
  busy: boolean;
}

export class Pods {
  readonly client: MeshProxy;
  readonly #outages: { readonly from: number; to: number }[] = [];
  readonly #bench: Bench;
  readonly #mesh: Mesh;
  readonly #service: Service;
  readonly #pods: Pod[];
  readonly #random: () => number;
  #made = 0;
  /** Endpoints that discovery names though nothing is there. */
  #phantoms: number[] = [];
  #unlisted = new Set<Pod>();

  private constructor(bench: Bench, mesh: Mesh, service: Service, client: MeshProxy, random: () => number) {
    this.#bench = bench;
    this.#mesh = mesh;
    this.#service = service;
    this.client = client;
    this.#random = random;
    this.#pods = [];
  }

  static async start(bench: Bench, mesh: Mesh, count: number, random: () => number): Promise<Pods> {
    const service = mesh.plane.addService({ endpoints: [] });
    const client = await mesh.proxy({ name: "client", calls: service, ...followed(bench, "client") });
    const pods = new Pods(bench, mesh, service, client, random);
    for (let i = 0; i < count; i += 1) pods.#pods.push(await pods.#create());
    pods.#publish();
    return pods;
  }

  /** When applications were dead. */
  get outages(): readonly Outage[] {
    return this.#outages;
  }

  /** The pod that is never replaced, so that its memory can be followed. */
  get eldest(): MeshProxy {
    return this.#pods[0]!.proxy;
  }

  /**
   * Has the client's proxy and the eldest pod's give back what memory they do not need.
   * @returns MB that they hold then @throws Error when one does not do so in time
   */
  async rest(): Promise<readonly [client: number, server: number]> {
    const eldest = this.#pods[0]!;
    return Promise.all([this.#restOf(this.client, "client"), this.#restOf(eldest.proxy, eldest.name)]);
  }

  async #restOf({ child }: MeshProxy, name: string): Promise<number> {
    const deadline = performance.now() + REST_TIMEOUT;
    const file = memoryFile(this.#bench, name);
    const told = () => (existsSync(file) ? readFileSync(file, "utf8").split("\n").slice(0, -1) : []);
    const before = told().length;
    // Before its first line nothing waits for the signal, which would end it.
    if (before > 0) child.process.kill("SIGUSR2");
    while (told().length <= before) {
      if (performance.now() > deadline) throw new Error(`${child.name} does not give memory back`);
      await sleep(50);
    }
    return Number(told().at(-1));
  }

  /** Proxies that have died: none should. */
  get dead(): readonly Child[] {
    return [this.client.child, ...this.#pods.map(({ proxy }) => proxy.child)].filter((child) => child.gone);
  }

  /** An application restarts without a gap: its connections end, its port does not. */
  async restart(): Promise<void> {
    await this.#with(0, async (pod) => {
      pod.app.process.kill("SIGUSR2");
    });
  }

  /** An application is killed, and comes back. */
  async crash(): Promise<void> {
    await this.#with(0, async (pod) => {
      const outage = { from: Date.now(), to: Number.POSITIVE_INFINITY };
      this.#outages.push(outage);
      pod.app.process.kill("SIGKILL");
      await pod.app.exited;
      await sleep(CRASH_LOOP);
      pod.app = await this.#startApp(pod.name, pod.port);
      outage.to = Date.now() + AFTERMATH;
    });
  }

  /** A pod is replaced as a rollout does: the new one is listed, the old one told to end while some still call it. */
  async replace(): Promise<void> {
    await this.#with(1, async (old) => {
      this.#pods.push(await this.#create());
      this.#publish();
      old.proxy.child.process.kill("SIGTERM");
      await sleep(PROPAGATION);
      this.#pods.splice(this.#pods.indexOf(old), 1);
      this.#publish();
      const late = sleep(DRAIN_LIMIT).then(() => "late");
      if ((await Promise.race([old.proxy.child.exited, late])) === "late")
        throw new Error(`${old.name} has not drained within ${DRAIN_LIMIT} ms`);
      const { exitCode } = old.proxy.child.process;
      if (exitCode !== 0)
        throw new Error(`a drained proxy ended with ${exitCode}: ${old.proxy.child.obituary}`);
      await this.#bench.stop([old.app]);
    });
  }

  /** A pod that is well leaves the list for a while. */
  async unlist(): Promise<void> {
    await this.#with(1, async (pod) => {
      this.#unlisted.add(pod);
      this.#publish();
      await sleep(1_000);
      this.#unlisted.delete(pod);
      this.#publish();
    });
  }

  /** Discovery names an endpoint that refuses connections. */
  async phantom(): Promise<void> {
    const port = await this.#bench.port();
    this.#phantoms.push(port);
    this.#publish();
    await sleep(2_000);
    this.#phantoms = this.#phantoms.filter((other) => other !== port);
    this.#publish();
  }

  /** The control plane goes away and comes back. */
  async partition(): Promise<void> {
    await this.#mesh.plane.restart(2_000);
  }

  /** Does something to a pod that nothing else is being done to; to none when all are taken. @param from its index */
  async #with(from: number, fn: (pod: Pod) => Promise<void>): Promise<void> {
    const free = this.#pods.filter((pod, index) => index >= from && !pod.busy);
    // Two at least go on serving, so that no failure is for want of any.
    const idle = this.#pods.filter(({ busy }) => !busy).length;
    const pod = free[Math.floor(this.#random() * free.length)];
    if (!pod || idle < 3) return;
    pod.busy = true;
    try {
      await fn(pod);
    } finally {
      pod.busy = false;
    }
  }

  async #create(): Promise<Pod> {
    this.#made += 1;
    const name = `app-${this.#made}`;
    const port = await this.#bench.port();
    const app = await this.#startApp(name, port);
    const proxy = await this.#mesh.proxy({ name: "server", app: port, ...followed(this.#bench, name) });
    return { name, port, app, proxy, busy: false };
  }

  async #startApp(name: string, port: number): Promise<Child> {
    const bench = this.#bench;
    const child = bench.start(name, LOAD_CORE, process.execPath, [bench.program("soak/app.ts")], {
      SOAK_APP: JSON.stringify({ port }),
    });
    await bench.listening(child, port);
    return child;
  }

  #publish(): void {
    this.#service.setEndpoints([
      ...this.#pods
        .filter((pod) => !this.#unlisted.has(pod))
        .map((pod) => ({ ...meshedEndpoint(pod.proxy, pod.port), pod: pod.name })),
      ...this.#phantoms.map((port) => ({ port, identity: this.eldest.identity, inboundPort: port })),
    ]);
  }
}

// A namespace of meshed applications in a sandbox, and the objects of policy and routes about them: what end-to-end tests
// of them share.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { definitionOf, kindOf } from "../../src/crds/index.ts";
import { packageRoot } from "../../src/util/package-root.ts";
import { MeshSandbox } from "./mesh-sandbox.ts";

export const NAMESPACE = "shop";

export const object = (
  apiVersion: string,
  kind: string,
  name: string,
  rest: { metadata?: object; spec?: object; data?: object },
) => ({
  apiVersion,
  kind,
  ...rest,
  metadata: { name, namespace: NAMESPACE, ...rest.metadata },
});

/** Ports of an application, by the name of what they speak: on the pod, and on its Service. */
const PORTS = { http: [8080, 80], grpc: [8081, 81], tcp: [8082, 82], tls: [8083, 83] } as const;
const ports = Object.entries(PORTS);

function application(name: string) {
  return object("v1", "Pod", name, {
    metadata: { labels: { app: name } },
    spec: {
      serviceAccountName: "server",
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: "server",
          image: "node",
          command: ["node", "/app/server.mjs"],
          env: [{ name: "NAME", value: name }],
          ports: ports.map(([port, [containerPort]]) => ({ name: port, containerPort })),
          readinessProbe: {
            httpGet: { path: "/ready", port: "http" },
            periodSeconds: 1,
            failureThreshold: 2,
          },
          volumeMounts: [{ name: "app", mountPath: "/app" }],
        },
      ],
      volumes: [{ name: "app", configMap: { name: "app" } }],
    },
  });
}

const client = (name: string) =>
  object("v1", "Pod", name, {
    spec: {
      serviceAccountName: name,
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: "client",
          image: "node",
          command: ["sleep", "infinity"],
          volumeMounts: [{ name: "app", mountPath: "/app" }],
        },
      ],
      volumes: [{ name: "app", configMap: { name: "app" } }],
    },
  });

export const service = (name: string, app = name, metadata: object = {}) =>
  object("v1", "Service", name, {
    metadata,
    spec: {
      selector: { app },
      ports: ports.map(([port, [targetPort, number]]) => ({ name: port, port: number, targetPort })),
    },
  });

const fixture = (name: string) => readFileSync(join(packageRoot(), "test/fixtures", name), "utf8");

const SHOP = (clients: readonly string[]) => [
  {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: NAMESPACE, annotations: { "linkerd.io/inject": "enabled" } },
  },
  ...["server", ...clients].map((name) => object("v1", "ServiceAccount", name, {})),
  object("v1", "ConfigMap", "app", {
    data: { "server.mjs": fixture("policy-server.mjs"), "client.mjs": fixture("policy-client.mjs") },
  }),
  application("api"),
  application("canary"),
  service("api"),
  service("canary"),
  ...clients.map(client),
];

/** Something that clients ask again and again: which servers answered, in the end. */
export interface Question {
  readonly protocol: "http" | "grpc" | "tls" | "tcp";
  /** Default: the Service `api`. */
  readonly host?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Name of the server that TLS asks for. */
  readonly sni?: string;
  /** How often it is asked; the answers may differ. */
  readonly count?: number;
}

/** The sandbox with the shop in it. */
export class Shop {
  readonly sandbox: MeshSandbox;

  private constructor(sandbox: MeshSandbox) {
    this.sandbox = sandbox;
  }

  /**
   * `api` and `canary` with a Service each, and a pod for each client.
   * @param before what is done while nothing waits for it yet, such as definitions that controllers take seconds to notice
   */
  static async up(clients: readonly string[], before: (shop: Shop) => void = () => {}): Promise<Shop> {
    const shop = new Shop(await MeshSandbox.up());
    shop.sandbox.install();
    before(shop);
    shop.apply(...SHOP(clients));
    const pods = ["api", "canary", ...clients].map((pod) => `pod/${pod}`);
    shop.ask("wait", "--for=condition=Ready", ...pods, "--timeout=90s");
    return shop;
  }

  apply(...items: object[]): void {
    this.sandbox.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  }

  /** kubectl in the namespace. */
  ask(command: string, ...args: string[]): string {
    return this.sandbox.ask(command, "-n", NAMESPACE, ...args);
  }

  remove(...names: string[]): void {
    this.ask("delete", "--wait=true", ...names);
  }

  /** Installs definitions of kinds that another product brings. */
  define(group: string, ...kinds: string[]): void {
    const definitions = kinds.map((kind) => definitionOf(kindOf(group, kind)!, {}));
    this.apply(...definitions);
    const names = definitions.map(({ metadata }) => `crd/${metadata.name}`);
    this.sandbox.ask("wait", ...names, "--for=condition=Established", "--timeout=30s");
  }

  exec(from: string, ...command: string[]): string {
    return this.ask("exec", from, "-c", "client", "--", ...command);
  }

  /** Asks until the answers are of these servers, and no others; for half a minute. @returns who answered last */
  answers(from: string, question: Question, wanted: readonly string[]): string[] {
    return JSON.parse(
      this.exec(from, "node", "/app/client.mjs", JSON.stringify({ ...question, wanted })),
    ) as string[];
  }

  /** Waits until a route's parent, or the object itself, has this condition. */
  condition(resource: string, type: string, status: string, parent?: number): void {
    const at = parent === undefined ? ".status" : `.status.parents[${parent}]`;
    const path = `{${at}.conditions[?(@.type=="${type}")].status}`;
    this.ask("wait", resource, `--for=jsonpath=${path}=${status}`, "--timeout=30s");
  }

  reason(resource: string, type: string): string {
    return this.ask(
      "get",
      resource,
      "-o",
      `jsonpath={.status.parents[0].conditions[?(@.type=="${type}")].reason}`,
    );
  }

  down(): void {
    this.sandbox.down();
  }
}

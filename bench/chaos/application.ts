// The meshed application of the chaos run: `web` that asks `api` (HTTP/1), `rpc` (gRPC), `tcp` (a plain stream), and the
// client that loads them.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/util/package-root.ts";

export const NAMESPACE = "chaos";
export const TIERS = ["web", "api", "rpc", "tcp"] as const;
export type Tier = (typeof TIERS)[number];

/** Requests a second of each kind, and for how long. */
export interface Load {
  readonly seconds: number;
  readonly web: number;
  readonly rpc: number;
  readonly tcp: number;
}

const OPAQUE = { "config.linkerd.io/opaque-ports": "80,8080" };
const program = (name: string) => readFileSync(join(packageRoot(), "bench/chaos", name), "utf8");
const named = (apiVersion: string, kind: string, name: string, rest: object, annotations = {}) => ({
  apiVersion,
  kind,
  metadata: { name, namespace: NAMESPACE, annotations },
  ...rest,
});
const container = (name: string, args: readonly string[]) => ({
  name,
  image: "node",
  command: ["node", ...args],
  volumeMounts: [{ name: "programs", mountPath: "/programs" }],
});
const volumes = [{ name: "programs", configMap: { name: "programs" } }];

export function application(replicas: number): object {
  return {
    apiVersion: "v1",
    kind: "List",
    items: [
      {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name: NAMESPACE, annotations: { "linkerd.io/inject": "enabled" } },
      },
      named("v1", "ConfigMap", "programs", {
        data: {
          "app.mjs": program("app.mjs"),
          "load.mjs": program("load.mjs"),
          "ask.mjs": program("ask.mjs"),
        },
      }),
      ...TIERS.flatMap((tier) => tierOf(tier, replicas)),
      named("v1", "ServiceAccount", "client", {}),
    ],
  };
}

function tierOf(tier: Tier, replicas: number): object[] {
  const annotations = tier === "tcp" ? OPAQUE : {};
  const port = {
    name: tier === "rpc" ? "grpc" : tier === "tcp" ? "tcp" : "http",
    port: 80,
    targetPort: 8080,
  };
  return [
    named("v1", "ServiceAccount", tier, {}),
    named("v1", "Service", tier, { spec: { selector: { app: tier }, ports: [port] } }, annotations),
    named("apps/v1", "Deployment", tier, {
      spec: {
        replicas,
        selector: { matchLabels: { app: tier } },
        template: {
          metadata: { labels: { app: tier }, annotations },
          spec: {
            serviceAccountName: tier,
            containers: [
              {
                ...container(tier, ["/programs/app.mjs", tier]),
                ports: [{ containerPort: 8080 }],
                readinessProbe: { httpGet: { path: "/ready", port: 8081 }, periodSeconds: 1 },
              },
            ],
            volumes,
          },
        },
      },
    }),
  ];
}

export function client(load: Load): object {
  return named("v1", "Pod", "client", {
    spec: {
      serviceAccountName: "client",
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          ...container("client", []),
          // It stays when it has ended: what it knows of the endpoints is looked at.
          command: ["sh", "-c", `node /programs/load.mjs '${JSON.stringify(load)}'; sleep infinity`],
        },
      ],
      volumes,
    },
  });
}

// The demo application as Kubernetes objects. Nothing in them speaks of a mesh.
import type { ServiceName } from "./main.ts";

export const DEMO_NAMESPACE = "demo";

export interface DemoOptions {
  readonly image: string;
  /** Default `demo`. */
  readonly namespace?: string;
}

interface Part {
  readonly name: ServiceName;
  /** Port of the Service and of the container; none for the bot. */
  readonly ports?: { readonly service: number; readonly container: number; readonly http: boolean };
  readonly env?: Readonly<Record<string, string>>;
}

const PARTS: readonly Part[] = [
  {
    name: "web",
    ports: { service: 80, container: 8080, http: true },
    env: { EMOJI_URL: "http://emoji:8080", VOTING_URL: "http://voting:8080" },
  },
  { name: "emoji", ports: { service: 8080, container: 8080, http: true } },
  {
    name: "voting",
    ports: { service: 8080, container: 8080, http: true },
    env: { TALLY_ADDRESS: "tally:7000" },
  },
  { name: "tally", ports: { service: 7000, container: 7000, http: false } },
  { name: "bot", env: { WEB_URL: "http://web:80", RATE: "10" } },
];

type DemoObject = Record<string, unknown>;

/** Namespace, and for each part a ServiceAccount, a Deployment and, where it listens, a Service. */
export function demoObjects(options: DemoOptions): DemoObject[] {
  const namespace = options.namespace ?? DEMO_NAMESPACE;
  return [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
    ...PARTS.flatMap((part) => [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: part.name, namespace } },
      ...(part.ports ? [service(part, namespace)] : []),
      deployment(part, namespace, options.image),
    ]),
  ];
}

function service(part: Part, namespace: string): DemoObject {
  const ports = part.ports!;
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: part.name, namespace, labels: { app: part.name } },
    spec: {
      selector: { app: part.name },
      ports: [
        {
          name: ports.http ? "http" : "tally",
          port: ports.service,
          targetPort: ports.container,
          protocol: "TCP",
        },
      ],
    },
  };
}

function deployment(part: Part, namespace: string, image: string): DemoObject {
  const labels = { app: part.name, "app.kubernetes.io/part-of": "emoji-vote" };
  const ports = part.ports;
  const env = { ...(ports ? { PORT: String(ports.container) } : {}), ...part.env };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: part.name, namespace, labels },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: part.name } },
      template: {
        metadata: { labels },
        spec: {
          serviceAccountName: part.name,
          terminationGracePeriodSeconds: 10,
          containers: [
            {
              name: part.name,
              image,
              command: ["node", "--max-semi-space-size=1", "/app/dist/entry/demo.js", part.name],
              env: Object.entries(env).map(([name, value]) => ({ name, value })),
              ...(ports
                ? {
                    ports: [{ name: ports.http ? "http" : "tally", containerPort: ports.container }],
                    readinessProbe: {
                      ...(ports.http
                        ? { httpGet: { path: "/healthz", port: ports.container } }
                        : { tcpSocket: { port: ports.container } }),
                      // A probe before the server listens would be counted as a failed request.
                      initialDelaySeconds: 1,
                      periodSeconds: 2,
                    },
                  }
                : {}),
              securityContext: {
                runAsUser: 1000,
                runAsNonRoot: true,
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
            },
          ],
        },
      },
    },
  };
}

// The mesh's own metrics API as a source: HTTP over a port-forward to one of its pods.
import { Agent, get, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { EdgesAnswer, EdgesQuery, StatAnswer, StatQuery } from "../api/stat.ts";
import { edgesParams, statParams } from "../api/stat.ts";
import type { KubeClient } from "../kube/client.ts";
import { isNotFound } from "../kube/error.ts";
import { portForwardDuplex, readyPod } from "../kube/port-forward.ts";
import type { Pod, Service } from "../kube/types.ts";
import { MeshError } from "../util/error.ts";
import type { MetricsSource } from "./source.ts";

const SERVICE = "mesh-metrics-api";
/** Largest answer that is read, bytes. */
const MAX_ANSWER = 64 << 20;
const TIMEOUT = 10_000;

/**
 * Finds a ready pod of the metrics API.
 * @throws MeshError when the mesh is not installed or none is ready
 */
export async function openMetricsApi(client: KubeClient, meshNamespace: string): Promise<MetricsSource> {
  const service = await client
    .get<Service>(`/api/v1/namespaces/${meshNamespace}/services/${SERVICE}`)
    .catch((error) => {
      if (!isNotFound(error)) throw error;
      throw new MeshError(`there is no metrics API in namespace ${meshNamespace}`, {
        hints: [
          "is the mesh installed? kubectl mesh check",
          "is it in another namespace? set -L NAMESPACE or MESH_NAMESPACE",
        ],
        cause: error,
      });
    });
  const selector = Object.entries(service.spec.selector ?? {}).map(([key, value]) => `${key}=${value}`);
  const pod = await readyPod(client, meshNamespace, selector.join(","));
  const port = targetPort(service, pod);
  return new MetricsApiSource(() =>
    portForwardDuplex(client, { namespace: meshNamespace, pod: pod.metadata.name, port }),
  );
}

function targetPort(service: Service, pod: Pod): number {
  const port = service.spec.ports?.find((p) => p.name === "http") ?? service.spec.ports?.[0];
  const target = port?.targetPort ?? port?.port;
  if (typeof target === "number") return target;
  const named = pod.spec.containers.flatMap((c) => c.ports ?? []).find((p) => p.name === target);
  if (named) return named.containerPort;
  throw new MeshError(`Service ${SERVICE} names a port ${JSON.stringify(target)} that its pod does not have`);
}

export class MetricsApiSource implements MetricsSource {
  readonly #agent: Agent;

  /** @param dial opens a byte stream to the API's port */
  constructor(dial: () => Promise<Duplex>) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: 2 });
    // The agent's second way to hand over a connection: by callback.
    this.#agent.createConnection = ((
      _options: unknown,
      done: (error: Error | null, stream?: Duplex) => void,
    ) => {
      dial().then(
        (stream) => done(null, asSocket(stream)),
        (error: Error) => done(error),
      );
    }) as unknown as Agent["createConnection"];
  }

  stat(query: StatQuery): Promise<StatAnswer> {
    return this.#ask(`/api/stat?${statParams(query)}`) as Promise<StatAnswer>;
  }

  edges(query: EdgesQuery): Promise<EdgesAnswer> {
    return this.#ask(`/api/edges?${edgesParams(query)}`) as Promise<EdgesAnswer>;
  }

  close(): void {
    this.#agent.destroy();
  }

  #ask(path: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const request = get({ host: SERVICE, path, agent: this.#agent }, (response) => {
        readJson(response).then(resolve, reject);
      });
      const timer = setTimeout(
        () => request.destroy(new MeshError(`the metrics API gave no answer within ${TIMEOUT / 1000} s`)),
        TIMEOUT,
      );
      request.on("error", (error) =>
        reject(
          error instanceof MeshError
            ? error
            : new MeshError(`asking the metrics API failed: ${error.message}`),
        ),
      );
      request.on("close", () => clearTimeout(timer));
    });
  }
}

async function readJson(response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += (chunk as Buffer).length;
    if (size > MAX_ANSWER) throw new MeshError(`the metrics API's answer is larger than ${MAX_ANSWER} bytes`);
    chunks.push(chunk as Buffer);
  }
  const text = Buffer.concat(chunks).toString();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new MeshError(`the metrics API answered ${response.statusCode} with something that is not JSON`);
  }
  if (response.statusCode === 200) return body;
  const said = (body as { error?: string } | null)?.error ?? `status ${response.statusCode}`;
  throw new MeshError(`the metrics API refused: ${said}`, { exitCode: response.statusCode === 400 ? 2 : 1 });
}

/** node:http's agent calls a few methods of sockets that a plain stream lacks. */
function asSocket(stream: Duplex): Duplex {
  const self = () => stream;
  return Object.assign(stream, {
    setKeepAlive: self,
    setNoDelay: self,
    setTimeout: self,
    ref: self,
    unref: self,
  });
}

// Reaches a port of a pod through the API server, as `kubectl port-forward` does: one WebSocket a connection,
// with client-node's channel protocol v4.channel.k8s.io (channel 0 data, 1 error, for the first port).
import { Duplex } from "node:stream";
import { WebSocket } from "ws";
import { MeshError } from "../util/error.ts";
import type { KubeClient } from "./client.ts";
import { connectionError, KubeApiError } from "./error.ts";
import { resourcePath } from "./path.ts";
import type { ContainerStatus, Pod } from "./types.ts";

export interface PodPort {
  readonly namespace: string;
  readonly pod: string;
  readonly port: number;
}

/** Frames larger than this are refused, bytes. */
const MAX_FRAME = 1024 * 1024;
/** Writing waits while more than this is queued on the WebSocket, bytes. */
const HIGH_WATER = 256 * 1024;
const OPEN_TIMEOUT = 10_000;

/** A byte stream to a pod's port. @throws KubeApiError, MeshError when the API server refuses or is not there. */
export async function portForwardDuplex(client: KubeClient, target: PodPort): Promise<Duplex> {
  const { config } = client;
  const path = resourcePath({
    apiVersion: "v1",
    resource: "pods",
    namespace: target.namespace,
    name: target.pod,
    subresource: "portforward",
  });
  const url = `${config.server.replace(/^http/, "ws")}${config.basePath}${path}?ports=${target.port}`;
  const socket = new WebSocket(url, ["v4.channel.k8s.io"], {
    ...config.tls,
    headers: await config.headers(),
    maxPayload: MAX_FRAME,
    handshakeTimeout: OPEN_TIMEOUT,
    perMessageDeflate: false,
  });
  await new Promise<void>((resolve, reject) => {
    socket.once("open", () => {
      // Frames may come with the answer itself, before anyone listens: they wait until the stream is read.
      socket.pause();
      resolve();
    });
    socket.once("error", (error) => reject(connectionError(error, config.server)));
    socket.once("unexpected-response", (_request, response) => {
      let text = "";
      response.on("data", (chunk) => {
        if (text.length < 4096) text += chunk;
      });
      response.on("end", () => {
        let status: object;
        try {
          status = JSON.parse(text);
        } catch {
          status = { message: text.trim() || `the API server answered ${response.statusCode}` };
        }
        reject(new KubeApiError(response.statusCode ?? 0, status, `PORT-FORWARD ${path}`));
      });
    });
  });
  return new ChannelStream(socket, target);
}

const DATA = 0;
const ERROR = 1;

/** The data channel as a Duplex. The first two bytes of each channel repeat the port and are dropped. */
class ChannelStream extends Duplex {
  readonly #socket: WebSocket;
  readonly #target: PodPort;
  readonly #greeted = [false, false];

  constructor(socket: WebSocket, target: PodPort) {
    super();
    this.#socket = socket;
    this.#target = target;
    socket.on("message", (data: Buffer) => this.#take(data));
    socket.on("close", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
  }

  #take(frame: Buffer): void {
    const channel = frame[0];
    if (channel !== DATA && channel !== ERROR) return;
    let payload = frame.subarray(1);
    if (!this.#greeted[channel]) {
      this.#greeted[channel] = true;
      payload = payload.subarray(2);
    }
    if (payload.length === 0) return;
    if (channel === ERROR) {
      const { namespace, pod, port } = this.#target;
      this.destroy(
        new MeshError(`port ${port} of pod ${namespace}/${pod}: ${payload.toString("utf8").slice(0, 500)}`),
      );
    } else if (!this.push(payload)) this.#socket.pause();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const frame = Buffer.allocUnsafe(chunk.length + 1);
    frame[0] = DATA;
    chunk.copy(frame, 1);
    // The callback comes when the frame reached the socket: that is the back-pressure.
    if (this.#socket.bufferedAmount < HIGH_WATER) {
      this.#socket.send(frame);
      done();
    } else this.#socket.send(frame, done);
  }

  // The protocol has no half-close: the end of writing is only known when the whole stream closes.
  override _final(done: () => void): void {
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.terminate();
    done(error);
  }
}

/** Whether a pod's Ready condition is True and it is not being deleted. */
function isPodReady(pod: Pod): boolean {
  return (
    pod.metadata.deletionTimestamp === undefined &&
    (pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false)
  );
}

/** A ready pod by label. @throws MeshError when there is none, saying why the candidates are not ready. */
export async function readyPod(client: KubeClient, namespace: string, labelSelector: string): Promise<Pod> {
  const { items } = await client.list<Pod>(`/api/v1/namespaces/${namespace}/pods`, { labelSelector });
  const ready = items.find(isPodReady);
  if (ready) return ready;
  const states = items.map((pod) => `${pod.metadata.name} is ${podState(pod)}`);
  throw new MeshError(`no pod with ${labelSelector} in namespace ${namespace} is ready`, {
    hints: [
      states.length > 0
        ? states.join("; ")
        : "There are none at all; is the mesh installed? kubectl mesh check",
    ],
  });
}

/** One word for a pod's state: a container's waiting reason, or the phase. */
function podState(pod: Pod): string {
  const statuses: ContainerStatus[] = [
    ...(pod.status?.initContainerStatuses ?? []),
    ...(pod.status?.containerStatuses ?? []),
  ];
  return (
    statuses.find((s) => s.state?.waiting?.reason)?.state?.waiting?.reason ?? pod.status?.phase ?? "unknown"
  );
}

// exec, attach and portforward: requests that turn their connection into a stream, by WebSocket or by SPDY.

import type { Duplex } from "node:stream";
import type { KubeObject } from "../../cluster.ts";
import type { ExecSession } from "../../node-api.ts";
import type { Exchange } from "../http/exchange.ts";
import { isTrue } from "../http/request.ts";
import type { ResourceDef } from "../resource.ts";
import { badRequest, noSuchPath } from "../status.ts";
import { containerOf } from "./container.ts";
import { type ExecStreams, runSession } from "./exec.ts";
import { connect, type Dial, forwardSpdy } from "./port-forward.ts";
import { SpdyConnection, type SpdyStream } from "./spdy.ts";
import { acceptWebSocket, Channels, offeredProtocols, tunnel } from "./web-socket.ts";

type StreamExchange = Omit<Exchange, "response">;

const SPDY = "SPDY/3.1";
const EXEC_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const TUNNEL = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD = "portforward.k8s.io";
/** How long a SPDY client may take to open the streams that it asked for, in ms. */
const STREAMS_TIMEOUT = 30_000;
/** Ports in one WebSocket port-forward; each takes two of 255 channels. */
const MAX_PORTS = 100;

/** Serves an upgrade request. Throws ApiError before the connection has been taken over. */
export async function serveStream(exchange: StreamExchange, socket: Duplex, head: Buffer): Promise<void> {
  const { info, serving } = exchange;
  const { registry } = serving.cluster;
  const { group, resource, namespace, name, subresource } = info.resource ?? {};
  if (group !== "" || resource !== "pods" || !namespace || !name) throw noSuchPath();
  const pod = registry.get(registry.preferred("", "pods") as ResourceDef, namespace, name);
  const upgrade = (exchange.request.headers.upgrade ?? "").toLowerCase();
  if (upgrade !== "websocket" && upgrade !== SPDY.toLowerCase()) {
    throw badRequest("Upgrade request required");
  }
  const end = () => socket.destroy();
  serving.closing.addEventListener("abort", end, { once: true });
  socket.once("close", () => serving.closing.removeEventListener("abort", end));
  const overWebSocket = upgrade === "websocket";
  switch (subresource) {
    case "exec":
    case "attach":
      return overWebSocket
        ? execWebSocket(exchange, pod, subresource, socket, head)
        : execSpdy(exchange, pod, subresource, socket, head);
    case "portforward":
      return overWebSocket
        ? portForwardWebSocket(exchange, pod, socket, head)
        : portForwardSpdy(exchange, pod, socket, head);
    default:
      throw noSuchPath();
  }
}

interface ExecRequest {
  wants: { stdin: boolean; stdout: boolean; stderr: boolean; resize: boolean };
  start(): Promise<ExecSession>;
}

function execRequest(exchange: StreamExchange, pod: KubeObject, kind: "exec" | "attach"): ExecRequest {
  const { query, resource } = exchange.info;
  const { nodeApi } = exchange.serving;
  const { namespace, name } = resource as { namespace: string; name: string };
  const container = containerOf(pod, query.get("container"));
  const tty = isTrue(query.get("tty"));
  const stdin = isTrue(query.get("stdin"));
  const stdout = isTrue(query.get("stdout"));
  const stderr = isTrue(query.get("stderr")) && !tty;
  const command = query.getAll("command");
  if (kind === "exec" && command.length === 0)
    throw badRequest("you must specify at least one command for the container");
  if (!stdin && !stdout && !stderr)
    throw badRequest("you must specify at least one of stdin, stdout, stderr");
  if (["Succeeded", "Failed"].includes(pod.status?.phase)) {
    throw badRequest(`cannot exec into a container in a completed pod; current phase is ${pod.status.phase}`);
  }
  const options = { container, stdin, stdout, stderr, tty };
  return {
    wants: { stdin, stdout, stderr, resize: tty },
    start: () =>
      kind === "exec"
        ? nodeApi.exec(namespace, name, { ...options, command })
        : nodeApi.attach(namespace, name, options),
  };
}

async function execWebSocket(
  exchange: StreamExchange,
  pod: KubeObject,
  kind: "exec" | "attach",
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const { wants, start } = execRequest(exchange, pod, kind);
  const protocol = offeredProtocols(exchange.request).find((offered) => EXEC_PROTOCOLS.includes(offered));
  if (!protocol) throw badRequest(`the WebSocket protocol must be one of: ${EXEC_PROTOCOLS.join(", ")}`);
  const ws = await acceptWebSocket(exchange.request, socket, head, protocol);
  const channels = new Channels(ws);
  const streams: ExecStreams = {
    stdin: wants.stdin ? channels.open(0) : undefined,
    stdout: wants.stdout ? channels.open(1) : undefined,
    stderr: wants.stderr ? channels.open(2) : undefined,
    error: channels.open(3),
    resize: wants.resize ? channels.open(4) : undefined,
  };
  await runSession(start, streams);
  channels.close();
}

async function execSpdy(
  exchange: StreamExchange,
  pod: KubeObject,
  kind: "exec" | "attach",
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const { wants, start } = execRequest(exchange, pod, kind);
  switchToSpdy(exchange, socket, head, "v4.channel.k8s.io");
  const expected = [
    "error",
    ...Object.entries(wants)
      .filter(([, wanted]) => wanted)
      .map(([type]) => type),
  ];
  const opened = new Map<string, SpdyStream>();
  const { clock } = exchange.serving.cluster;
  const connection = new SpdyConnection(socket, (stream) => {
    const type = stream.headers.get("streamtype") ?? "";
    if (!expected.includes(type) || opened.has(type)) {
      stream.destroy(new Error(`unexpected stream ${type}`));
      return;
    }
    opened.set(type, stream);
    if (opened.size < expected.length) return;
    clock.clear(timeout);
    const streams: ExecStreams = {
      stdin: opened.get("stdin"),
      stdout: opened.get("stdout"),
      stderr: opened.get("stderr"),
      resize: opened.get("resize"),
      error: opened.get("error") as SpdyStream,
    };
    void runSession(start, streams).then(() => connection.close());
  });
  const timeout = clock.after(STREAMS_TIMEOUT, () => {
    if (opened.size < expected.length) connection.close();
  });
  socket.once("close", () => clock.clear(timeout));
}

function dialer(exchange: StreamExchange): Dial {
  const { namespace, name } = exchange.info.resource as { namespace: string; name: string };
  return (port) => exchange.serving.nodeApi.dial(namespace, name, port);
}

function requireRunning(pod: KubeObject): void {
  const phase = pod.status?.phase;
  if (phase !== "Running") {
    throw badRequest(`unable to forward port because pod is not running. Current status=${phase}`);
  }
}

function portForwardSpdy(exchange: StreamExchange, pod: KubeObject, socket: Duplex, head: Buffer): void {
  requireRunning(pod);
  switchToSpdy(exchange, socket, head, PORT_FORWARD);
  forwardSpdy(socket, dialer(exchange));
}

async function portForwardWebSocket(
  exchange: StreamExchange,
  pod: KubeObject,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  requireRunning(pod);
  const offered = offeredProtocols(exchange.request);
  if (offered.includes(TUNNEL)) {
    const ws = await acceptWebSocket(exchange.request, socket, head, TUNNEL);
    forwardSpdy(tunnel(ws), dialer(exchange));
    return;
  }
  const protocol = offered.find((text) => EXEC_PROTOCOLS.includes(text));
  const ports = exchange.info.query
    .getAll("ports")
    .flatMap((text) => text.split(","))
    .map(Number);
  if (!protocol)
    throw badRequest(`the WebSocket protocol must be one of: ${TUNNEL}, ${EXEC_PROTOCOLS.join(", ")}`);
  if (ports.length === 0 || ports.length > MAX_PORTS || ports.some((port) => !(port > 0 && port < 65536))) {
    throw badRequest('query parameter "ports" is required: port numbers from 1 to 65535');
  }
  const ws = await acceptWebSocket(exchange.request, socket, head, protocol);
  const channels = new Channels(ws);
  const dial = dialer(exchange);
  const done = ports.map(async (port, i) => {
    const data = channels.open(2 * i);
    const error = channels.open(2 * i + 1);
    // Each channel begins with its port, little endian.
    const announcement = Buffer.alloc(2);
    announcement.writeUInt16LE(port);
    data.write(announcement);
    error.write(announcement);
    await connect(dial, port, data, error);
    await new Promise<void>((resolve) => {
      if (data.writableFinished || data.destroyed) resolve();
      data.once("finish", resolve);
      data.once("close", resolve);
    });
  });
  await Promise.all(done);
  channels.close();
}

function switchToSpdy(exchange: StreamExchange, socket: Duplex, head: Buffer, protocol: string): void {
  const offered = (exchange.request.headers["x-stream-protocol-version"] ?? "")
    .toString()
    .split(",")
    .map((text) => text.trim());
  if (!offered.includes(protocol)) {
    throw badRequest(
      `unable to upgrade: the stream protocol must be ${protocol}, offered: ${offered.join(", ")}`,
    );
  }
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${SPDY}\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  if (head.length > 0) socket.unshift(head);
}

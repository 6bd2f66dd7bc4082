// One probe or HTTP hook: dialled from the node to the pod's address, as a kubelet does, or run in the container.
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { errorCode, errorMessage } from "../../util/error.ts";
import type { Json } from "../cluster.ts";
import { checkGrpcHealth } from "./grpc-health.ts";

export interface ProbeResult {
  readonly ok: boolean;
  /** Why not, as kubelets say it. */
  readonly message: string;
}

export interface ProbeTarget {
  readonly podIP: string;
  /** Container spec: names of ports are looked up in it. */
  readonly container: Json;
  /** Runs a command in the container; resolves with its exit code and output, or rejects at the deadline. */
  exec(command: readonly string[], timeoutMs: number): Promise<{ exitCode: number; output: string }>;
}

/** What of a response is looked at. */
const MAX_BODY = 10 * 1024;

/** Runs a probe's or hook's action once. Never rejects. */
export async function runProbe(probe: Json, target: ProbeTarget): Promise<ProbeResult> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.httpGet) return await httpGet(probe.httpGet, target, timeoutMs);
    if (probe.tcpSocket) return await tcpSocket(probe.tcpSocket, target, timeoutMs);
    if (probe.grpc) return await checkGrpcHealth(target.podIP, probe.grpc, timeoutMs);
    if (probe.exec) {
      const { exitCode, output } = await target.exec(probe.exec.command ?? [], timeoutMs);
      return { ok: exitCode === 0, message: exitCode === 0 ? "" : output || `exit code ${exitCode}` };
    }
    return { ok: true, message: "" };
  } catch (error) {
    return { ok: false, message: errorMessage(error) };
  }
}

/** Number of a port given by number or by name. @throws Error when the container has no such port */
export function portNumber(port: number | string, container: Json): number {
  if (typeof port === "number") return port;
  if (/^\d+$/.test(port)) return Number(port);
  const named = (container.ports ?? []).find((each: Json) => each.name === port);
  if (!named) throw new Error(`couldn't find port: ${port}`);
  return named.containerPort;
}

function httpGet(get: Json, target: ProbeTarget, timeoutMs: number): Promise<ProbeResult> {
  const port = portNumber(get.port, target.container);
  const host = get.host || target.podIP;
  const tls = String(get.scheme ?? "HTTP").toUpperCase() === "HTTPS";
  const path = String(get.path ?? "/");
  const url = `${tls ? "https" : "http"}://${host}:${port}${path.startsWith("/") ? path : `/${path}`}`;
  const headers: Record<string, string> = {
    "User-Agent": "kube-probe/1.32",
    Accept: "*/*",
    Connection: "close",
  };
  for (const { name, value } of get.httpHeaders ?? []) headers[name] = value;
  return new Promise((resolve) => {
    const request = (tls ? httpsRequest : httpRequest)(
      url,
      // A probe asks whether the container serves, not whether its certificate is good.
      { headers, agent: false, ...(tls ? { rejectUnauthorized: false } : {}) },
      (response) => {
        const status = response.statusCode ?? 0;
        let seen = 0;
        const done = () => {
          clearTimeout(timer);
          request.destroy();
          const ok = status >= 200 && status < 400;
          resolve({ ok, message: ok ? "" : `HTTP probe failed with statuscode: ${status}` });
        };
        response.on("data", (chunk: Buffer) => {
          seen += chunk.length;
          if (seen > MAX_BODY) done();
        });
        response.on("end", done);
        response.on("error", done);
      },
    );
    const fail = (why: string) => {
      clearTimeout(timer);
      request.destroy();
      resolve({ ok: false, message: `Get ${JSON.stringify(url)}: ${why}` });
    };
    const timer = setTimeout(() => {
      fail("context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
    }, timeoutMs);
    request.on("error", (error) => fail(dialError(error, host, port)));
    request.end();
  });
}

function tcpSocket(socket: Json, target: ProbeTarget, timeoutMs: number): Promise<ProbeResult> {
  const port = portNumber(socket.port, target.container);
  const host = socket.host || target.podIP;
  return new Promise((resolve) => {
    const connection = connect({ host, port });
    const finish = (message: string) => {
      clearTimeout(timer);
      connection.destroy();
      resolve({ ok: message === "", message });
    };
    const timer = setTimeout(() => finish(`dial tcp ${host}:${port}: i/o timeout`), timeoutMs);
    connection.on("connect", () => finish(""));
    connection.on("error", (error) => finish(dialError(error, host, port)));
  });
}

function dialError(error: Error, host: string, port: number): string {
  const why = errorCode(error) === "ECONNREFUSED" ? "connection refused" : error.message;
  return `dial tcp ${host}:${port}: connect: ${why}`;
}

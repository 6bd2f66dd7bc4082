// The gRPC probe: one grpc.health.v1.Health/Check over node:http2.
import { connect } from "node:http2";
import type { Json } from "../cluster.ts";
import type { ProbeResult } from "./probe.ts";

const SERVING = 1;
const MAX_ANSWER = 4096;
const STATUS = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/** `grpc` is the probe's `{port, service}`. */
export function checkGrpcHealth(host: string, grpc: Json, timeoutMs: number): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const session = connect(`http://${host}:${grpc.port}`);
    const finish = (message: string) => {
      clearTimeout(timer);
      session.destroy();
      resolve({ ok: message === "", message });
    };
    const timer = setTimeout(() => {
      finish(
        `timeout: failed to connect service "${host}:${grpc.port}" within ${timeoutMs / 1000}s: context deadline exceeded`,
      );
    }, timeoutMs);
    session.on("error", (error) => finish(`error: ${error.message}`));
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
      "user-agent": "kube-probe/1.32",
    });
    let answer: Buffer = Buffer.alloc(0);
    let status: string | undefined;
    const note = (headers: Record<string, unknown>) => {
      if (headers["grpc-status"] !== undefined) status = String(headers["grpc-status"]);
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.on("data", (chunk: Buffer) => {
      if (answer.length < MAX_ANSWER) answer = Buffer.concat([answer, chunk]);
    });
    stream.on("error", (error) => finish(`error: ${error.message}`));
    stream.on("end", () => {
      if (status !== undefined && status !== "0") return finish(`error: health rpc failed: code = ${status}`);
      // HealthCheckResponse { status = 1: enum }: an absent field is UNKNOWN.
      const serving = answer.length >= 7 && answer[5] === 0x08 ? answer[6]! : 0;
      finish(
        serving === SERVING
          ? ""
          : `service unhealthy (responded with ${JSON.stringify(STATUS[serving] ?? serving)})`,
      );
    });
    stream.end(healthRequest(String(grpc.service ?? "")));
  });
}

/** HealthCheckRequest { service = 1: string } in gRPC framing. */
function healthRequest(service: string): Buffer {
  const name = Buffer.from(service).subarray(0, 127);
  const message = name.length === 0 ? name : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

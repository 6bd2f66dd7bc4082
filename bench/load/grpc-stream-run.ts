// Streaming gRPC: messages that come back on 8 connections × 16 streams, and the back end that sends them back.
import type { Load } from "../closed-loop.ts";
import { type Bench, LOAD_CORE } from "../harness.ts";
import { Histogram } from "../histogram.ts";
import type { GrpcStreamResult, GrpcStreamSettings } from "./grpc-stream.ts";

/** Starts the back end. @returns its port */
export async function grpcStreamServer(bench: Bench): Promise<number> {
  const port = await bench.port();
  const child = bench.start(
    "gRPC back end",
    LOAD_CORE,
    process.execPath,
    [bench.program("peers/grpc-server.ts")],
    { GRPC_SERVER: JSON.stringify({ port }) },
  );
  await bench.listening(child, port);
  return port;
}

/** @param bytes of a message, without its frame */
export const grpcStreams =
  (bench: Bench, bytes: number): Load =>
  async (port, seconds) => {
    const settings: GrpcStreamSettings = { port, connections: 8, streams: 16, seconds, bytes };
    const output = await bench.run(
      "gRPC streams",
      LOAD_CORE,
      process.execPath,
      [bench.program("load/grpc-stream.ts")],
      { GRPC_STREAM: JSON.stringify(settings) },
    );
    const result = JSON.parse(output) as GrpcStreamResult;
    if (result.failed > 0) throw new Error(`${result.failed} streams did not end with grpc-status 0`);
    return {
      units: result.messages,
      seconds: result.seconds,
      latency: Histogram.of(result.latency).percentiles(),
    };
  };

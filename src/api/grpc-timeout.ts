// How long the caller of a gRPC method waits for its end (gRPC over HTTP/2, "Timeout").

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** ms of a grpc-timeout header such as `500m`; undefined when there is none or it cannot be read. */
export function grpcTimeoutMs(header: string | undefined): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(header ?? "");
  return match ? Number(match[1]) * UNITS[match[2]!]! : undefined;
}

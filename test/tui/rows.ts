// Rows as the metrics API would answer them.
import type { EdgeRow, StatRow } from "../../src/api/stat.ts";

export function statRow(name: string, rps: number | null, successRate = 1): StatRow {
  return {
    kind: "deployment",
    name,
    namespace: "demo",
    pods: { meshed: 1, total: 1 },
    requests:
      rps === null
        ? null
        : {
            success: rps * successRate,
            failure: rps * (1 - successRate),
            successRate,
            rps,
            p50: rps / 2,
            p95: rps,
            p99: rps * 2,
            secured: 1,
          },
    tcp: { openConnections: Math.round((rps ?? 3) / 3), secured: 1, readRate: 1, writeRate: 1 },
  };
}

export function edgeRow(from: string, to: string, rps: number): EdgeRow {
  const { requests, tcp } = statRow(to, rps);
  return { from: { name: from, namespace: "demo" }, to: { name: to, namespace: "demo" }, requests, tcp };
}

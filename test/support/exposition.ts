// Synthetic expositions of a proxy, built from what it would have counted.
import type { PodRecord } from "../../src/controller/metrics-api/pod.ts";

export interface Traffic {
  readonly labels: Readonly<Record<string, string>>;
  readonly success?: number;
  readonly failure?: number;
  /** Observations by upper bound in ms. */
  readonly latency?: Readonly<Record<string, number>>;
  readonly open?: number;
  readonly read?: number;
  readonly written?: number;
}

const text = (labels: Readonly<Record<string, string>>) =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${value}"`)
    .join(",");

export function exposition(traffic: readonly Traffic[]): string {
  const lines = ["# HELP response_total Total count of HTTP responses.", "# TYPE response_total counter"];
  for (const { labels, ...counts } of traffic) {
    const all = text(labels);
    if (counts.success !== undefined) {
      lines.push(`response_total{${all},status_code="200",classification="success"} ${counts.success}`);
    }
    if (counts.failure !== undefined) {
      lines.push(`response_total{${all},status_code="500",classification="failure"} ${counts.failure}`);
    }
    if (counts.latency) {
      let total = 0;
      for (const [bound, count] of Object.entries(counts.latency)) {
        total += count;
        lines.push(`response_latency_ms_bucket{${all},status_code="200",le="${bound}"} ${total}`);
      }
      lines.push(`response_latency_ms_bucket{${all},status_code="200",le="+Inf"} ${total}`);
      lines.push(`response_latency_ms_sum{${all},status_code="200"} 1`);
      lines.push(`response_latency_ms_count{${all},status_code="200"} ${total}`);
    }
    const peer = labels["direction"] === "inbound" ? "src" : "dst";
    if (counts.open !== undefined) lines.push(`tcp_open_connections{${all},peer="${peer}"} ${counts.open}`);
    if (counts.read !== undefined) lines.push(`tcp_read_bytes_total{${all},peer="${peer}"} ${counts.read}`);
    if (counts.written !== undefined)
      lines.push(`tcp_write_bytes_total{${all},peer="${peer}"} ${counts.written}`);
  }
  lines.push("process_cpu_seconds_total 12.5", "");
  return lines.join("\n");
}

export function podOf(name: string, overrides: Partial<PodRecord> = {}): PodRecord {
  return {
    namespace: "demo",
    name: `${name}-abc12`,
    labels: { app: name },
    ip: "127.0.0.1",
    phase: "Running",
    status: "Running",
    meshed: true,
    owners: { deployment: name },
    ...overrides,
  };
}

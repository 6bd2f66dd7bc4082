// Rows of stat as Linkerd prints them: the cells of its table, the fields of its JSON.
import type { StatRow } from "../api/stat.ts";
import { formatResource } from "./resource.ts";

/** One element of `stat -o json`; the shape is Linkerd's. Latencies in whole ms, success 0 to 1. */
export interface StatJson {
  readonly namespace: string;
  readonly kind: string;
  readonly name: string;
  readonly meshed?: string;
  readonly success: number | null;
  readonly rps: number | null;
  readonly latency_ms_p50: number | null;
  readonly latency_ms_p95: number | null;
  readonly latency_ms_p99: number | null;
  readonly tcp_open_connections?: number;
  readonly tcp_read_bytes_rate?: number;
  readonly tcp_write_bytes_rate?: number;
}

export function statJson(row: StatRow): StatJson {
  const { requests, tcp, pods } = row;
  const ms = (value: number | null | undefined) => (value == null ? null : Math.round(value));
  return {
    namespace: row.namespace,
    kind: row.kind,
    name: row.name,
    ...(pods ? { meshed: `${pods.meshed}/${pods.total}` } : {}),
    success: requests?.successRate ?? null,
    rps: requests?.rps ?? null,
    latency_ms_p50: ms(requests?.p50),
    latency_ms_p95: ms(requests?.p95),
    latency_ms_p99: ms(requests?.p99),
    ...(tcp
      ? {
          tcp_open_connections: tcp.openConnections,
          tcp_read_bytes_rate: tcp.readRate,
          tcp_write_bytes_rate: tcp.writeRate,
        }
      : {}),
  };
}

export interface StatColumn {
  readonly header: string;
  readonly value: (row: StatRow) => string | null | undefined;
  readonly align?: "left" | "right";
  readonly wide?: boolean;
}

/** Columns of the table. @param options.kinds more than one kind is shown: names carry theirs */
export function statColumns(options: { namespace: boolean; kinds: boolean; status: boolean }): StatColumn[] {
  return [
    ...(options.namespace ? [{ header: "NAMESPACE", value: (row: StatRow) => row.namespace }] : []),
    { header: "NAME", value: (row) => (options.kinds ? formatResource(row) : row.name) },
    ...(options.status ? [{ header: "STATUS", value: (row: StatRow) => row.status }] : []),
    { header: "MESHED", align: "right", value: ({ pods }) => pods && `${pods.meshed}/${pods.total}` },
    { header: "SUCCESS", align: "right", value: ({ requests }) => requests && percent(requests.successRate) },
    { header: "RPS", align: "right", value: ({ requests }) => requests && `${requests.rps.toFixed(1)}rps` },
    { header: "LATENCY_P50", align: "right", value: ({ requests }) => latency(requests?.p50) },
    { header: "LATENCY_P95", align: "right", value: ({ requests }) => latency(requests?.p95) },
    { header: "LATENCY_P99", align: "right", value: ({ requests }) => latency(requests?.p99) },
    { header: "TCP_CONN", align: "right", value: ({ tcp }) => tcp && String(tcp.openConnections) },
    { header: "READ_BYTES/SEC", align: "right", wide: true, value: ({ tcp }) => tcp && bytes(tcp.readRate) },
    {
      header: "WRITE_BYTES/SEC",
      align: "right",
      wide: true,
      value: ({ tcp }) => tcp && bytes(tcp.writeRate),
    },
  ];
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(2)}%`;
}

export function latency(ms: number | null | undefined): string | undefined {
  return ms == null ? undefined : `${Math.round(ms)}ms`;
}

export function bytes(rate: number): string {
  return `${rate.toFixed(1)}B/s`;
}

// Questions about traffic and their answers, as the metrics API speaks them in JSON over HTTP: shared by the
// server in controller/metrics-api and by its callers in viz/.

/** Kinds of resources that traffic can be grouped by, in their canonical names. */
export const STAT_KINDS = [
  "deployment",
  "pod",
  "service",
  "namespace",
  "statefulset",
  "daemonset",
  "job",
  "cronjob",
  "replicaset",
  "replicationcontroller",
] as const;
export type StatKind = (typeof STAT_KINDS)[number];

export interface ResourceRef {
  readonly kind: StatKind;
  /** Undefined: every resource of the kind. */
  readonly name?: string;
  /** Undefined: every namespace. */
  readonly namespace?: string;
}

export interface StatQuery {
  readonly resource: ResourceRef;
  /** Label selector on the resource's pods. */
  readonly selector?: string;
  /** Only what the resource sends to this one, as its own proxies measured it. */
  readonly to?: ResourceRef;
  /** Only what the resource receives from this one, as the sender's proxies measured it. */
  readonly from?: ResourceRef;
  /** Milliseconds to look back. */
  readonly window: number;
}

export interface RequestStats {
  /** Responses within the window. */
  readonly success: number;
  readonly failure: number;
  /** 0 to 1. */
  readonly successRate: number;
  /** Requests a second. */
  readonly rps: number;
  /** Milliseconds; null without a latency sample. */
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  /** Share of the responses that went over mutual TLS, 0 to 1. */
  readonly secured: number;
}

export interface TcpStats {
  readonly openConnections: number;
  /** Share of the open connections that are mutual TLS, 0 to 1; 0 without any. */
  readonly secured: number;
  /** Bytes a second. */
  readonly readRate: number;
  readonly writeRate: number;
}

export interface StatRow {
  readonly kind: StatKind;
  readonly name: string;
  readonly namespace: string;
  /** Pods with a proxy, of all that have not ended; null where pods cannot be counted (services). */
  readonly pods: { readonly meshed: number; readonly total: number } | null;
  /** For a pod: its phase, or why it waits. */
  readonly status?: string;
  /** Null: no HTTP traffic in the window. */
  readonly requests: RequestStats | null;
  /** Null: no TCP traffic seen. */
  readonly tcp: TcpStats | null;
}

export interface StatAnswer {
  /** The window that the answer covers, ms: shorter than asked for while the store is young. */
  readonly window: number;
  readonly rows: readonly StatRow[];
  /** The store had to leave out series to stay within its memory. */
  readonly incomplete: boolean;
}

export interface EdgeRow {
  readonly from: { readonly name: string; readonly namespace: string };
  readonly to: { readonly name: string; readonly namespace: string };
  readonly requests: RequestStats | null;
  readonly tcp: TcpStats | null;
}

export interface EdgesQuery {
  readonly resource: ResourceRef;
  readonly window: number;
}

export interface EdgesAnswer {
  readonly window: number;
  readonly rows: readonly EdgeRow[];
  readonly incomplete: boolean;
}

/** Query parameters of `GET /api/stat`. */
export function statParams(query: StatQuery): URLSearchParams {
  const params = new URLSearchParams();
  putRef(params, "", query.resource);
  if (query.to) putRef(params, "to_", query.to);
  if (query.from) putRef(params, "from_", query.from);
  if (query.selector) params.set("selector", query.selector);
  params.set("window", String(query.window));
  return params;
}

/** @throws RangeError naming the parameter that is wrong. */
export function parseStatParams(params: URLSearchParams): StatQuery {
  const to = takeRef(params, "to_");
  const from = takeRef(params, "from_");
  const selector = params.get("selector");
  return {
    resource: requireRef(params),
    window: takeWindow(params),
    ...(selector ? { selector } : {}),
    ...(to ? { to } : {}),
    ...(from ? { from } : {}),
  };
}

/** Query parameters of `GET /api/edges`. */
export function edgesParams(query: EdgesQuery): URLSearchParams {
  const params = new URLSearchParams();
  putRef(params, "", query.resource);
  params.set("window", String(query.window));
  return params;
}

/** @throws RangeError naming the parameter that is wrong. */
export function parseEdgesParams(params: URLSearchParams): EdgesQuery {
  return { resource: requireRef(params), window: takeWindow(params) };
}

function putRef(params: URLSearchParams, prefix: string, ref: ResourceRef): void {
  params.set(`${prefix}kind`, ref.kind);
  if (ref.name !== undefined) params.set(`${prefix}name`, ref.name);
  if (ref.namespace !== undefined) params.set(`${prefix}namespace`, ref.namespace);
}

function takeRef(params: URLSearchParams, prefix: string): ResourceRef | undefined {
  const kind = params.get(`${prefix}kind`);
  if (kind === null) return undefined;
  if (!STAT_KINDS.includes(kind as StatKind)) {
    throw new RangeError(
      `${prefix}kind: expected one of ${STAT_KINDS.join(", ")}, got ${JSON.stringify(kind)}`,
    );
  }
  const name = params.get(`${prefix}name`);
  const namespace = params.get(`${prefix}namespace`);
  return {
    kind: kind as StatKind,
    ...(name === null ? {} : { name }),
    ...(namespace === null ? {} : { namespace }),
  };
}

function requireRef(params: URLSearchParams): ResourceRef {
  const ref = takeRef(params, "");
  if (!ref) throw new RangeError("kind: missing");
  return ref;
}

function takeWindow(params: URLSearchParams): number {
  const window = Number(params.get("window") ?? 60_000);
  if (!Number.isFinite(window) || window < 1_000 || window > 86_400_000) {
    throw new RangeError(`window: expected 1000 to 86400000 ms, got ${JSON.stringify(params.get("window"))}`);
  }
  return window;
}

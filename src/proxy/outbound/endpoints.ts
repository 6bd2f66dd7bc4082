// Turns what discovery says of endpoints into endpoints that can be dialled and counted.

import { addressText } from "../../api/address.ts";
import type { MessageOf } from "../../api/codec.ts";
import type { Backend, FailureAccrual } from "../../api/outbound.ts";
import { durationMs } from "../../api/time.ts";
import { encodeTransportHeader, TRANSPORT_PROTOCOL } from "../../api/transport-header.ts";
import { DEFAULT_WINDOW, MAX_WINDOW } from "../../http2/frame.ts";
import type { Labels } from "../../metrics/registry.ts";
import { compileLoad, DEFAULT_LOAD, type LoadConfig } from "../../rules/endpoint-load.ts";
import { type AccrualConfig, compileAccrual } from "../../rules/failure-accrual.ts";
import { isLocal } from "../../rules/zone-spill.ts";
import { Balancer, type Waits } from "../balance/balancer.ts";
import { Endpoint, type Shared } from "../balance/endpoint.ts";
import type { QueueLimits } from "../balance/wait-queue.ts";
import { DEFAULT_HTTP2_PARAMS, type Http2Params } from "../http2/client-connection.ts";
import type { EndpointSet, Watch, WeightedAddr } from "../ports.ts";
import { type BalancerFamilies, BalancerSeries } from "../telemetry/balancer-series.ts";
import type { ConnectionFamilies } from "../telemetry/connection-series.ts";
import { clientTlsLabels, prefixed, targetLabels } from "../telemetry/labels.ts";
import type { RouteFamilies } from "../telemetry/route-series.ts";
import { type Families, HttpSeries, TcpSeries } from "../telemetry/series.ts";
import type { TlsTarget } from "../transport/dial.ts";

export interface BalancerContext {
  readonly families: Families;
  readonly routes: RouteFamilies;
  readonly balancers: BalancerFamilies;
  readonly connections: ConnectionFamilies;
  readonly shared: Shared;
  /** Where a backend's policy has none. */
  readonly queues: Readonly<Record<Waits, QueueLimits>>;
  /** Whether an address is this pod's own. */
  readonly isLocal: (ip: string) => boolean;
}

/** What the policy of a backend says of its balancing. */
export interface BackendPolicy {
  readonly load: LoadConfig;
  readonly queue: QueueLimits | undefined;
  readonly accrual: AccrualConfig | undefined;
}

export const NO_BACKEND_POLICY: BackendPolicy = { load: DEFAULT_LOAD, queue: undefined, accrual: undefined };

/** @param accrual of the protocol that the backend is used with */
export function backendPolicy(
  backend: MessageOf<typeof Backend> | undefined,
  accrual: MessageOf<typeof FailureAccrual> | undefined,
): BackendPolicy {
  const { capacity, failfastTimeout } = backend?.queue ?? {};
  return {
    load: compileLoad(backend?.balancer),
    queue:
      capacity && failfastTimeout ? { capacity, failfastTimeout: durationMs(failfastTimeout) } : undefined,
    accrual: compileAccrual(accrual),
  };
}

/**
 * @param authority `name:port` of the service, for labels; undefined for a bare address
 * @param labels of the balancer's own series
 */
export function createBalancer(
  watch: Watch<EndpointSet>,
  authority: string | undefined,
  context: BalancerContext,
  policy: BackendPolicy = NO_BACKEND_POLICY,
  labels: Labels = { backend_name: authority ?? "" },
): Balancer {
  const { shared } = context;
  const { queue } = policy;
  const queues = queue ? { request: queue, connection: queue } : context.queues;
  const { failfastTimeout } = queues.request;
  const series = new BalancerSeries(context.balancers, labels, failfastTimeout, shared.clock.now());
  return new Balancer({
    clock: shared.clock,
    watch,
    queues,
    floor: policy.accrual?.minReadyEndpoints ?? 1,
    series,
    signature: (address, set) => signature(address, set),
    create: (key, address, set, onChange) =>
      createEndpoint({
        key,
        address,
        setLabels: set.metricLabels,
        authority,
        context,
        policy,
        series,
        onChange,
      }),
  });
}

/** Everything of an endpoint that its connections or labels are made from. */
function signature(address: WeightedAddr, set: EndpointSet): string {
  const { tlsIdentity, protocolHint, metricLabels } = address;
  return JSON.stringify([
    tlsIdentity?.dnsLikeIdentity?.name,
    tlsIdentity?.uriLikeIdentity?.uri,
    tlsIdentity?.serverName?.name,
    protocolHint?.opaqueTransport?.inboundPort,
    protocolHint?.h2 !== undefined,
    address.http2,
    address.authorityOverride?.authorityOverride,
    metricLabels,
    set.metricLabels,
  ]);
}

interface EndpointFacts {
  readonly key: string;
  readonly address: WeightedAddr;
  readonly setLabels: Readonly<Record<string, string>>;
  readonly authority: string | undefined;
  readonly context: BalancerContext;
  readonly policy: BackendPolicy;
  readonly series: BalancerSeries;
  readonly onChange: (endpoint: Endpoint) => void;
}

function createEndpoint(facts: EndpointFacts): Endpoint {
  const { key, address, authority, context, policy, series } = facts;
  const { families, shared } = context;
  const { ip, port } = addressText(address.addr)!;
  // An endpoint in this very pod is reached without TLS: there is nothing between us.
  const local = context.isLocal(ip);
  const identity = local ? undefined : identityOf(address);
  const tls = identity === undefined ? undefined : tlsTarget(identity, address, undefined);
  const inboundPort = address.protocolHint?.opaqueTransport?.inboundPort;
  const own = { ...facts.setLabels, ...address.metricLabels };
  const tlsLabels = clientTlsLabels(identity, local ? "loopback" : "not_provided_by_service_discovery");
  const labels: Labels = {
    direction: "outbound",
    authority,
    ...targetLabels(ip, port),
    ...tlsLabels,
    ...prefixed("dst", own),
  };
  return new Endpoint(shared, {
    key,
    target: { ip, port, tls },
    opaque:
      identity && inboundPort
        ? {
            target: { ip, port: inboundPort, tls: tlsTarget(identity, address, [TRANSPORT_PROTOCOL]) },
            preface: encodeTransportHeader({ port, hearsUnserved: {} }),
          }
        : undefined,
    http2: http2Params(address),
    // An endpoint in this very pod is the application itself.
    upgrades: identity !== undefined && address.protocolHint?.h2 !== undefined,
    authority: address.authorityOverride?.authorityOverride || undefined,
    labels: () => ({ ...own, ...tlsLabels }),
    http: () => new HttpSeries(families, labels),
    tcp: () =>
      new TcpSeries(families, { ...labels, peer: "dst" }, context.connections.cost(address.metricLabels)),
    weight: address.weight,
    local: isLocal(address.metricLabels),
    load: policy.load,
    breaker: policy.accrual && { accrual: policy.accrual, series },
    onChange: facts.onChange,
  });
}

/** The control plane's word on how to speak HTTP/2 with an endpoint, and our own where it has none. */
function http2Params({ http2 }: WeightedAddr): Http2Params {
  const { keepAlive, streamWindow, connectionWindow } = DEFAULT_HTTP2_PARAMS;
  if (!http2) return DEFAULT_HTTP2_PARAMS;
  const { flowControl, keepAlive: told } = http2;
  const window = (value: number | undefined, fallback: number) =>
    value ? Math.min(Math.max(value, DEFAULT_WINDOW), MAX_WINDOW) : fallback;
  return {
    keepAlive: {
      interval: told?.interval ? durationMs(told.interval) : keepAlive.interval,
      timeout: told?.timeout ? durationMs(told.timeout) : keepAlive.timeout,
      whileIdle: told?.whileIdle ?? keepAlive.whileIdle,
    },
    streamWindow: window(flowControl?.initialStreamWindowSize, streamWindow),
    connectionWindow: window(flowControl?.initialConnectionWindowSize, connectionWindow),
  };
}

function identityOf({ tlsIdentity }: WeightedAddr): string | undefined {
  return tlsIdentity?.dnsLikeIdentity?.name || tlsIdentity?.uriLikeIdentity?.uri || undefined;
}

function tlsTarget(identity: string, address: WeightedAddr, alpn: string[] | undefined): TlsTarget {
  const serverName = address.tlsIdentity?.serverName?.name || identity;
  return { serverName, identity, alpn, session: undefined, sessionContext: undefined, sessionExpiry: 0 };
}

/** A set that never changes, of one endpoint. */
export function fixedEndpoint(key: string, address: WeightedAddr): Watch<EndpointSet> {
  return {
    current: { exists: true, endpoints: new Map([[key, address]]), metricLabels: {} },
    ready: Promise.resolve(),
    subscribe: () => () => {},
    close: () => {},
  };
}

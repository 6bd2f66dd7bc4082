// Turns what discovery says of endpoints into endpoints that can be dialled and counted.

import { addressText } from "../../api/address.ts";
import { durationMs } from "../../api/time.ts";
import { encodeTransportHeader, TRANSPORT_PROTOCOL } from "../../api/transport-header.ts";
import type { Labels } from "../../metrics/registry.ts";
import { Balancer } from "../balance/balancer.ts";
import { Endpoint, type Shared } from "../balance/endpoint.ts";
import { DEFAULT_HTTP2_PARAMS, type Http2Params } from "../http2/client-connection.ts";
import { DEFAULT_WINDOW, MAX_WINDOW } from "../http2/frame.ts";
import type { EndpointSet, Watch, WeightedAddr } from "../ports.ts";
import { clientTlsLabels, prefixed, targetLabels } from "../telemetry/labels.ts";
import type { RouteFamilies } from "../telemetry/route-series.ts";
import { type Families, HttpSeries, TcpSeries } from "../telemetry/series.ts";
import type { TlsTarget } from "../transport/dial.ts";

export interface BalancerContext {
  readonly families: Families;
  readonly routes: RouteFamilies;
  readonly shared: Shared;
  readonly failfastTimeout: number;
  readonly queueCapacity: number;
  /** Whether an address is this pod's own. */
  readonly isLocal: (ip: string) => boolean;
}

/** @param authority `name:port` of the service, for labels; undefined for a bare address */
export function createBalancer(
  watch: Watch<EndpointSet>,
  authority: string | undefined,
  context: BalancerContext,
): Balancer {
  const { families, shared } = context;
  const counts = (state: string) =>
    families.balancerEndpoints.labels({ backend_name: authority ?? "", endpoint_state: state });
  const [ready, pending] = [counts("ready"), counts("pending")];
  return new Balancer({
    clock: shared.clock,
    watch,
    failfastTimeout: context.failfastTimeout,
    queueCapacity: context.queueCapacity,
    signature: (address, set) => signature(address, set),
    create: (key, address, set, onReadyChange) =>
      createEndpoint(key, address, set.metricLabels, authority, context, onReadyChange),
    onCounts: (readyCount, pendingCount) => {
      ready.set(readyCount);
      pending.set(pendingCount);
    },
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

function createEndpoint(
  key: string,
  address: WeightedAddr,
  setLabels: Readonly<Record<string, string>>,
  authority: string | undefined,
  context: BalancerContext,
  onReadyChange: (endpoint: Endpoint) => void,
): Endpoint {
  const { families, shared } = context;
  const { ip, port } = addressText(address.addr)!;
  // An endpoint in this very pod is reached without TLS: there is nothing between us.
  const local = context.isLocal(ip);
  const identity = local ? undefined : identityOf(address);
  const tls = identity === undefined ? undefined : tlsTarget(identity, address, undefined);
  const inboundPort = address.protocolHint?.opaqueTransport?.inboundPort;
  const labels: Labels = {
    direction: "outbound",
    authority,
    ...targetLabels(ip, port),
    ...clientTlsLabels(identity, local ? "loopback" : "not_provided_by_service_discovery"),
    ...prefixed("dst", { ...setLabels, ...address.metricLabels }),
  };
  return new Endpoint(shared, {
    key,
    target: { ip, port, tls },
    opaque:
      identity && inboundPort
        ? {
            target: { ip, port: inboundPort, tls: tlsTarget(identity, address, [TRANSPORT_PROTOCOL]) },
            preface: encodeTransportHeader({ port }),
          }
        : undefined,
    http2: http2Params(address),
    // An endpoint in this very pod is the application itself.
    upgrades: identity !== undefined && address.protocolHint?.h2 !== undefined,
    authority: address.authorityOverride?.authorityOverride || undefined,
    http: () => new HttpSeries(families, labels),
    tcp: () => new TcpSeries(families, { ...labels, peer: "dst" }),
    onReadyChange,
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
  return { serverName, identity, alpn, session: undefined, sessionContext: undefined };
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

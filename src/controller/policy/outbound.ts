// The outbound policy of a Service's port that no route is attached to: one default route to its endpoints.
import type { MessageOf, Partially } from "../../api/codec.ts";
import type { OutboundPolicy } from "../../api/outbound.ts";
import { durationOf } from "../../api/time.ts";
import { DECAY_MS, DEFAULT_RTT_MS } from "../../rules/endpoint-choice.ts";

export interface ServicePortFacts {
  readonly namespace: string;
  readonly service: string;
  readonly port: number;
  readonly appProtocol: string | undefined;
  readonly opaque: boolean;
  readonly clusterDomain: string;
}

/** How long a client's protocol is waited for, ms. */
const DETECT_TIMEOUT = 10_000;
/** Linkerd's queue: requests that wait for an endpoint, and for how long. */
const QUEUE = { capacity: 100, failfastTimeout: durationOf(3_000) };

export function outboundPolicyOf(facts: ServicePortFacts): Partially<MessageOf<typeof OutboundPolicy>> {
  const resource = {
    group: "core",
    kind: "Service",
    name: facts.service,
    namespace: facts.namespace,
    port: facts.port,
  };
  const metadata = { resource };
  const backend = {
    metadata,
    queue: QUEUE,
    balancer: {
      discovery: {
        dst: { path: `${facts.service}.${facts.namespace}.svc.${facts.clusterDomain}:${facts.port}` },
      },
      peakEwma: { defaultRtt: durationOf(DEFAULT_RTT_MS), decay: durationOf(DECAY_MS) },
    },
  };
  const backends = { firstAvailable: { backends: [{ backend }] } };
  const http = {
    routes: [{ metadata: { default: "http" }, rules: [{ matches: [{ path: { prefix: "/" } }], backends }] }],
  };
  const opaque = { routes: [{ metadata: { default: "opaque" }, rules: [{ backends }] }] };
  switch (protocolOf(facts)) {
    case "opaque":
      return { metadata, protocol: { opaque } };
    case "http1":
      return { metadata, protocol: { http1: http } };
    case "http2":
      return { metadata, protocol: { http2: http } };
    case "detect":
      return {
        metadata,
        protocol: { detect: { timeout: durationOf(DETECT_TIMEOUT), opaque, http1: http, http2: http } },
      };
  }
}

/** An annotation that says opaque wins; then the port's appProtocol, of which an unknown one is opaque. */
function protocolOf({ opaque, appProtocol }: ServicePortFacts): "opaque" | "http1" | "http2" | "detect" {
  if (opaque) return "opaque";
  if (appProtocol === undefined) return "detect";
  if (appProtocol === "http") return "http1";
  return appProtocol === "kubernetes.io/h2c" ? "http2" : "opaque";
}

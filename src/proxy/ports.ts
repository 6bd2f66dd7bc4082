// The seams of the proxy: what the data path needs from the control side, and what the control side drives.
// The data path knows nothing of gRPC, certificates' issuance or the kernel; it is given these.
import type * as net from "node:net";
import type * as tls from "node:tls";
import type { MessageOf } from "../api/codec.ts";
import type * as destination from "../api/destination.ts";
import type * as inbound from "../api/inbound.ts";
import type * as outbound from "../api/outbound.ts";
import type { PortRange } from "../util/port-set.ts";

export type WeightedAddr = MessageOf<typeof destination.WeightedAddr>;
export type DestinationProfile = MessageOf<typeof destination.DestinationProfile>;
export type OutboundPolicy = MessageOf<typeof outbound.OutboundPolicy>;
export type Server = MessageOf<typeof inbound.Server>;

/** A value that changes while it is watched. */
export interface Watch<T> {
  /** The latest value; undefined before the first. */
  readonly current: T | undefined;
  /** Resolves at the first value. */
  readonly ready: Promise<void>;
  /** The control plane said it, and has been away since: there is nobody to ask again. */
  readonly stale?: boolean | undefined;
  /** Calls `fn` at each further value; returns the way to stop. */
  subscribe(fn: (value: T) => void): () => void;
  close(): void;
}

/** The endpoints of one destination path, with all updates so far applied. */
export interface EndpointSet {
  /** False when the destination said that it does not exist. */
  readonly exists: boolean;
  /** By `ip:port`, IPv6 in brackets. */
  readonly endpoints: ReadonlyMap<string, WeightedAddr>;
  readonly metricLabels: Record<string, string>;
}

export interface Discovery {
  /**
   * null: not found, or never looked up.
   * @param host an address; a name where a request named its destination (ingress mode)
   */
  profile(host: string, port: number): Watch<DestinationProfile | null>;
  /** null: NotFound, Unimplemented or unavailable. @param host as that of `profile` */
  outboundPolicy(host: string, port: number): Watch<OutboundPolicy | null>;
  /** @param path authority of a destination, such as `web.emoji.svc.cluster.local:80` */
  endpoints(path: string): Watch<EndpointSet>;
  /** The policy of an inbound port; the default policy holds until the first answer. */
  serverPolicy(port: number): Watch<Server>;
}

export interface Credentials {
  readonly clientContext: tls.SecureContext;
  readonly serverContext: tls.SecureContext;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

export interface IdentitySource {
  /** The DNS-like identity of this proxy, also the SNI that it terminates. */
  readonly localName: string;
  readonly current: Credentials | undefined;
  readonly ready: Promise<void>;
  subscribe(fn: (credentials: Credentials) => void): () => void;
}

export interface OriginalDestination {
  /** Where the client meant to go; undefined when the connection was not redirected. */
  of(socket: net.Socket): { ip: string; port: number } | undefined;
}

/** Sets TCP_USER_TIMEOUT of a connected socket, ms. */
export type SetUserTimeout = (socket: net.Socket, ms: number) => void;

export interface DataPath {
  /** Resolves once the ports are bound. What connects before there is a certificate waits for it. */
  listen(): Promise<void>;
  /** Stops accepting after a grace, finishes what is in flight; resolves when drained, or after `timeout` ms. */
  drain(timeout: number): Promise<void>;
  close(): void;
  /** Connections accepted and not yet ended. */
  connections(): number;
}

/** What both directions are told; all times in milliseconds. */
export interface DataPathConfig {
  /** Addresses to accept on; one or two (dual stack). Port 0 takes a free one (tests). */
  readonly listen: readonly { readonly ip: string; readonly port: number }[];
  readonly connectTimeout: number;
  readonly detectTimeout: number;
  /** How long an unused HTTP/1 connection is kept for further requests. */
  readonly poolIdleTimeout: number;
  /** Unused HTTP/1 connections kept per endpoint. */
  readonly poolMaxIdle: number;
  /** How long a request waits for an endpoint before it fails, and further ones fail at once. */
  readonly failfastTimeout: number;
  /** Requests that may wait for an endpoint, or for a stream of one; more are shed. */
  readonly queueCapacity: number;
  /** Requests waiting for response headers; more are shed. */
  readonly maxInFlight: number;
  /** An accepted HTTP connection without a request is closed after this, ms; 0: never. */
  readonly idleTimeout: number;
  /** Connections that the kernel holds until they are accepted. */
  readonly backlog: number;
  /** Connections accepted and open at a time; further ones are closed as they come. */
  readonly maxConnections: number;
  /** Delay before the first TCP keep-alive probe, of dialled and of accepted connections; 0: none. */
  readonly keepAlive: number;
  readonly acceptKeepAlive: number;
  /** How long bytes may go unacknowledged, of dialled and of accepted connections; 0: as the kernel has it. */
  readonly userTimeout: number;
  readonly acceptUserTimeout: number;
  /** How long a discovery result is kept with no connection using it. */
  readonly discoveryIdleTimeout: number;
  /** Backoff of probes to an endpoint that refused connections. */
  readonly connectBackoff: { readonly min: number; readonly max: number; readonly jitter: number };
  /** How long connections are still accepted once draining. */
  readonly drainGrace: number;
  /** Of accepted HTTP/2 connections. */
  readonly http2: {
    readonly keepAlive: { readonly interval: number; readonly timeout: number; readonly whileIdle: boolean };
    /** Room for request bodies, bytes: of one stream, and of all of a connection. */
    readonly streamWindow: number;
    readonly connectionWindow: number;
    readonly maxStreams: number;
  };
}

export interface InboundConfig extends DataPathConfig {
  /** Addresses that may be an original destination; empty: any. */
  readonly ips: readonly string[];
  /** Ports to which nobody without a mesh identity is let, whatever the policy says. */
  readonly identityPorts: readonly PortRange[];
}

export interface OutboundConfig extends DataPathConfig {
  /** Connections of bytes that may wait for an endpoint, and how long the first of them does, ms. */
  readonly connectionQueue: { readonly capacity: number; readonly failfastTimeout: number };
  /** How long the first answer to a profile look-up is waited for. */
  readonly profileTimeout: number;
  /** How long the first answer to a policy look-up is waited for. */
  readonly policyTimeout: number;
  /** This proxy's inbound port: never dialled as a destination in its own pod. */
  readonly inboundPort: number;
  /** Addresses of this pod. */
  readonly localIps: readonly string[];
  /** Requests may name their destination themselves, by names that end in one of `suffixes`; undefined: they may not. */
  readonly ingress?: { readonly suffixes: readonly string[] } | undefined;
  /** Loopback as an original destination is a loop, and refused. Only tests on loopback say false. */
  readonly refuseLoopback: boolean;
}

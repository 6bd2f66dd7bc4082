// What the data path asks of the control plane, as streams of gRPC: profiles, policies, endpoints.
import { isIP } from "node:net";
import { addressKey, addressOf } from "../../api/address.ts";
import * as destination from "../../api/destination.ts";
import * as inbound from "../../api/inbound.ts";
import * as outbound from "../../api/outbound.ts";
import { type DefaultPolicy, defaultServer } from "../../rules/default-policy.ts";
import type { Clock } from "../../util/clock.ts";
import { type PortRange, portSetHas } from "../../util/port-set.ts";
import type { DestinationProfile, Discovery, EndpointSet, OutboundPolicy, Server, Watch } from "../ports.ts";
import { EndpointUpdates, NO_ENDPOINTS } from "./endpoint-updates.ts";
import type { GrpcClient } from "./grpc-client.ts";
import { SharedWatches, StreamWatch } from "./stream-watch.ts";

export interface ControlDiscoveryOptions {
  readonly destination: GrpcClient;
  readonly policy: GrpcClient;
  readonly clock: Clock;
  /** The context token of look-ups. */
  readonly context: string;
  /** The workload token of policy look-ups. */
  readonly workload: string;
  /** Whether profiles are looked up for an address. */
  readonly profiled: (ip: string) => boolean;
  /** How long a first answer is waited for before the watched thing counts as absent, ms. */
  readonly profileTimeout: number;
  readonly streamTimeout: number;
  readonly defaultPolicy: DefaultPolicy;
  readonly clusterNetworks: readonly string[];
  readonly opaquePorts: readonly PortRange[];
}

export class ControlDiscovery implements Discovery {
  readonly #options: ControlDiscoveryOptions;
  readonly #profiles = new SharedWatches<DestinationProfile | null>();
  readonly #outbound = new SharedWatches<OutboundPolicy | null>();
  readonly #endpoints = new SharedWatches<EndpointSet>();
  readonly #servers = new SharedWatches<Server>();

  constructor(options: ControlDiscoveryOptions) {
    this.#options = options;
  }

  profile(host: string, port: number): Watch<DestinationProfile | null> {
    const { destination: client, clock, context, profiled, profileTimeout } = this.#options;
    if (isIP(host) !== 0 && !profiled(host)) return fixed(null);
    const path = addressKey(host, port);
    return this.#profiles.hold(
      path,
      (onClose) =>
        new StreamWatch({
          client,
          clock,
          method: destination.GetProfile,
          request: { path, contextToken: context },
          take: (profile): DestinationProfile | null => profile,
          absent: null,
          timeout: profileTimeout,
          onClose,
        }),
    );
  }

  outboundPolicy(host: string, port: number): Watch<OutboundPolicy | null> {
    const { policy: client, clock, workload, streamTimeout } = this.#options;
    const key = addressKey(host, port);
    const target = isIP(host) === 0 ? { authority: key } : { addr: addressOf(host, port) };
    return this.#outbound.hold(
      key,
      (onClose) =>
        new StreamWatch({
          client,
          clock,
          method: outbound.Watch,
          request: { sourceWorkload: workload, ...target },
          take: (policy): OutboundPolicy | null => policy,
          absent: null,
          timeout: streamTimeout,
          onClose,
        }),
    );
  }

  endpoints(path: string): Watch<EndpointSet> {
    const { destination: client, clock, context, streamTimeout } = this.#options;
    return this.#endpoints.hold(path, (onClose) => {
      const updates = new EndpointUpdates();
      return new StreamWatch({
        client,
        clock,
        method: destination.Get,
        request: { path, contextToken: context },
        take: (update, fresh, known) => updates.take(update, fresh, known),
        settled: () => updates.settle(),
        absent: NO_ENDPOINTS,
        timeout: streamTimeout,
        onClose,
      });
    });
  }

  serverPolicy(port: number): Watch<Server> {
    const {
      policy: client,
      clock,
      workload,
      streamTimeout,
      defaultPolicy,
      clusterNetworks,
      opaquePorts,
    } = this.#options;
    return this.#servers.hold(String(port), (onClose) => {
      const initial = defaultServer({
        policy: defaultPolicy,
        clusterNetworks,
        opaque: portSetHas(opaquePorts, port),
        probes: [],
      });
      return new StreamWatch({
        client,
        clock,
        method: inbound.WatchPort,
        request: { workload, port },
        take: (server): Server => server,
        // Traffic does not wait for the control plane. One that does not know this very pod only lags behind: the
        // default must not take the place of what another replica said, nor stay for long.
        initial,
        timeout: streamTimeout,
        onClose,
      });
    });
  }

  close(): void {
    for (const watches of [this.#profiles, this.#outbound, this.#endpoints, this.#servers]) watches.close();
  }
}

function fixed<T>(value: T): Watch<T> {
  return { current: value, ready: Promise.resolve(), subscribe: () => () => {}, close: () => {} };
}

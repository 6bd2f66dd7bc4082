// One inbound port: its policy as it stands, who is admitted by it, and the application's sockets behind it.

import { addressKey } from "../../api/address.ts";
import type { CounterSeries, Labels } from "../../metrics/registry.ts";
import { type Authorization, compileAuthorization, type Verdict } from "../../rules/authorization.ts";
import { PolicyError } from "../../rules/policy-error.ts";
import { type InboundProtocol, inboundProtocol } from "../../rules/protocol.ts";
import { RateLimiter } from "../../rules/rate-limit.ts";
import type { RouteRef } from "../../rules/route-match.ts";
import { compileServerRoutes, type ServerRoutes } from "../../rules/server-routes.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { Endpoint, type Shared } from "../balance/endpoint.ts";
import type { Discovery, Server, Watch } from "../ports.ts";
import {
  type InboundRouteFamilies,
  InboundRouteSeries,
  type ServerFacts,
} from "../telemetry/inbound-series.ts";
import { clientTlsLabels, prefixed, type TextLabels, targetLabels } from "../telemetry/labels.ts";
import { type Families, HttpSeries, TcpSeries } from "../telemetry/series.ts";

/** One version of a port's policy, compiled. A new version is a new object. */
export interface PolicyState {
  /** undefined: the policy cannot be applied, and nothing passes. */
  readonly protocol: InboundProtocol | undefined;
  readonly authorization: Authorization;
  /** undefined: the policy cannot be applied, as above. */
  readonly routes: ServerRoutes | undefined;
  readonly limiter: RateLimiter | undefined;
  readonly serverLabels: Labels;
  readonly server: ServerFacts;
}

/** A connection or tunnel that must end when the policy no longer admits it. */
export interface Guarded {
  admittedBy(state: PolicyState): boolean;
  destroy(): void;
}

export interface PortContext {
  readonly discovery: Discovery;
  readonly families: Families;
  readonly routes: InboundRouteFamilies;
  readonly shared: Shared;
  readonly clock: Clock;
  readonly detectTimeout: number;
  /** Nobody without an identity is let to this port. */
  readonly requiresIdentity: boolean;
  readonly idleTimeout: number;
}

/** What connections from one kind of client are counted in. */
class ClientSeries {
  readonly tcp: TcpSeries;
  readonly #families: Families;
  readonly #labels: Labels;
  /** By the authorization's labels, which its policy keeps. */
  readonly #verdicts = new WeakMap<Labels, CounterSeries>();

  constructor(families: Families, labels: Labels) {
    this.tcp = new TcpSeries(families, { direction: "inbound", peer: "src", ...labels });
    this.#families = families;
    this.#labels = labels;
  }

  /** Counts a connection that was authorized, or was not. @param admitted it is let in; a policy may forbid what its rules allow */
  authorized({ labels }: Verdict, admitted: boolean): void {
    let counter = admitted ? this.#verdicts.get(labels) : undefined;
    if (!counter) {
      counter = this.#families.authz("tcp", admitted, {
        direction: "inbound",
        ...this.#labels,
        ...prefixed("authz", labels),
      });
      if (admitted) this.#verdicts.set(labels, counter);
    }
    counter.inc();
  }
}

/** Most label sets remembered per port and version: clients come and go. */
const SERIES_LIMIT = 1_000;

export class PortPolicy {
  readonly port: number;
  state: PolicyState | undefined;
  readonly #context: PortContext;
  readonly #watch: Watch<Server>;
  readonly #apps = new Map<string, Endpoint>();
  readonly #guarded = new Set<Guarded>();
  readonly #series = new Map<string, HttpSeries>();
  readonly #clients = new Map<string, ClientSeries>();
  readonly #accounts = new Map<string, InboundRouteSeries>();
  readonly #onIdle: () => void;
  #limits = "null";
  #limiter: RateLimiter | undefined;
  #users = 0;
  #idle: Timer | undefined;

  constructor(port: number, context: PortContext, onIdle: () => void) {
    this.port = port;
    this.#context = context;
    this.#onIdle = onIdle;
    this.#watch = context.discovery.serverPolicy(port);
    this.#watch.subscribe((server) => this.#update(server));
    if (this.#watch.current) this.#update(this.#watch.current);
  }

  get ready(): Promise<void> {
    return this.#watch.ready;
  }

  #update(server: Server): void {
    const { detectTimeout, requiresIdentity } = this.#context;
    const routes = routesOf(server, requiresIdentity);
    this.state = {
      protocol: routes && inboundProtocol(server, detectTimeout),
      authorization: compileAuthorization(server.authorizations, requiresIdentity),
      routes,
      limiter: routes && this.#limiterOf(routes),
      serverLabels: { ...prefixed("srv", server.labels), srv_port: this.port },
      server: { labels: server.labels, port: this.port, grpc: server.protocol?.grpc !== undefined },
    };
    this.#series.clear();
    this.#clients.clear();
    this.#accounts.clear();
    for (const guarded of [...this.#guarded]) {
      if (!guarded.admittedBy(this.state)) guarded.destroy();
    }
  }

  /** A policy that comes again with the same limits goes on with what was counted. */
  #limiterOf({ rateLimit }: ServerRoutes): RateLimiter | undefined {
    const key = JSON.stringify(rateLimit ?? null);
    if (key !== this.#limits) {
      this.#limits = key;
      this.#limiter = rateLimit && new RateLimiter(rateLimit);
    }
    return this.#limiter;
  }

  /** Counts a connection in; `unuse` counts it out, and the port is forgotten some time after its last. */
  use(): void {
    this.#users += 1;
    this.#context.clock.clear(this.#idle);
    this.#idle = undefined;
  }

  unuse(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#forgetLater();
  }

  #forgetLater(): void {
    const { clock, idleTimeout } = this.#context;
    this.#idle = clock.after(idleTimeout, () => {
      // While there is nobody to ask again, a default that may admit more must not take its place.
      if (this.#watch.stale) this.#forgetLater();
      else {
        this.close();
        this.#onIdle();
      }
    });
  }

  close(): void {
    this.#context.clock.clear(this.#idle);
    this.#watch.close();
    for (const app of this.#apps.values()) app.retire();
    this.#apps.clear();
  }

  guard(guarded: Guarded): void {
    this.#guarded.add(guarded);
  }

  unguard(guarded: Guarded): void {
    this.#guarded.delete(guarded);
  }

  /** The application at the address that the client called. */
  app(ip: string): Endpoint {
    const key = addressKey(ip, this.port);
    let app = this.#apps.get(key);
    if (!app) {
      const { families, shared } = this.#context;
      const target = { ip, port: this.port, tls: undefined };
      app = new Endpoint(shared, {
        key,
        target,
        http: () => this.httpSeries(ip, {}, { allowed: true, labels: {} }),
        tcp: () =>
          new TcpSeries(families, {
            direction: "inbound",
            peer: "dst",
            ...targetLabels(ip, this.port),
            ...clientTlsLabels(undefined, "loopback"),
          }),
        onChange: () => {},
      });
      this.#apps.set(key, app);
    }
    return app;
  }

  /** The counters of connections to `ip` from clients with these labels, under the policy as it stands. */
  clientSeries(ip: string, labels: TextLabels): ClientSeries {
    const key = `${ip} ${labels["client_id"]} ${labels["tls"]} ${labels["no_tls_reason"]}`;
    let series = this.#clients.get(key);
    if (!series) {
      if (this.#clients.size >= SERIES_LIMIT) this.#clients.clear();
      const target = targetLabels(ip, this.port);
      series = new ClientSeries(this.#context.families, {
        ...target,
        ...labels,
        ...this.state?.serverLabels,
      });
      this.#clients.set(key, series);
    }
    return series;
  }

  /** The counters of a route of the policy as it stands. */
  account(state: PolicyState, route: RouteRef = DEFAULT_ROUTE): InboundRouteSeries {
    const key = `${route.kind} ${route.namespace} ${route.name}`;
    let account = this.#accounts.get(key);
    if (!account) {
      account = new InboundRouteSeries(this.#context.routes, state.server, route);
      this.#accounts.set(key, account);
    }
    return account;
  }

  /** The counters of requests to `ip` from clients with these labels. */
  httpSeries(
    ip: string,
    clientLabels: Labels,
    verdict: Verdict,
    route: RouteRef = DEFAULT_ROUTE,
  ): HttpSeries {
    const key = `${ip} ${clientLabels["client_id"]} ${clientLabels["tls"]} ${verdict.labels["name"]} ${verdict.labels["kind"]} ${route.kind} ${route.namespace} ${route.name}`;
    let series = this.#series.get(key);
    if (!series) {
      if (this.#series.size >= SERIES_LIMIT) this.#series.clear();
      series = new HttpSeries(this.#context.families, {
        direction: "inbound",
        ...targetLabels(ip, this.port),
        ...clientLabels,
        ...this.state?.serverLabels,
        route_group: route.group,
        route_kind: route.kind,
        route_name: route.name,
        ...prefixed("authz", verdict.labels),
      });
      this.#series.set(key, series);
    }
    return series;
  }
}

/** Of requests whose route was not looked for. */
const DEFAULT_ROUTE: RouteRef = {
  group: "",
  kind: "default",
  namespace: "",
  name: "default",
  section: "",
  port: 0,
};

function routesOf(server: Server, requiresIdentity: boolean): ServerRoutes | undefined {
  try {
    return compileServerRoutes(server, requiresIdentity);
  } catch (error) {
    if (error instanceof PolicyError) return undefined;
    throw error;
  }
}

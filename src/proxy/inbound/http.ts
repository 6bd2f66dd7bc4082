// Requests of one inbound connection: admitted or refused one by one, then on to the application.
import type { CounterSeries, Labels } from "../../metrics/registry.ts";
import type { Client, Verdict } from "../../rules/authorization.ts";
import { applyFilters } from "../../rules/filters.ts";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import type { RouteRef } from "../../rules/route-match.ts";
import type { ServerRoutes } from "../../rules/server-routes.ts";
import type { Clock } from "../../util/clock.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import { localResponse } from "../http/answer.ts";
import type {
  Account,
  Exchange,
  ExchangeContext,
  ExchangeWatch,
  Outcome,
  Route,
  Service,
  Upstream,
} from "../http/exchange.ts";
import {
  type Field,
  NO_EDITS,
  type RequestEdits,
  type RequestHead,
  type ResponseHead,
} from "../http/message.ts";
import type { ErrorLog } from "../telemetry/error-log.ts";
import { prefixed, targetLabels } from "../telemetry/labels.ts";
import type { Families, HttpSeries } from "../telemetry/series.ts";
import type { Guarded, PolicyState, PortPolicy } from "./port-policy.ts";

export interface InboundHttpOptions {
  readonly port: PortPolicy;
  /** The address that the client called. */
  readonly ip: string;
  readonly client: Client;
  readonly clientPort: number;
  readonly clientLabels: Labels;
  readonly families: Families;
  readonly errors: ErrorLog;
  readonly clock: Clock;
  readonly overloaded: () => boolean;
  readonly isDraining: () => boolean;
  readonly watch: () => ExchangeWatch | undefined;
}

/** Requests that one decision admitted. */
class InboundRoute implements Route {
  readonly series: HttpSeries;
  readonly account: Account | undefined;
  readonly #app: Endpoint;

  constructor(app: Endpoint, series: HttpSeries, account: Account | undefined) {
    this.#app = app;
    this.series = series;
    this.account = account;
  }

  began(): void {
    this.series.requests.inc();
  }

  measured(rtt: number, now: number, status: number, head: ResponseHead | undefined): void {
    this.#app.measured(rtt, now, status, head);
  }

  release(_upstream: Upstream, outcome: Outcome | undefined, _now: number, broken?: PassportKey): void {
    this.#app.left(outcome !== undefined);
    if (outcome) this.series.ended(outcome, broken);
  }
}

/** One request that asks for a tunnel: it lives as long as the policy admits it. */
class TunnelRoute extends InboundRoute implements Guarded {
  readonly #exchange: Exchange;
  readonly #port: PortPolicy;
  readonly admittedBy: (state: PolicyState) => boolean;

  constructor(
    app: Endpoint,
    { series, account }: InboundRoute,
    exchange: Exchange,
    port: PortPolicy,
    admittedBy: (state: PolicyState) => boolean,
  ) {
    super(app, series, account);
    this.#exchange = exchange;
    this.#port = port;
    this.admittedBy = admittedBy;
    port.guard(this);
  }

  destroy(): void {
    this.#exchange.expire("unauthorized");
  }

  override release(
    upstream: Upstream,
    outcome: Outcome | undefined,
    now: number,
    broken?: PassportKey,
  ): void {
    this.#port.unguard(this);
    super.release(upstream, outcome, now, broken);
  }
}

const NO_FIELDS: readonly Field[] = [];

export class InboundHttp implements Service {
  readonly added: readonly Field[];
  readonly trusted: boolean;
  readonly marksFailures: boolean;
  readonly context: ExchangeContext;
  readonly #options: InboundHttpOptions;
  readonly #app: Endpoint;
  /** What the decision was made by; another policy object means that it must be made anew. */
  #state: PolicyState | undefined;
  #verdict: Verdict = { allowed: false, labels: {} };
  #route!: InboundRoute;
  #counter: CounterSeries | undefined;

  constructor(options: InboundHttpOptions) {
    this.#options = options;
    const { ip, port, client, clientPort } = options;
    const { identity, tls } = client;
    this.added = identity === undefined ? NO_FIELDS : [["l5d-client-id", identity]];
    this.trusted = identity !== undefined;
    this.marksFailures = tls;
    this.context = {
      direction: "inbound",
      client: { ip: client.ip, port: clientPort, identity },
      target: { ip, port: port.port },
      sourceLabels: stringLabels(options.clientLabels),
    };
    this.#app = port.app(ip);
    this.#decide(port.state);
  }

  get draining(): boolean {
    return this.#options.isDraining();
  }

  get watch(): ExchangeWatch | undefined {
    return this.#options.watch();
  }

  dispatch(exchange: Exchange): void {
    const { port } = this.#options;
    const { failure } = exchange;
    if (failure) {
      exchange.refuse(failure.key, failure.message);
      return;
    }
    const { state } = port;
    if (state !== this.#state) this.#decide(state);
    if (!state?.protocol || !state.routes) exchange.refuse("invalid-policy");
    else if (this.#verdict.allowed && state.routes.plain) {
      if (exchange.attempts === 0) this.#counter?.inc();
      this.#admit(exchange, state, this.#route, NO_EDITS);
    } else this.#dispatchByRoute(exchange, state, state.routes);
  }

  #dispatchByRoute(exchange: Exchange, state: PolicyState, routes: ServerRoutes): void {
    const { client, families, clock } = this.#options;
    const { request } = exchange;
    const match = routes.find(request);
    if (!match) {
      families.routeNotFound(this.#serverLabels(state));
      exchange.refuse("no-route");
      return;
    }
    const verdict = this.#verdict.allowed ? this.#verdict : routes.admits(match, client, request);
    const { route, filters } = match.rule;
    if (exchange.attempts === 0) this.#count(verdict, route);
    if (!verdict.allowed) {
      exchange.refuse("unauthorized");
      return;
    }
    const filtered = applyFilters(filters, request, match.prefix, clock.random);
    if (filtered.kind !== "go") exchange.respond(localResponse(filtered, this.trusted));
    else this.#admit(exchange, state, this.#routeOf(state, verdict, route), { fields: filters.request });
  }

  #admit(exchange: Exchange, state: PolicyState, route: InboundRoute, edits: RequestEdits): void {
    const { client, clock, families, overloaded } = this.#options;
    const first = exchange.attempts === 0;
    const over = first ? state.limiter?.check(client.identity, clock.monotonic()) : undefined;
    if (over !== undefined) {
      families.rateLimited(over, this.#serverLabels(state));
      exchange.refuse("rate-limited", `the ${over} limit is reached`);
    } else if (overloaded()) exchange.refuse("load-shed");
    else {
      exchange.account = route.account;
      this.#app.serve(exchange, exchange.tunnels ? this.#guarded(exchange, route) : route, edits);
    }
  }

  #guarded(exchange: Exchange, route: InboundRoute): InboundRoute {
    const { request } = exchange;
    return new TunnelRoute(this.#app, route, exchange, this.#options.port, (state) =>
      this.#admittedBy(state, request),
    );
  }

  #admittedBy({ protocol, routes, authorization }: PolicyState, request: RequestHead): boolean {
    const { client } = this.#options;
    if (!protocol || !routes) return false;
    const { allowed } = authorization.check(client);
    if (allowed && routes.plain) return true;
    const match = routes.find(request);
    return match !== undefined && (allowed || routes.admits(match, client, request).allowed);
  }

  #routeOf(state: PolicyState, verdict: Verdict, route: RouteRef): InboundRoute {
    const { port, ip, clientLabels } = this.#options;
    const series = port.httpSeries(ip, clientLabels, verdict, route);
    return new InboundRoute(this.#app, series, port.account(state, route));
  }

  #serverLabels(state: PolicyState): Labels {
    const { port, ip, clientLabels } = this.#options;
    return { ...targetLabels(ip, port.port), ...clientLabels, ...state.serverLabels };
  }

  /** Counts a decision on a request whose route was looked for. */
  #count(verdict: Verdict, route: RouteRef): void {
    this.#authzCounter(this.#state, verdict, route).inc();
  }

  #decide(state: PolicyState | undefined): void {
    const { port, ip, client, clientLabels } = this.#options;
    this.#state = state;
    this.#verdict = state?.authorization.check(client) ?? { allowed: false, labels: {} };
    const series = port.httpSeries(ip, clientLabels, this.#verdict);
    this.#route = new InboundRoute(this.#app, series, state && port.account(state));
    this.#counter = this.#authzCounter(state, this.#verdict, undefined);
  }

  #authzCounter(
    state: PolicyState | undefined,
    verdict: Verdict,
    route: RouteRef | undefined,
  ): CounterSeries {
    const { port, ip, clientLabels, families } = this.#options;
    return families.authz("http", verdict.allowed, {
      direction: "inbound",
      ...targetLabels(ip, port.port),
      ...clientLabels,
      ...state?.serverLabels,
      ...(route && { route_group: route.group, route_kind: route.kind, route_name: route.name }),
      ...prefixed("authz", verdict.labels),
    });
  }

  /** There is only one application; whoever called may know another. */
  affordsRetry(): boolean {
    return false;
  }

  abandon(): void {}

  failed(exchange: Exchange | undefined, key: PassportKey, detail: string | undefined): void {
    const { port, families, errors, client } = this.#options;
    families.httpError(key, { target_port: port.port });
    // Refused requests count as responses, so that success rates and route tables show them.
    const { series } = this.#route;
    if (!exchange || exchange.attempts === 0) series.requests.inc();
    const { status, grpcStatus } = PASSPORTS[key];
    const grpc = exchange?.grpc === true;
    series.ended({
      status: grpc ? 200 : status,
      grpcStatus: grpc ? grpcStatus : undefined,
      complete: true,
      latency: 0,
    });
    errors.write(key, {
      direction: "inbound",
      client: client.ip,
      client_id: client.identity,
      target_port: port.port,
      detail,
    });
  }
}

function stringLabels(labels: Labels): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(labels)) if (value !== undefined) out[name] = String(value);
  return out;
}

// Requests of one outbound connection: each by its route, and to the endpoint that is best for it now.
import type { OutboundRoutes, RouteBackend, RouteRule } from "../../rules/outbound-routes.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { RouteMatch } from "../../rules/route-match.ts";
import type { Clock } from "../../util/clock.ts";
import type { Exchange, ExchangeContext, ExchangeWatch, Service } from "../http/exchange.ts";
import type { Field } from "../http/message.ts";
import type { ErrorLog } from "../telemetry/error-log.ts";
import type { OnlyRouteAccount } from "../telemetry/route-series.ts";
import type { Families } from "../telemetry/series.ts";
import type { Destination } from "./destination.ts";
import { Dispatch } from "./dispatch.ts";
import type { RouteLimits } from "./route-limits.ts";
import { RouteRequest } from "./route-request.ts";

export interface OutboundHttpOptions {
  readonly destination: Destination;
  readonly client: { readonly ip: string; readonly port: number };
  readonly clock: Clock;
  readonly families: Families;
  readonly errors: ErrorLog;
  readonly limits: RouteLimits;
  readonly overloaded: () => boolean;
  readonly isDraining: () => boolean;
  readonly watch: () => ExchangeWatch | undefined;
}

export class OutboundHttp implements Service {
  readonly added: readonly Field[] = [];
  /** The client is our own pod's application. */
  readonly trusted = true;
  readonly marksFailures = false;
  readonly context: ExchangeContext;
  readonly #options: OutboundHttpOptions;
  readonly #dispatch: Dispatch;
  /** What went straight to a backend, and what took a route. */
  readonly #routed = new Map<Exchange, RouteRequest>();
  /** The routes by which `#account` was found. */
  #routes: OutboundRoutes | undefined;
  #account: OnlyRouteAccount | undefined;

  constructor(options: OutboundHttpOptions) {
    this.#options = options;
    const { destination, client, overloaded } = options;
    this.#dispatch = new Dispatch({ name: () => destination.name, overloaded });
    this.context = {
      direction: "outbound",
      client: { ...client, identity: undefined },
      target: { ip: destination.ip, port: destination.port },
      sourceLabels: {},
    };
  }

  get draining(): boolean {
    return this.#options.isDraining();
  }

  get watch(): ExchangeWatch | undefined {
    return this.#options.watch();
  }

  dispatch(exchange: Exchange): void {
    const routes = this.#options.destination.routes(exchange.version);
    if (!routes) exchange.refuse("invalid-policy");
    else if (routes.only) this.#send(exchange, routes, routes.only);
    else {
      const match = routes.find(exchange.request);
      if (match) this.#route(exchange, match);
      else exchange.refuse("no-route");
    }
  }

  #send(exchange: Exchange, routes: OutboundRoutes, { target }: RouteBackend): void {
    const { destination } = this.#options;
    if (routes !== this.#routes) {
      this.#routes = routes;
      this.#account = destination.accountOf(routes);
    }
    exchange.account = this.#account;
    if (exchange.attempts === 0) {
      this.#account?.series.began();
      destination.budget.deposit(exchange.startedAt);
    }
    this.#dispatch.send(exchange, destination.balancer(target));
  }

  #route(exchange: Exchange, match: RouteMatch<RouteRule>): void {
    const { destination, clock, limits } = this.#options;
    const request = new RouteRequest({
      exchange,
      match,
      destination,
      dispatch: this.#dispatch,
      series: destination.seriesOf(match.rule),
      limits,
      clock,
      onOver: () => this.#routed.delete(exchange),
    });
    this.#routed.set(exchange, request);
    request.start();
  }

  affordsRetry(exchange: Exchange, elsewhere: boolean): boolean {
    const { destination, clock } = this.#options;
    const only = destination.routes(exchange.version)?.only;
    if (elsewhere && (!only || exchange.attempts >= destination.balancer(only.target).size)) return false;
    const affords = destination.budget.withdraw(clock.monotonic());
    const series = this.#account?.series;
    if (affords) series?.retrying();
    else series?.overflowed();
    return affords;
  }

  abandon(exchange: Exchange): void {
    this.#dispatch.abandon(exchange);
    this.#routed.get(exchange)?.cancel();
  }

  failed(exchange: Exchange | undefined, key: PassportKey, detail: string | undefined): void {
    const { families, errors, destination } = this.#options;
    if (exchange?.account && exchange.account === this.#account) this.#account.series.failed(key);
    families.httpError(key);
    errors.write(key, { direction: "outbound", destination: destination.name, detail });
  }
}

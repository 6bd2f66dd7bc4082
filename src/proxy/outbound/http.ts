// Requests of one outbound connection: each goes to the endpoint that is best for it now.
import type { PassportKey } from "../../rules/passport.ts";
import type { Balancer, Waiter } from "../balance/balancer.ts";
import type { Http1Service, ServerConnection } from "../http1/server-connection.ts";
import type { ErrorLog } from "../telemetry/error-log.ts";
import type { Families } from "../telemetry/series.ts";
import type { Destination } from "./destination.ts";

export interface OutboundHttpOptions {
  readonly destination: Destination;
  readonly families: Families;
  readonly errors: ErrorLog;
  readonly overloaded: () => boolean;
  readonly isDraining: () => boolean;
}

const NOTHING = Buffer.alloc(0);

export class OutboundHttp implements Http1Service, Waiter {
  readonly addedLines = NOTHING;
  /** The client is our own pod's application. */
  readonly trusted = true;
  readonly marksFailures = false;
  readonly #options: OutboundHttpOptions;
  /** Where the exchange waits for an endpoint. */
  #waitingAt: Balancer | undefined;
  #waiting: ServerConnection | undefined;

  constructor(options: OutboundHttpOptions) {
    this.#options = options;
  }

  get draining(): boolean {
    return this.#options.isDraining();
  }

  dispatch(exchange: ServerConnection): void {
    if (this.#options.overloaded()) {
      exchange.refuse("load-shed");
      return;
    }
    const balancer = this.#options.destination.balancer("http");
    const endpoint = balancer.pick();
    if (endpoint) {
      // Every endpoint failed and this one was tried already, last of all: there is nobody else to ask.
      if (exchange.failure && exchange.attempts >= balancer.size) {
        exchange.refuse(exchange.failure.key, exchange.failure.message);
      } else endpoint.serve(exchange);
      return;
    }
    const state = balancer.wait(this);
    if (state === "waiting") {
      this.#waitingAt = balancer;
      this.#waiting = exchange;
    } else exchange.refuse(state === "full" ? "load-shed" : "fail-fast", this.#name());
  }

  onEndpoints(): void {
    const exchange = this.#waiting;
    this.#forget();
    if (exchange) this.dispatch(exchange);
  }

  onFailfast(): void {
    const exchange = this.#waiting;
    this.#forget();
    exchange?.refuse("fail-fast", this.#name());
  }

  abandon(): void {
    this.#waitingAt?.forget(this);
    this.#forget();
  }

  #forget(): void {
    this.#waitingAt = undefined;
    this.#waiting = undefined;
  }

  #name(): string {
    const { ip, port, protocol } = this.#options.destination;
    return protocol?.authority ?? `${ip}:${port}`;
  }

  failed(_exchange: ServerConnection, key: PassportKey, detail: string | undefined): void {
    const { families, errors } = this.#options;
    families.httpError(key);
    errors.write(key, { direction: "outbound", destination: this.#name(), detail });
  }
}

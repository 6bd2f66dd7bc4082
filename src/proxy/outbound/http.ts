// Requests of one outbound connection: each goes to the endpoint that is best for it now.
import type { PassportKey } from "../../rules/passport.ts";
import type { Balancer, Waiter } from "../balance/balancer.ts";
import type { Exchange, ExchangeContext, ExchangeWatch, Service } from "../http/exchange.ts";
import type { Field } from "../http/message.ts";
import type { ErrorLog } from "../telemetry/error-log.ts";
import type { Families } from "../telemetry/series.ts";
import type { Destination } from "./destination.ts";

export interface OutboundHttpOptions {
  readonly destination: Destination;
  readonly client: { readonly ip: string; readonly port: number };
  readonly families: Families;
  readonly errors: ErrorLog;
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
  /** Exchanges that wait for an endpoint. */
  readonly #waiting = new Map<Exchange, WaitingExchange>();

  constructor(options: OutboundHttpOptions) {
    this.#options = options;
    const { destination, client } = options;
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
    const waiting = new WaitingExchange(balancer, (found) => {
      this.#waiting.delete(exchange);
      if (found) this.dispatch(exchange);
      else exchange.refuse("fail-fast", this.#name());
    });
    const state = balancer.wait(waiting);
    if (state === "waiting") this.#waiting.set(exchange, waiting);
    else exchange.refuse(state === "full" ? "load-shed" : "fail-fast", this.#name());
  }

  abandon(exchange: Exchange): void {
    const waiting = this.#waiting.get(exchange);
    if (!waiting) return;
    waiting.balancer.forget(waiting);
    this.#waiting.delete(exchange);
  }

  #name(): string {
    const { ip, port, protocol } = this.#options.destination;
    return protocol?.authority ?? `${ip}:${port}`;
  }

  failed(_exchange: Exchange | undefined, key: PassportKey, detail: string | undefined): void {
    const { families, errors } = this.#options;
    families.httpError(key);
    errors.write(key, { direction: "outbound", destination: this.#name(), detail });
  }
}

class WaitingExchange implements Waiter {
  readonly balancer: Balancer;
  readonly #next: (found: boolean) => void;

  constructor(balancer: Balancer, next: (found: boolean) => void) {
    this.balancer = balancer;
    this.#next = next;
  }

  onEndpoints(): void {
    this.#next(true);
  }

  onFailfast(): void {
    this.#next(false);
  }
}

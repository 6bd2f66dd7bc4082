// Requests of one connection in ingress mode: each may name its destination itself, by `l5d-dst-override`, as an ingress
// controller does that balances by pod addresses and would otherwise pass by routes, splits and retries of its services.

import type { PassportKey } from "../../rules/passport.ts";
import type { Exchange, ExchangeContext, ExchangeWatch, Service } from "../http/exchange.ts";
import type { Destination } from "./destination.ts";
import type { OutboundHttp } from "./http.ts";
import { readOverride } from "./override.ts";

/** Taken away from the request with every other `l5d-` header by the codecs. */
const OVERRIDE = "l5d-dst-override";
/** Names that the requests of one connection may use. */
const MAX_NAMES = 1_000;

export interface IngressHttpOptions {
  /** Serves requests that name no destination. */
  readonly own: OutboundHttp;
  /** Ends of names that may be looked up, `.` for all. */
  readonly suffixes: readonly string[];
  readonly find: (name: string, port: number) => Destination;
  readonly serve: (destination: Destination) => OutboundHttp;
}

interface Named {
  readonly destination: Destination;
  readonly http: OutboundHttp;
}

export class IngressHttp implements Service {
  readonly #options: IngressHttpOptions;
  readonly #named = new Map<string, Named>();
  /** Requests that named their destination. */
  readonly #by = new Map<Exchange, OutboundHttp>();
  #closed = false;

  constructor(options: IngressHttpOptions) {
    this.#options = options;
  }

  get added() {
    return this.#options.own.added;
  }
  get trusted(): boolean {
    return this.#options.own.trusted;
  }
  get marksFailures(): boolean {
    return this.#options.own.marksFailures;
  }
  get context(): ExchangeContext {
    return this.#options.own.context;
  }
  get draining(): boolean {
    return this.#options.own.draining;
  }
  get watch(): ExchangeWatch | undefined {
    return this.#options.own.watch;
  }

  dispatch(exchange: Exchange): void {
    const { own, suffixes } = this.#options;
    const text = exchange.request.get(OVERRIDE);
    if (text === undefined) {
      own.dispatch(exchange);
      return;
    }
    const override = readOverride(text, suffixes);
    if ("problem" in override) exchange.refuse("no-route", override.problem);
    else this.#dispatch(exchange, override.name, override.port);
  }

  #dispatch(exchange: Exchange, name: string, port: number): void {
    const named = this.#find(name, port);
    if (!named) {
      exchange.refuse("load-shed", `over ${MAX_NAMES} names in ${OVERRIDE} on one connection`);
      return;
    }
    const { destination, http } = named;
    this.#by.set(exchange, http);
    destination.whenKnown(() => {
      // It was given up meanwhile.
      if (this.#closed || this.#by.get(exchange) !== http) return;
      // Its address is not known to us, and the connection's own is not what the request asked for.
      if (destination.discovered) http.dispatch(exchange);
      else exchange.refuse("fail-fast", destination.name);
    });
  }

  #find(name: string, port: number): Named | undefined {
    const key = `${name}:${port}`;
    let named = this.#named.get(key);
    if (!named && this.#named.size < MAX_NAMES) {
      const destination = this.#options.find(name, port);
      destination.use();
      named = { destination, http: this.#options.serve(destination) };
      this.#named.set(key, named);
    }
    return named;
  }

  affordsRetry(exchange: Exchange, elsewhere: boolean): boolean {
    return (this.#by.get(exchange) ?? this.#options.own).affordsRetry(exchange, elsewhere);
  }

  abandon(exchange: Exchange): void {
    (this.#by.get(exchange) ?? this.#options.own).abandon(exchange);
    this.#by.delete(exchange);
  }

  failed(exchange: Exchange | undefined, key: PassportKey, detail: string | undefined): void {
    const by = exchange && this.#by.get(exchange);
    (by ?? this.#options.own).failed(exchange, key, detail);
  }

  /** The connection is over. */
  close(): void {
    this.#closed = true;
    for (const { destination } of this.#named.values()) destination.unuse();
    this.#named.clear();
  }
}

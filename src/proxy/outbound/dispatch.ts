// Gives exchanges to the endpoints of a balancer: to the best one now, or when there is one, or to none in time.
import type { Balancer } from "../balance/balancer.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { Waiter } from "../balance/wait-queue.ts";
import type { Exchange } from "../http/exchange.ts";
import type { RequestEdits } from "../http/message.ts";

/** How often another endpoint is drawn than the one to be avoided. */
const DRAWS = 3;

export interface DispatchOptions {
  /** What fails is told as this. */
  readonly name: () => string;
  /** No further requests are taken. */
  readonly overloaded: () => boolean;
}

export class Dispatch {
  readonly #options: DispatchOptions;
  readonly #waiting = new Map<Exchange, Waiting>();

  constructor(options: DispatchOptions) {
    this.#options = options;
  }

  /**
   * Sends `exchange` to an endpoint, or refuses it.
   * @param avoid an endpoint that just failed the request, if there is another
   * @returns the endpoint, when there was one at once
   */
  send(exchange: Exchange, balancer: Balancer, edits?: RequestEdits, avoid?: Endpoint): Endpoint | undefined {
    const { name, overloaded } = this.#options;
    if (overloaded()) {
      exchange.refuse("load-shed");
      return undefined;
    }
    let endpoint = balancer.pick();
    for (let draw = 0; endpoint === avoid && avoid && draw < DRAWS; draw += 1) endpoint = balancer.pick();
    if (endpoint) {
      // Every endpoint failed and this one was tried already, last of all: there is nobody else to ask.
      if (exchange.failure && !endpoint.reachable && exchange.attempts >= balancer.size) {
        exchange.refuse(exchange.failure.key, exchange.failure.message);
      } else endpoint.serve(exchange, endpoint, edits);
      return endpoint;
    }
    const waiting = new Waiting(balancer, (found) => {
      this.#waiting.delete(exchange);
      if (found) this.send(exchange, balancer, edits, avoid);
      else exchange.refuse("fail-fast", name());
    });
    const state = balancer.wait(waiting, "request");
    if (state === "waiting") this.#waiting.set(exchange, waiting);
    else exchange.refuse(state === "full" ? "load-shed" : "fail-fast", name());
    return undefined;
  }

  /** The exchange waits no longer. */
  abandon(exchange: Exchange): void {
    const waiting = this.#waiting.get(exchange);
    if (!waiting) return;
    waiting.balancer.forget(waiting, "request");
    this.#waiting.delete(exchange);
  }
}

class Waiting implements Waiter {
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

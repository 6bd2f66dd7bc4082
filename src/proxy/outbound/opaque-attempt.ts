// One connection of bytes on its way to an endpoint: balanced once, and tried elsewhere while nobody has heard a byte.
import type { PassportKey } from "../../rules/passport.ts";
import type { Balancer } from "../balance/balancer.ts";
import type { Endpoint, Shared } from "../balance/endpoint.ts";
import type { Waiter } from "../balance/wait-queue.ts";
import { ATTEMPT_LIMIT } from "../http/limits.ts";
import type { DialError } from "../transport/dial.ts";
import type { TcpForward } from "../transport/forward.ts";
import type { Hedge } from "../transport/hedge.ts";
import type { Destination } from "./destination.ts";

/** Finds an endpoint for one opaque connection, trying others while none was reached. */
export class OpaqueAttempt implements Waiter {
  readonly #shared: Shared;
  readonly #destination: Destination;
  readonly #balancer: () => Balancer;
  readonly #refuse: (key: PassportKey, detail: string) => void;
  #forward: TcpForward | undefined;
  #endpoint: Endpoint | undefined;
  #failure: DialError | undefined;
  /** When the endpoint was given the connection, monotonic, ms. */
  #since = 0;
  #waitingAt: Balancer | undefined;

  constructor(
    shared: Shared,
    destination: Destination,
    balancer: () => Balancer,
    refuse: (key: PassportKey, detail: string) => void,
  ) {
    this.#shared = shared;
    this.#destination = destination;
    this.#balancer = balancer;
    this.#refuse = refuse;
  }

  begin(forward: TcpForward): void {
    this.#forward = forward;
    this.#deposit();
    this.#try();
  }

  #deposit(): void {
    this.#destination.budget.deposit(this.#shared.clock.monotonic());
  }

  /** As `begin`, over a connection that was made already. */
  adopt(forward: TcpForward, endpoint: Endpoint, hedge: Hedge<Endpoint>): void {
    this.#forward = forward;
    this.#deposit();
    this.#take(endpoint);
    forward.adopt(hedge.adopt(forward), endpoint.tcp, endpoint.opaque !== undefined);
  }

  #take(endpoint: Endpoint): void {
    this.#endpoint = endpoint;
    this.#since = this.#shared.clock.monotonic();
    endpoint.taken();
  }

  #try(): void {
    const forward = this.#forward;
    if (!forward) return;
    const balancer = this.#balancer();
    const endpoint = balancer.pick("connection");
    if (!endpoint) {
      const state = balancer.wait(this, "connection");
      if (state === "waiting") this.#waitingAt = balancer;
      else this.#refuse(state === "full" ? "load-shed" : "fail-fast", this.#name());
      return;
    }
    const limit = endpoint.reachable ? ATTEMPT_LIMIT : Math.min(balancer.size, ATTEMPT_LIMIT);
    if (this.#failure && forward.attempts >= limit) {
      this.#refuse(this.#failure.key, this.#failure.message);
      return;
    }
    this.#take(endpoint);
    const { opaque } = endpoint;
    forward.connect(opaque?.target ?? endpoint.target, this.#shared.dial, endpoint.tcp, opaque?.preface);
  }

  failed(error: DialError): void {
    this.#endpoint?.done();
    this.#endpoint?.noteFailure(error);
    this.#endpoint = undefined;
    this.#failure = error;
    this.#try();
  }

  /**
   * The endpoint's proxy took the connection, and its application did not.
   * @param error given when nobody has heard a byte: then another may be tried
   */
  unserved(error: DialError | undefined): void {
    const endpoint = this.#endpoint;
    // Without a proxy before it, whatever reset the connection is the application.
    if (endpoint?.target.tls) endpoint.onUnserved();
    if (error === undefined) return;
    endpoint?.done();
    this.#endpoint = undefined;
    this.#failure = error;
    const { budget } = this.#destination;
    const untried = this.#forward!.attempts < this.#balancer().size;
    if (untried && budget.withdraw(this.#shared.clock.monotonic())) this.#try();
    else this.#refuse(error.key, error.message);
  }

  /** The endpoint has said something. */
  served(): void {
    this.#endpoint?.onServed(this.#since);
  }

  closed(): void {
    this.#forward = undefined;
    this.#endpoint?.done();
    this.#endpoint = undefined;
    this.#waitingAt?.forget(this, "connection");
  }

  onEndpoints(): void {
    this.#try();
  }

  onFailfast(): void {
    this.#refuse("fail-fast", this.#name());
  }

  #name(): string {
    const { ip, port, protocol } = this.#destination;
    return protocol?.authority ?? `${ip}:${port}`;
  }
}

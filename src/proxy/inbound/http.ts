// Requests of one inbound connection: admitted or refused one by one, then on to the application.
import type { CounterSeries, Labels } from "../../metrics/registry.ts";
import type { Client, Verdict } from "../../rules/authorization.ts";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type { ClientConnection } from "../http1/client-connection.ts";
import type { Http1Route, Http1Service, ServerConnection } from "../http1/server-connection.ts";
import type { ErrorLog } from "../telemetry/error-log.ts";
import { prefixed, targetLabels } from "../telemetry/labels.ts";
import type { Families, HttpSeries } from "../telemetry/series.ts";
import type { PolicyState, PortPolicy } from "./port-policy.ts";

export interface InboundHttpOptions {
  readonly port: PortPolicy;
  /** The address that the client called. */
  readonly ip: string;
  readonly client: Client;
  readonly clientLabels: Labels;
  readonly families: Families;
  readonly errors: ErrorLog;
  readonly maxInFlight: () => boolean;
  readonly isDraining: () => boolean;
}

const NOTHING = Buffer.alloc(0);

export class InboundHttp implements Http1Service, Http1Route {
  readonly addedLines: Buffer;
  readonly trusted: boolean;
  readonly marksFailures: boolean;
  series!: HttpSeries;
  readonly #options: InboundHttpOptions;
  readonly #app: Endpoint;
  /** What the decision was made by; another policy object means that it must be made anew. */
  #state: PolicyState | undefined;
  #verdict: Verdict = { allowed: false, labels: {} };
  #counter: CounterSeries | undefined;

  constructor(options: InboundHttpOptions) {
    this.#options = options;
    const { identity, tls } = options.client;
    this.addedLines =
      identity === undefined ? NOTHING : Buffer.from(`l5d-client-id: ${identity}\r\n`, "latin1");
    this.trusted = identity !== undefined;
    this.marksFailures = tls;
    this.#app = options.port.app(options.ip);
    this.#decide(options.port.state);
  }

  get draining(): boolean {
    return this.#options.isDraining();
  }

  dispatch(exchange: ServerConnection): void {
    const { port, maxInFlight } = this.#options;
    const { failure } = exchange;
    if (failure) {
      exchange.refuse(failure.key, failure.message);
      return;
    }
    const { state } = port;
    if (state !== this.#state) this.#decide(state);
    const admitted = this.#verdict.allowed || this.#admitsRequest(exchange, state);
    if (exchange.attempts === 0 && admitted === this.#verdict.allowed) this.#counter?.inc();
    if (!state?.protocol) exchange.refuse("invalid-policy");
    else if (!admitted) exchange.refuse("unauthorized");
    else if (maxInFlight()) exchange.refuse("load-shed");
    else this.#app.serve(exchange, this);
  }

  /** A client whom the server does not admit may still be let through by a route: the kubelet to its probes. */
  #admitsRequest(exchange: ServerConnection, state: PolicyState | undefined): boolean {
    return state?.authorization.checkRequest(this.#options.client, exchange.requestLine).allowed ?? false;
  }

  #decide(state: PolicyState | undefined): void {
    const { port, ip, client, clientLabels, families } = this.#options;
    this.#state = state;
    this.#verdict = state?.authorization.check(client) ?? { allowed: false, labels: {} };
    this.series = port.httpSeries(ip, clientLabels, this.#verdict);
    this.#counter = families.authz("http", this.#verdict.allowed, {
      direction: "inbound",
      ...targetLabels(ip, port.port),
      ...clientLabels,
      ...state?.serverLabels,
      ...prefixed("authz", this.#verdict.labels),
    });
  }

  measured(rtt: number, now: number): void {
    this.#app.measured(rtt, now);
  }

  release(client: ClientConnection, fit: boolean, now: number): void {
    this.#app.release(client, fit, now);
  }

  abandon(): void {}

  failed(exchange: ServerConnection, key: PassportKey, detail: string | undefined): void {
    const { port, families, errors, client } = this.#options;
    families.httpError(key, { target_port: port.port });
    // Refused requests count as responses, so that success rates and route tables show them.
    if (exchange.attempts === 0) this.series.requests.inc();
    this.series.ended(PASSPORTS[key].status, true, 0);
    errors.write(key, {
      direction: "inbound",
      client: client.ip,
      client_id: client.identity,
      target_port: port.port,
      detail,
    });
  }
}

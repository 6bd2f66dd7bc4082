// Requests of one inbound connection: admitted or refused one by one, then on to the application.
import type { CounterSeries, Labels } from "../../metrics/registry.ts";
import type { Client, Verdict } from "../../rules/authorization.ts";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import type { Endpoint } from "../balance/endpoint.ts";
import type {
  Exchange,
  ExchangeContext,
  ExchangeWatch,
  Outcome,
  Route,
  Service,
  Upstream,
} from "../http/exchange.ts";
import type { Field } from "../http/message.ts";
import type { ErrorLog } from "../telemetry/error-log.ts";
import { prefixed, targetLabels } from "../telemetry/labels.ts";
import type { Families, HttpSeries } from "../telemetry/series.ts";
import type { PolicyState, PortPolicy } from "./port-policy.ts";

export interface InboundHttpOptions {
  readonly port: PortPolicy;
  /** The address that the client called. */
  readonly ip: string;
  readonly client: Client;
  readonly clientPort: number;
  readonly clientLabels: Labels;
  readonly families: Families;
  readonly errors: ErrorLog;
  readonly maxInFlight: () => boolean;
  readonly isDraining: () => boolean;
  readonly watch: () => ExchangeWatch | undefined;
}

/** Requests that one decision admitted. */
class InboundRoute implements Route {
  readonly series: HttpSeries;
  readonly #app: Endpoint;

  constructor(app: Endpoint, series: HttpSeries) {
    this.#app = app;
    this.series = series;
  }

  began(): void {
    this.series.requests.inc();
  }

  measured(rtt: number, now: number): void {
    this.#app.measured(rtt, now);
  }

  release(_upstream: Upstream, outcome: Outcome | undefined): void {
    this.#app.done();
    if (outcome) this.series.ended(outcome.status, outcome.complete, outcome.latency);
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
    else this.#app.serve(exchange, this.#route);
  }

  /** A client whom the server does not admit may still be let through by a route: the kubelet to its probes. */
  #admitsRequest({ request }: Exchange, state: PolicyState | undefined): boolean {
    const query = request.path.indexOf("?");
    const path = query < 0 ? request.path : request.path.slice(0, query);
    return (
      state?.authorization.checkRequest(this.#options.client, { method: request.method, path }).allowed ??
      false
    );
  }

  #decide(state: PolicyState | undefined): void {
    const { port, ip, client, clientLabels, families } = this.#options;
    this.#state = state;
    this.#verdict = state?.authorization.check(client) ?? { allowed: false, labels: {} };
    this.#route = new InboundRoute(this.#app, port.httpSeries(ip, clientLabels, this.#verdict));
    this.#counter = families.authz("http", this.#verdict.allowed, {
      direction: "inbound",
      ...targetLabels(ip, port.port),
      ...clientLabels,
      ...state?.serverLabels,
      ...prefixed("authz", this.#verdict.labels),
    });
  }

  abandon(): void {}

  failed(exchange: Exchange | undefined, key: PassportKey, detail: string | undefined): void {
    const { port, families, errors, client } = this.#options;
    families.httpError(key, { target_port: port.port });
    // Refused requests count as responses, so that success rates and route tables show them.
    const { series } = this.#route;
    if (!exchange || exchange.attempts === 0) series.requests.inc();
    series.ended(PASSPORTS[key].status, true, 0);
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

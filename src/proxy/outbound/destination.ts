// One original destination: what discovery says of it, how it is read, and the balancers that serve it. Made at the
// first connection to the address, kept while any uses it, forgotten some time after.
import { addressKey, addressOf, addressText } from "../../api/address.ts";
import type { CounterSeries, Family, Labels } from "../../metrics/registry.ts";
import { chooseBackend } from "../../rules/distribution.ts";
import type { OutboundRoutes, RouteRule, Target } from "../../rules/outbound-routes.ts";
import { type ByteRoute, type OutboundProtocol, outboundProtocol } from "../../rules/protocol.ts";
import { type BudgetOptions, DEFAULT_BUDGET, RetryBudget } from "../../rules/retry.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import type { Balancer } from "../balance/balancer.ts";
import type { DestinationProfile, Discovery, OutboundPolicy, Watch, WeightedAddr } from "../ports.ts";
import { serverTlsLabels, targetLabels } from "../telemetry/labels.ts";
import { OnlyRouteAccount, parentLabels, RouteSeries } from "../telemetry/route-series.ts";
import { TcpSeries } from "../telemetry/series.ts";
import { type BalancerContext, backendPolicy, createBalancer, fixedEndpoint } from "./endpoints.ts";

export interface DestinationOptions {
  readonly ip: string;
  readonly port: number;
  /** What is looked up when it is not the address: a name that a request gave. */
  readonly host?: string;
  readonly discovery: Discovery;
  readonly clock: Clock;
  readonly balancers: BalancerContext;
  /** Of connections by how their protocol is told. */
  readonly protocols: Family<CounterSeries>;
  readonly profileTimeout: number;
  readonly policyTimeout: number;
  readonly detectTimeout: number;
  readonly idleTimeout: number;
  readonly onIdle: () => void;
}

/** Ways to read a destination, in Linkerd's words. */
const MODES: Readonly<Record<OutboundProtocol["mode"], string>> = {
  detect: "detect",
  http1: "http/1",
  http2: "http/2",
  opaque: "opaq",
  tls: "tls",
};

export class Destination {
  readonly ip: string;
  readonly port: number;
  /** undefined until both look-ups answered or their time ran out. */
  protocol: OutboundProtocol | undefined;
  readonly #options: DestinationOptions;
  readonly #profile: Watch<DestinationProfile | null>;
  readonly #policy: Watch<OutboundPolicy | null>;
  /** By what they serve; normally one. */
  readonly #balancers = new Map<string, Balancer>();
  /** The same by the target object, which is asked for at each request. */
  #byTarget = new Map<Target, Balancer>();
  readonly #waiting: (() => void)[] = [];
  readonly #timers: Timer[] = [];
  readonly #series = new WeakMap<RouteRule, RouteSeries>();
  readonly #accounts = new WeakMap<RouteRule, OnlyRouteAccount>();
  #accrual: FailureAccrual | undefined;
  /** Made when first asked for, anew with each version of what is known. */
  #parentLabels: Labels | undefined;
  #clientTcp: TcpSeries | undefined;
  #connections: CounterSeries | undefined;
  #budgetOptions: BudgetOptions = DEFAULT_BUDGET;
  #budget = new RetryBudget();
  #profileLate = false;
  #policyLate = false;
  #users = 0;
  #idle: Timer | undefined;

  constructor(options: DestinationOptions) {
    const { ip, port, discovery, clock, host = ip } = options;
    this.ip = ip;
    this.port = port;
    this.#options = options;
    this.#profile = discovery.profile(host, port);
    this.#policy = discovery.outboundPolicy(host, port);
    this.#profile.subscribe(() => this.#update());
    this.#policy.subscribe(() => this.#update());
    this.#update();
    if (this.protocol) return;
    this.#timers.push(
      clock.after(options.profileTimeout, () => {
        this.#profileLate = true;
        this.#update();
      }),
      clock.after(options.policyTimeout, () => {
        this.#policyLate = true;
        this.#update();
      }),
    );
  }

  /** Calls `next` once the destination is known well enough, at once if it is. */
  whenKnown(next: () => void): void {
    if (this.protocol) next();
    else this.#waiting.push(next);
  }

  #update(): void {
    const profile = this.#profile.current;
    const policy = this.#policy.current;
    if ((profile === undefined && !this.#profileLate) || (policy === undefined && !this.#policyLate)) return;
    this.protocol = outboundProtocol(profile ?? null, policy ?? null, this.port, this.#options.detectTimeout);
    this.#accrual = accrualOf(policy ?? null);
    this.#byTarget = new Map();
    this.#parentLabels = undefined;
    this.#clientTcp = undefined;
    this.#connections = undefined;
    this.#dropUnused(this.protocol);
    this.#renewBudget(this.protocol);
    for (const timer of this.#timers.splice(0)) this.#options.clock.clear(timer);
    for (const next of this.#waiting.splice(0)) next();
  }

  /** Whether discovery knows a service here; what it does not know has no endpoint but its address. */
  get discovered(): boolean {
    return this.protocol?.authority !== undefined || this.protocol?.parent !== undefined;
  }

  /** The routes of requests that came in this version; undefined: the policy cannot be applied. */
  routes(version: 1 | 2): OutboundRoutes | undefined {
    return version === 1 ? this.protocol!.http1 : this.protocol!.http2;
  }

  /** The budget of all retries to here. */
  get budget(): RetryBudget {
    return this.#budget;
  }

  /** The name of the service, or the address. */
  get name(): string {
    return this.protocol?.authority ?? addressKey(this.#options.host ?? this.ip, this.port);
  }

  /** What its routes belong to. */
  get parentLabels(): Labels {
    this.#parentLabels ??= parentLabels(
      this.protocol?.parent,
      this.protocol?.authority ?? this.ip,
      this.port,
    );
    return this.#parentLabels;
  }

  /** The counters of clients' connections to here. */
  get clientTcp(): TcpSeries {
    this.#clientTcp ??= new TcpSeries(this.#options.balancers.families, {
      direction: "outbound",
      peer: "src",
      authority: this.protocol?.authority,
      ...targetLabels(this.ip, this.port),
      ...serverTlsLabels(false, undefined, "loopback"),
    });
    return this.#clientTcp;
  }

  /** Counts connections by how their protocol is told. */
  get connections(): CounterSeries {
    this.#connections ??= this.#options.protocols.labels({
      protocol: MODES[this.protocol!.mode],
      ...this.parentLabels,
    });
    return this.#connections;
  }

  /** Spreads what goes to `target`, one of the protocol's. */
  balancer(target: Target): Balancer {
    let balancer = this.#byTarget.get(target);
    if (!balancer) {
      const key = this.#targetKey(target);
      balancer = this.#balancers.get(key);
      if (!balancer) {
        balancer = this.#create(target);
        this.#balancers.set(key, balancer);
      }
      this.#byTarget.set(target, balancer);
    }
    return balancer;
  }

  /** The counters of a rule's requests. */
  seriesOf(rule: RouteRule): RouteSeries {
    let series = this.#series.get(rule);
    if (!series) {
      series = new RouteSeries(this.#options.balancers.routes, this.parentLabels, this.name, rule);
      this.#series.set(rule, series);
    }
    return series;
  }

  /** The account of requests that all go one way; undefined when they do not. */
  accountOf({ only, onlyRule }: OutboundRoutes): OnlyRouteAccount | undefined {
    if (!only || !onlyRule) return undefined;
    let account = this.#accounts.get(onlyRule);
    if (!account) {
      account = new OnlyRouteAccount(this.seriesOf(onlyRule), only);
      this.#accounts.set(onlyRule, account);
    }
    return account;
  }

  #renewBudget({ http1 }: OutboundProtocol): void {
    const options = http1?.budget ?? DEFAULT_BUDGET;
    const { ratio, perSecond, ttl } = this.#budgetOptions;
    if (options.ratio === ratio && options.perSecond === perSecond && options.ttl === ttl) return;
    this.#budgetOptions = options;
    this.#budget = new RetryBudget(options);
  }

  /** Where a connection of bytes goes: drawn anew for each. */
  draw({ distribution }: ByteRoute = this.protocol!.opaque): Target {
    const { random } = this.#options.clock;
    const backend = chooseBackend(distribution, ({ target }) => this.available(target), random);
    return (
      backend?.target ?? { kind: "nowhere", refusal: "no-route", why: "no backend of its route has a weight" }
    );
  }

  /** Whether what is sent to a target may be answered now; what leads nowhere is answered at once. */
  available(target: Target): boolean {
    return target.kind === "nowhere" || this.balancer(target).available;
  }

  #create(target: Target): Balancer {
    const { discovery, balancers } = this.#options;
    const { authority } = this.protocol!;
    if (target.kind === "balance") {
      const policy = backendPolicy(target.backend, this.#accrual);
      return createBalancer(discovery.endpoints(target.path), target.path, balancers, policy);
    }
    const address = target.kind === "endpoint" ? target.endpoint : bareAddress(this.ip, this.port);
    const { ip, port } = addressText(address.addr) ?? { ip: this.ip, port: this.port };
    const known = address.addr ? address : { ...address, addr: addressOf(ip, port) };
    return createBalancer(fixedEndpoint(addressKey(ip, port), known), authority, balancers);
  }

  /** Balancers of backends that are no longer the destination's; what is in flight there ends in peace. */
  #dropUnused(protocol: OutboundProtocol): void {
    const targets = [...protocol.opaque.distribution.backends, ...(protocol.tls?.backends ?? [])].map(
      ({ target }) => target,
    );
    for (const routes of [protocol.http1, protocol.http2])
      for (const { target } of routes?.backends ?? []) targets.push(target);
    const wanted = new Set(targets.map((target) => this.#targetKey(target)));
    for (const [key, balancer] of this.#balancers) {
      if (wanted.has(key)) continue;
      this.#balancers.delete(key);
      balancer.close();
    }
  }

  /** Tells two targets apart that need balancers of their own. */
  #targetKey(target: Target): string {
    if (target.kind === "original" || target.kind === "nowhere") return target.kind;
    const mirror = target.mirror ? "mirror " : "";
    if (target.kind === "balance") {
      const { queue, balancer } = target.backend ?? {};
      return `${mirror}path ${target.path} ${JSON.stringify([queue, balancer, this.#accrual])}`;
    }
    const { addr, tlsIdentity, protocolHint } = target.endpoint;
    const { ip, port } = addressText(addr) ?? { ip: "", port: 0 };
    return `${mirror}endpoint ${JSON.stringify([ip, port, tlsIdentity, protocolHint])}`;
  }

  use(): void {
    this.#users += 1;
    this.#options.clock.clear(this.#idle);
    this.#idle = undefined;
  }

  unuse(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#forgetLater();
  }

  #forgetLater(): void {
    const { clock, idleTimeout, onIdle } = this.#options;
    this.#idle = clock.after(idleTimeout, () => {
      // What is known is worth keeping while there is nobody to ask again.
      if (this.#profile.stale || this.#policy.stale) this.#forgetLater();
      else {
        this.close();
        onIdle();
      }
    });
  }

  close(): void {
    const { clock } = this.#options;
    clock.clear(this.#idle);
    for (const timer of this.#timers.splice(0)) clock.clear(timer);
    this.#profile.close();
    this.#policy.close();
    for (const balancer of this.#balancers.values()) balancer.close();
    this.#balancers.clear();
  }
}

type FailureAccrual = NonNullable<Parameters<typeof backendPolicy>[1]>;

/** The policy's circuit breaker: of the protocol that it names, or of HTTP/1 where that is detected. */
function accrualOf(policy: OutboundPolicy | null): FailureAccrual | undefined {
  const { http1, http2, grpc, detect } = policy?.protocol ?? {};
  return (http1 ?? http2 ?? grpc ?? detect?.http1 ?? detect?.http2)?.failureAccrual;
}

function bareAddress(ip: string, port: number): WeightedAddr {
  return { addr: addressOf(ip, port), weight: 1, metricLabels: {} };
}

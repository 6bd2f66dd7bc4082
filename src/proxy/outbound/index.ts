// The outbound side: connections of this pod's application to anywhere.
//
//   accept on 4140 → original destination → discovery → first bytes ┬ HTTP/1 → requests, each balanced
//                                                                   └ else   → bytes, balanced once
import type { Socket } from "node:net";
import { addressKey } from "../../api/address.ts";
import type { Logger } from "../../log/logger.ts";
import type { CounterSeries, Family, Registry } from "../../metrics/registry.ts";
import type { Target } from "../../rules/outbound-routes.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { TlsRoutes } from "../../rules/protocol.ts";
import type { Clock } from "../../util/clock.ts";
import { parseIp } from "../../util/ip.ts";
import type { Endpoint, Shared } from "../balance/endpoint.ts";
import { type ClientHello, HELLO_LIMIT, readClientHello } from "../detect/client-hello.ts";
import { type Reading, readFirstBytes } from "../detect/first-bytes.ts";
import { DETECT_LIMIT, type Detected, detectHttp } from "../detect/http.ts";
import type { Service } from "../http/exchange.ts";
import { ServerConnection } from "../http1/server-connection.ts";
import { Http2ServerConnection } from "../http2/server-connection.ts";
import type {
  DataPath,
  Discovery,
  IdentitySource,
  OriginalDestination,
  OutboundConfig,
  SetUserTimeout,
} from "../ports.ts";
import { BalancerFamilies } from "../telemetry/balancer-series.ts";
import { ConnectionFamilies } from "../telemetry/connection-series.ts";
import { DetectFamilies } from "../telemetry/detect-series.ts";
import { ErrorLog } from "../telemetry/error-log.ts";
import { RouteFamilies } from "../telemetry/route-series.ts";
import { Families } from "../telemetry/series.ts";
import type { Watches } from "../telemetry/watches.ts";
import { Acceptor, localOf, peerOf, userTimeoutOf } from "../transport/acceptor.ts";
import { dial } from "../transport/dial.ts";
import { TcpForward } from "../transport/forward.ts";
import { Hedge } from "../transport/hedge.ts";
import { HALF_CLOSED } from "../transport/linger.ts";
import { Destination } from "./destination.ts";
import type { BalancerContext } from "./endpoints.ts";
import { OutboundHttp } from "./http.ts";
import { IngressHttp } from "./ingress-http.ts";
import { OpaqueAttempt } from "./opaque-attempt.ts";
import { RouteLimits } from "./route-limits.ts";

export interface OutboundOptions {
  readonly config: OutboundConfig;
  readonly discovery: Discovery;
  readonly identity: IdentitySource;
  readonly originalDestination: OriginalDestination;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** Absent: timeouts of unacknowledged bytes are the kernel's. */
  readonly setUserTimeout?: SetUserTimeout;
  /** What watches the requests of this side. */
  readonly watches?: Watches;
  /** Absent: what is buffered has no bound but that of each connection. */
  readonly buffers?: { readonly exhausted: boolean };
}

export interface OutboundPath extends DataPath {
  /** Where it listens; for ports given as 0. */
  readonly addresses: readonly { readonly address: string; readonly port: number }[];
}

export function createOutbound(options: OutboundOptions): OutboundPath {
  return new Outbound(options);
}

const NOTHING = Buffer.alloc(0);

class Outbound implements OutboundPath {
  readonly #options: OutboundOptions;
  readonly #acceptor: Acceptor;
  readonly #families: Families;
  readonly #detection: DetectFamilies;
  readonly #protocols: Family<CounterSeries>;
  readonly #errors: ErrorLog;
  readonly #shared: Shared;
  readonly #connections: ConnectionFamilies;
  readonly #balancers: BalancerContext;
  readonly #limits: RouteLimits;
  readonly #destinations = new Map<string, Destination>();

  constructor(options: OutboundOptions) {
    const { config, clock, identity, registry, log, buffers } = options;
    this.#options = options;
    this.#families = new Families(registry, "outbound", clock);
    this.#detection = new DetectFamilies(registry, "outbound");
    this.#protocols = registry.counter(
      "outbound_tcp_protocol_connections_total",
      "Outbound TCP connections by protocol configuration.",
    );
    this.#errors = new ErrorLog(log, clock);
    this.#limits = new RouteLimits(config.maxInFlight);
    this.#shared = {
      clock,
      dial: {
        clock,
        identity,
        connectTimeout: config.connectTimeout,
        keepAlive: config.keepAlive,
        userTimeout: userTimeoutOf(options.setUserTimeout, config.userTimeout),
      },
      pool: { clock, idleTimeout: config.poolIdleTimeout, maxIdle: config.poolMaxIdle },
      backoff: config.connectBackoff,
      maxWaiting: config.queueCapacity,
      inFlight: 0,
    };
    this.#connections = new ConnectionFamilies(registry);
    this.#balancers = {
      connections: this.#connections,
      families: this.#families,
      routes: new RouteFamilies(registry),
      balancers: new BalancerFamilies(registry),
      shared: this.#shared,
      queues: {
        request: { capacity: config.queueCapacity, failfastTimeout: config.failfastTimeout },
        connection: config.connectionQueue,
      },
      isLocal: (ip) => config.localIps.includes(ip),
    };
    this.#acceptor = new Acceptor({
      listen: config.listen,
      clock,
      backlog: config.backlog,
      keepAlive: config.acceptKeepAlive,
      idleTimeout: config.idleTimeout,
      userTimeout: userTimeoutOf(options.setUserTimeout, config.acceptUserTimeout),
      drainGrace: config.drainGrace,
      ready: identity.ready,
      maxConnections: config.maxConnections,
      overloaded: () => buffers?.exhausted ?? false,
      onConnection: (socket) => this.#accept(socket),
      refuse: (socket, key, detail) => this.#refuse(socket, key, detail),
    });
    this.#families.accepted(() => this.#acceptor.connections(), config.maxConnections);
  }

  get addresses() {
    return this.#acceptor.addresses;
  }

  listen(): Promise<void> {
    return this.#acceptor.listen();
  }

  async drain(deadlineMs: number): Promise<void> {
    await this.#acceptor.drain(deadlineMs);
    this.close();
  }

  close(): void {
    this.#acceptor.close();
    for (const destination of this.#destinations.values()) destination.close();
    this.#destinations.clear();
  }

  connections(): number {
    return this.#acceptor.connections();
  }

  #accept(socket: Socket): void {
    const original = this.#options.originalDestination.of(socket);
    // Not redirected, or meant for this very port: dialling on would come back here.
    if (!original || this.#isLoop(socket, original)) {
      this.#refuse(socket, "loop", original ? addressKey(original.ip, original.port) : "not redirected");
      return;
    }
    const destination = this.#destination(original.ip, original.port);
    destination.use();
    socket.once("close", () => destination.unuse());
    destination.whenKnown(() => {
      if (!socket.destroyed) this.#detect(socket, destination);
    });
  }

  #isLoop(socket: Socket, { ip, port }: { ip: string; port: number }): boolean {
    if (port === socket.localPort && ip === localOf(socket)) return true;
    const { config } = this.#options;
    if (port === config.inboundPort && config.localIps.includes(ip)) return true;
    const { family, bits } = parseIp(ip);
    return config.refuseLoopback && (family === 4 ? bits >> 24n === 127n || bits === 0n : bits <= 1n);
  }

  /** @param host what is looked up, when it is not the address */
  #destination(ip: string, port: number, host = ip): Destination {
    const key = addressKey(host, port);
    let destination = this.#destinations.get(key);
    if (!destination) {
      const { config, discovery, clock } = this.#options;
      destination = new Destination({
        ip,
        port,
        host,
        discovery,
        clock,
        balancers: this.#balancers,
        protocols: this.#protocols,
        profileTimeout: config.profileTimeout,
        policyTimeout: config.policyTimeout,
        detectTimeout: config.detectTimeout,
        idleTimeout: config.discoveryIdleTimeout,
        onIdle: () => this.#destinations.delete(key),
      });
      this.#destinations.set(key, destination);
    }
    return destination;
  }

  #detect(socket: Socket, destination: Destination): void {
    const { mode, timeout, tls } = destination.protocol!;
    destination.connections.inc();
    if (mode === "tls" && tls) {
      this.#detectTls(socket, destination, tls);
      return;
    }
    if (mode === "opaque" || mode === "tls") {
      this.#forward(socket, destination, NOTHING, false);
      return;
    }
    const began = this.#options.clock.monotonic();
    let reading: Reading | undefined;
    // What the server might say first is heard from the backend that the connection would have.
    const target = destination.draw();
    const hedge =
      mode === "detect" && target.kind !== "nowhere"
        ? this.#hedge(socket, destination, target, () => reading?.stop() ?? NOTHING)
        : undefined;
    reading = readFirstBytes<Detected>(
      socket,
      {
        clock: this.#options.clock,
        timeout,
        limit: DETECT_LIMIT,
        decide: detectHttp,
        // As long as there is a server that might speak, silence is no reason to decide.
        patient: () => hedge?.connected !== undefined,
      },
      (verdict, bytes, why) => {
        const ended = why === "ended";
        const ms = this.#options.clock.monotonic() - began;
        this.#detection.observe(verdict, why, ms, destination.parentLabels);
        // What looks like HTTP is taken for it; and a destination of HTTP takes nothing else, as inbound.
        const http1 = verdict === "http1" || (mode === "http1" && verdict !== "http2");
        const http2 = verdict === "http2" || (mode === "http2" && verdict !== "http1");
        if (http1 || http2 || (ended && bytes.length === 0)) hedge?.drop();
        if (ended && bytes.length === 0) socket.end();
        else if (http1) this.#http1(socket, destination, bytes);
        else if (http2) this.#http2(socket, destination, bytes);
        else if (hedge?.connected) this.#forward(socket, destination, bytes, ended, hedge, target);
        else this.#forward(socket, destination, bytes, ended, hedge);
      },
    );
  }

  /** TLS of the application's own goes by the server name that it asks for, unread. */
  #detectTls(socket: Socket, destination: Destination, routes: TlsRoutes): void {
    const { clock } = this.#options;
    const { timeout } = destination.protocol!;
    const decide = (bytes: Buffer) => {
      const hello = readClientHello(bytes);
      return hello.kind === "more" ? undefined : hello;
    };
    readFirstBytes<ClientHello>(
      socket,
      { clock, timeout, limit: HELLO_LIMIT, decide },
      (hello, bytes, why) => {
        const sni = hello?.kind === "hello" ? hello.sni : undefined;
        const route = hello?.kind === "hello" ? routes.find(sni) : undefined;
        if (route)
          this.#forward(
            socket,
            destination,
            bytes,
            why === "ended",
            undefined,
            destination.draw(route),
            this.#connections.opened("tls", destination.parentLabels, route.ref),
          );
        else
          this.#refuse(
            socket,
            "no-route",
            hello?.kind === "hello" ? `TLS to ${sni ?? "no name"}` : "not TLS",
          );
      },
    );
  }

  /** A connection for the case that the server speaks first. @param stop ends the wait for the client */
  #hedge(socket: Socket, destination: Destination, target: Target, stop: () => Buffer): Hedge<Endpoint> {
    const hedge = new Hedge<Endpoint>({
      clock: this.#options.clock,
      place: () => destination.balancer(target).pick("connection"),
      dial: ({ opaque, target }, handler) => dial(opaque?.target ?? target, this.#shared.dial, handler),
      preface: ({ opaque }) => opaque?.preface,
      onServer: () => this.#forward(socket, destination, stop(), false, hedge, target),
      onFailed: (endpoint, error) => endpoint.noteFailure(error),
    });
    socket.once("close", () => hedge.drop());
    return hedge;
  }

  #http1(socket: Socket, destination: Destination, bytes: Buffer): void {
    const connection = new ServerConnection(socket, this.#service(socket, destination), {
      clock: this.#options.clock,
      tcp: destination.clientTcp,
      onClose: () => {},
    });
    this.#acceptor.carries(socket, connection);
    connection.start(bytes);
  }

  #http2(socket: Socket, destination: Destination, bytes: Buffer): void {
    const { clock, config } = this.#options;
    const connection = new Http2ServerConnection(socket, this.#service(socket, destination), {
      clock,
      tcp: destination.clientTcp,
      ...config.http2,
      onClose: () => {},
    });
    this.#acceptor.carries(socket, connection);
    connection.start(bytes);
  }

  #service(socket: Socket, destination: Destination): Service {
    const own = this.#serviceOf(socket, destination);
    const { ingress } = this.#options.config;
    if (!ingress) return own;
    const service = new IngressHttp({
      own,
      suffixes: ingress.suffixes,
      find: (name, port) => this.#destination(destination.ip, port, name),
      serve: (named) => this.#serviceOf(socket, named),
    });
    socket.once("close", () => service.close());
    return service;
  }

  #serviceOf(socket: Socket, destination: Destination): OutboundHttp {
    const { config, buffers } = this.#options;
    return new OutboundHttp({
      destination,
      client: { ip: peerOf(socket), port: socket.remotePort ?? 0 },
      clock: this.#options.clock,
      families: this.#families,
      errors: this.#errors,
      limits: this.#limits,
      overloaded: () => this.#shared.inFlight >= config.maxInFlight || buffers?.exhausted === true,
      isDraining: () => this.#acceptor.draining,
      watch: () => this.#options.watches?.current,
    });
  }

  /** @param hedge a connection that was made before; used if it is there */
  #forward(
    socket: Socket,
    destination: Destination,
    bytes: Buffer,
    ended: boolean,
    hedge?: Hedge<Endpoint>,
    target: Target = destination.draw(),
    series = this.#connections.opened("tcp", destination.parentLabels, destination.protocol!.opaque.ref),
  ): void {
    if (target.kind === "nowhere") {
      series.closed(target.refusal);
      this.#refuse(socket, target.refusal, target.why);
      return;
    }
    const balancer = () => destination.balancer(target);
    let refused: PassportKey | undefined;
    const refuse = (key: PassportKey, detail: string) => {
      refused = key;
      this.#refuse(socket, key, detail);
    };
    const attempt = new OpaqueAttempt(this.#shared, destination, balancer, refuse);
    const forward = new TcpForward(socket, bytes, ended, {
      clock: this.#options.clock,
      tcp: destination.clientTcp,
      onSilent: () => refuse("idle-timeout", HALF_CLOSED),
      onConnectFailed: (_forward, error) => attempt.failed(error),
      onUnserved: (_forward, error) => attempt.unserved(error),
      onServed: () => attempt.served(),
      onClose: ({ broken }) => {
        series.closed(refused ?? (broken ? "broken" : undefined));
        attempt.closed();
      },
    });
    this.#acceptor.carries(socket, forward);
    const endpoint = hedge?.connected;
    if (hedge && endpoint) attempt.adopt(forward, endpoint, hedge);
    else {
      hedge?.drop();
      attempt.begin(forward);
    }
  }

  /** Ends a connection that cannot be answered in a protocol of its own: by a reset, which nobody takes for an end. */
  #refuse(socket: Socket, key: PassportKey, detail: string): void {
    this.#families.tcpError(key);
    this.#errors.write(key, { direction: "outbound", detail });
    socket.resetAndDestroy();
  }
}

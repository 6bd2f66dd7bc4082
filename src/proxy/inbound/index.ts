// The inbound side: connections from other pods to this pod's application.
//
//   accept on 4143 → original port → policy → first bytes ┬ mesh TLS → terminate → first bytes ─┐
//                                                         ├ HTTP/1 → requests, each authorized ←┤
//                                                         └ else   → bytes, authorized once    ←┘
// A connection to 4143 itself ("direct") comes from a peer's proxy and names its port in a transport header.
import type { Socket } from "node:net";
import {
  decodeTransportHeader,
  MAX_TRANSPORT_HEADER,
  type TransportHeader,
} from "../../api/transport-header.ts";
import type { Logger } from "../../log/logger.ts";
import type { CounterSeries, Family, Registry } from "../../metrics/registry.ts";
import type { Client } from "../../rules/authorization.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { Clock } from "../../util/clock.ts";
import type { Endpoint, Shared } from "../balance/endpoint.ts";
import { HELLO_LIMIT, readClientHello } from "../detect/client-hello.ts";
import { type Reading, readFirstBytes, type Why } from "../detect/first-bytes.ts";
import { DETECT_LIMIT, type Detected, detectHttp } from "../detect/http.ts";
import { ServerConnection } from "../http1/server-connection.ts";
import { Http2ServerConnection } from "../http2/server-connection.ts";
import type {
  DataPath,
  Discovery,
  IdentitySource,
  InboundConfig,
  OriginalDestination,
  SetUserTimeout,
} from "../ports.ts";
import { DetectFamilies } from "../telemetry/detect-series.ts";
import { ErrorLog } from "../telemetry/error-log.ts";
import { InboundRouteFamilies } from "../telemetry/inbound-series.ts";
import { type NoTlsReason, serverTlsLabels, type TextLabels } from "../telemetry/labels.ts";
import { Families } from "../telemetry/series.ts";
import type { Watches } from "../telemetry/watches.ts";
import { Acceptor, localOf, peerOf, userTimeoutOf } from "../transport/acceptor.ts";
import { type DialError, dial } from "../transport/dial.ts";
import { TcpForward } from "../transport/forward.ts";
import { Hedge } from "../transport/hedge.ts";
import { HALF_CLOSED } from "../transport/linger.ts";
import { terminateTls } from "../transport/terminate.ts";
import { unservedWord } from "../transport/unserved.ts";
import { InboundHttp } from "./http.ts";
import { type Guarded, PortPolicy } from "./port-policy.ts";

export interface InboundOptions {
  readonly config: InboundConfig;
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

export interface InboundPath extends DataPath {
  /** Where it listens; for ports given as 0. */
  readonly addresses: readonly { readonly address: string; readonly port: number }[];
}

export function createInbound(options: InboundOptions): InboundPath {
  return new Inbound(options);
}

/** What is known of an accepted connection on its way. */
interface Accepted {
  /** As accepted from the kernel; what the acceptor knows it by. */
  readonly raw: Socket;
  /** To read and write: `raw`, or the TLS on it. */
  readonly socket: Socket;
  readonly ip: string;
  readonly port: PortPolicy;
  readonly client: Client;
  readonly labels: TextLabels;
  /** The dialling proxy asked to be told when the application cannot be reached. */
  readonly hearsUnserved?: boolean;
}

type PlainVerdict = Detected | "terminate" | "passthrough";

const NOTHING = Buffer.alloc(0);

class Inbound implements InboundPath {
  readonly #options: InboundOptions;
  readonly #acceptor: Acceptor;
  readonly #families: Families;
  readonly #detection: DetectFamilies;
  readonly #transportHeaders: Family<CounterSeries>;
  readonly #routes: InboundRouteFamilies;
  readonly #errors: ErrorLog;
  readonly #shared: Shared;
  readonly #ports = new Map<number, PortPolicy>();

  constructor(options: InboundOptions) {
    const { config, clock, identity, registry, log, buffers } = options;
    this.#options = options;
    this.#families = new Families(registry, "inbound", clock);
    this.#detection = new DetectFamilies(registry, "inbound");
    this.#transportHeaders = registry.counter(
      "inbound_tcp_transport_header_connections_total",
      "TCP connections with transport headers.",
    );
    this.#routes = new InboundRouteFamilies(registry);
    this.#errors = new ErrorLog(log, clock);
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
      backoff: undefined,
      maxWaiting: config.queueCapacity,
      inFlight: 0,
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
      refuse: (socket, key, detail) => this.#refuse(socket, key, socket.localPort ?? 0, detail),
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
    for (const port of this.#ports.values()) port.close();
    this.#ports.clear();
  }

  connections(): number {
    return this.#acceptor.connections();
  }

  #accept(raw: Socket): void {
    const { originalDestination, config } = this.#options;
    const own = raw.localPort!;
    const original = originalDestination.of(raw) ?? { ip: localOf(raw), port: own };
    if (config.ips.length > 0 && !config.ips.includes(original.ip)) {
      this.#refuse(raw, "loop", original.port);
    } else if (original.port === own) this.#acceptDirect(raw, original.ip);
    else this.#withPort(raw, original.port, (port) => this.#acceptRedirected(raw, original.ip, port));
  }

  /** Looks the port's policy up, keeps it while `raw` lives, and waits for its first version. */
  #withPort(raw: Socket, number: number, next: (port: PortPolicy) => void): void {
    if (raw.destroyed) return;
    let port = this.#ports.get(number);
    if (!port) {
      const { discovery, clock, config } = this.#options;
      port = new PortPolicy(
        number,
        {
          discovery,
          families: this.#families,
          routes: this.#routes,
          shared: this.#shared,
          clock,
          detectTimeout: config.detectTimeout,
          requiresIdentity: config.identityPorts.some(({ from, to }) => number >= from && number <= to),
          idleTimeout: config.discoveryIdleTimeout,
        },
        () => this.#ports.delete(number),
      );
      this.#ports.set(number, port);
    }
    const known = port;
    known.use();
    raw.once("close", () => known.unuse());
    if (known.state) next(known);
    else void known.ready.then(() => (raw.destroyed ? undefined : next(known)));
  }

  #acceptRedirected(raw: Socket, ip: string, port: PortPolicy): void {
    const accepted = this.#plain(raw, ip, port, "no_tls_from_remote");
    const protocol = port.state!.protocol;
    if (protocol?.mode === "opaque") {
      // Marked opaque: not even mesh TLS is looked for; peers' proxies come by the direct way.
      this.#forward(this.#plain(raw, ip, port, "port_skipped"), NOTHING, false);
      return;
    }
    const { clock, identity, config } = this.#options;
    const began = clock.monotonic();
    let reading: Reading | undefined;
    const hedge =
      protocol?.mode === "detect" && port.state!.authorization.check(accepted.client).allowed
        ? this.#hedge(accepted, () => reading?.stop() ?? NOTHING)
        : undefined;
    reading = readFirstBytes<PlainVerdict>(
      raw,
      {
        clock,
        // As long as there is a server that might speak, silence is no reason to decide.
        patient: () => hedge?.connected !== undefined,
        timeout: protocol?.timeout ?? config.detectTimeout,
        limit: Math.max(HELLO_LIMIT, DETECT_LIMIT),
        decide: (bytes) => {
          const hello = readClientHello(bytes);
          if (hello.kind === "hello") return hello.sni === identity.localName ? "terminate" : "passthrough";
          return hello.kind === "more" ? undefined : detectHttp(bytes);
        },
      },
      (verdict, bytes, why) => {
        const ended = why === "ended";
        if (verdict === "terminate") {
          hedge?.drop();
          this.#terminate(raw, bytes, ip, port);
        } else if (verdict === "passthrough") {
          this.#forward({ ...accepted, labels: { tls: "opaque" } }, bytes, ended, hedge);
        } else {
          this.#detected(port, verdict, why, began);
          this.#carry(accepted, verdict, bytes, ended, hedge);
        }
      },
    );
  }

  /** A connection for the case that the application speaks first. @param stop ends the wait for the client */
  #hedge(accepted: Accepted, stop: () => Buffer): Hedge<Endpoint> {
    const hedge = new Hedge<Endpoint>({
      clock: this.#options.clock,
      place: () => accepted.port.app(accepted.ip),
      dial: ({ target }, handler) => dial(target, this.#shared.dial, handler),
      preface: () => undefined,
      onServer: () => this.#forward(accepted, stop(), false, hedge),
      onFailed: () => {},
    });
    accepted.raw.once("close", () => hedge.drop());
    return hedge;
  }

  #plain(raw: Socket, ip: string, port: PortPolicy, reason: NoTlsReason): Accepted {
    const client = { ip: peerOf(raw), tls: false };
    return { raw, socket: raw, ip, port, client, labels: serverTlsLabels(false, undefined, reason) };
  }

  #terminate(raw: Socket, bytes: Buffer, ip: string, port: PortPolicy): void {
    const { clock, identity, config } = this.#options;
    if (!identity.current) {
      this.#refuse(raw, "no-certificate", port.port);
      return;
    }
    const peer = peerOf(raw);
    terminateTls(raw, bytes, identity.current, clock, (error, terminated) => {
      if (!terminated) {
        this.#refuse(raw, "tls-handshake", port.port, error);
        return;
      }
      const { socket, clientId, transportHeader } = terminated;
      if (transportHeader) {
        this.#readHeader(raw, socket, ip, peer, clientId);
        return;
      }
      const client = { ip: peer, tls: true, identity: clientId };
      const labels = serverTlsLabels(true, clientId, "disabled");
      const accepted = { raw, socket, ip, port, client, labels };
      const protocol = port.state!.protocol;
      if (protocol?.mode === "tls") {
        this.#forward(accepted, NOTHING, false);
        return;
      }
      const began = clock.monotonic();
      readFirstBytes<Detected>(
        socket,
        {
          clock,
          timeout: protocol?.timeout ?? config.detectTimeout,
          limit: DETECT_LIMIT,
          decide: detectHttp,
        },
        (verdict, first, why) => {
          this.#detected(port, verdict, why, began);
          this.#carry(accepted, verdict, first, why === "ended");
        },
      );
    });
  }

  #detected(port: PortPolicy, verdict: Detected | undefined, why: Why, began: number): void {
    const ms = this.#options.clock.monotonic() - began;
    this.#detection.observe(verdict, why, ms, port.state!.serverLabels);
  }

  /** A peer's proxy dialled this port itself: mesh TLS, a client certificate and a transport header are due. */
  #acceptDirect(raw: Socket, ip: string): void {
    const { clock, identity, config } = this.#options;
    const own = raw.localPort!;
    readFirstBytes<boolean>(
      raw,
      {
        clock,
        timeout: config.detectTimeout,
        limit: HELLO_LIMIT,
        decide: (bytes) => {
          const hello = readClientHello(bytes);
          return hello.kind === "more"
            ? undefined
            : hello.kind === "hello" && hello.sni === identity.localName;
        },
      },
      (terminate, bytes) => {
        const { current } = identity;
        if (!terminate || !current) {
          this.#refuse(raw, terminate ? "no-certificate" : "direct-unauthenticated", own);
          return;
        }
        const peer = peerOf(raw);
        terminateTls(raw, bytes, current, clock, (error, terminated) => {
          if (!terminated) this.#refuse(raw, "tls-handshake", own, error);
          else if (!terminated.transportHeader)
            this.#refuse(raw, "direct-unauthenticated", own, "no transport header");
          else this.#readHeader(raw, terminated.socket, ip, peer, terminated.clientId);
        });
      },
    );
  }

  #readHeader(raw: Socket, socket: Socket, ip: string, peer: string, clientId: string | undefined): void {
    const { clock, config } = this.#options;
    const own = raw.localPort!;
    if (clientId === undefined) {
      this.#refuse(raw, "direct-unauthenticated", own, "no client certificate");
      return;
    }
    readFirstBytes<{ header: TransportHeader; size: number } | "invalid">(
      socket,
      { clock, timeout: config.detectTimeout, limit: 2 * MAX_TRANSPORT_HEADER, decide: headerOf },
      (verdict, bytes, why) => {
        if (!verdict || verdict === "invalid") {
          this.#refuse(raw, "direct-unauthenticated", own, "no transport header");
          return;
        }
        const { header, size } = verdict;
        // A name asks for a gateway to another cluster, which this proxy is not.
        if (header.name !== "" || header.port <= 0 || header.port > 65_535 || header.port === own) {
          this.#refuse(raw, "no-route", own, `transport header for ${header.name || "port"} ${header.port}`);
          return;
        }
        this.#withPort(raw, header.port, (port) => {
          const { http1, http2 } = header.sessionProtocol ?? {};
          // The port is one that has a policy, and the client one that has proved who it is: neither is without bounds.
          this.#transportHeaders
            .labels({
              session_protocol: http1 ? "http/1" : http2 ? "h2" : undefined,
              target_port: header.port,
              client_id: clientId,
            })
            .inc();
          const client = { ip: peer, tls: true, identity: clientId };
          const accepted = {
            raw,
            socket,
            ip,
            port,
            client,
            labels: serverTlsLabels(true, clientId, "disabled"),
            hearsUnserved: header.hearsUnserved !== undefined,
          };
          const rest = bytes.subarray(size);
          if (http1) this.#carry(accepted, "http1", rest, why === "ended");
          else this.#forward(accepted, rest, why === "ended");
        });
      },
    );
  }

  #carry(
    accepted: Accepted,
    verdict: Detected | undefined,
    bytes: Buffer,
    ended: boolean,
    hedge?: Hedge<Endpoint>,
  ): void {
    const mode = accepted.port.state!.protocol?.mode;
    // What looks like HTTP is answered as HTTP, also by a port whose policy says otherwise; and a port of HTTP takes nothing
    // else, however long a client waits: bytes that nobody reads would pass by its routes and limits.
    const http = mode !== "opaque" && mode !== "tls";
    if (ended && bytes.length === 0) {
      hedge?.drop();
      accepted.socket.end();
    } else if ((verdict === "http2" && http) || (mode === "http2" && verdict !== "http1")) {
      hedge?.drop();
      this.#http2(accepted, bytes);
    } else if ((verdict === "http1" && http) || mode === "http1") {
      hedge?.drop();
      this.#http1(accepted, bytes);
    } else this.#forward(accepted, bytes, ended, hedge);
  }

  #http1(accepted: Accepted, bytes: Buffer): void {
    const { raw, socket } = accepted;
    const connection = new ServerConnection(socket, this.#service(accepted), {
      clock: this.#options.clock,
      tcp: accepted.port.clientSeries(accepted.ip, accepted.labels).tcp,
      onClose: () => {},
    });
    this.#acceptor.carries(raw, connection);
    connection.start(bytes);
  }

  #http2(accepted: Accepted, bytes: Buffer): void {
    const { raw, socket } = accepted;
    const { clock, config } = this.#options;
    const connection = new Http2ServerConnection(socket, this.#service(accepted), {
      clock,
      tcp: accepted.port.clientSeries(accepted.ip, accepted.labels).tcp,
      ...config.http2,
      onClose: () => {},
    });
    this.#acceptor.carries(raw, connection);
    connection.start(bytes);
  }

  #service({ raw, ip, port, client, labels }: Accepted): InboundHttp {
    const { config, buffers } = this.#options;
    return new InboundHttp({
      port,
      ip,
      client,
      clientPort: raw.remotePort ?? 0,
      clientLabels: labels,
      families: this.#families,
      errors: this.#errors,
      clock: this.#options.clock,
      overloaded: () => this.#shared.inFlight >= config.maxInFlight || buffers?.exhausted === true,
      isDraining: () => this.#acceptor.draining,
      watch: () => this.#options.watches?.current,
    });
  }

  /** @param hedge a connection that was made before; used if it is there */
  #forward(accepted: Accepted, bytes: Buffer, ended: boolean, hedge?: Hedge<Endpoint>): void {
    const { raw, socket, ip, port, client } = accepted;
    const state = port.state!;
    const verdict = state.authorization.check(client);
    const admitted = verdict.allowed && state.protocol !== undefined;
    const series = port.clientSeries(ip, accepted.labels);
    series.authorized(verdict, admitted);
    if (!admitted) {
      hedge?.drop();
      this.#refuse(raw, state.protocol ? "unauthorized" : "invalid-policy", port.port, client.ip);
      return;
    }
    const app = port.app(ip);
    const guarded: Guarded = {
      admittedBy: ({ authorization }) => authorization.check(client).allowed,
      destroy: () => forward.destroy(),
    };
    const forward = new TcpForward(socket, bytes, ended, {
      clock: this.#options.clock,
      tcp: series.tcp,
      onSilent: () => this.#refuse(raw, "idle-timeout", port.port, HALF_CLOSED),
      onConnectFailed: (_forward, error) => this.#unreached(accepted, forward, error),
      onClose: () => {
        port.unguard(guarded);
        app.done();
      },
    });
    port.guard(guarded);
    app.taken();
    this.#acceptor.carries(raw, forward);
    if (hedge?.connected) forward.adopt(hedge.adopt(forward), app.tcp);
    else {
      hedge?.drop();
      forward.connect(app.target, this.#shared.dial, app.tcp);
    }
  }

  /** Tells the client's proxy that the application was not reached; whoever cannot be told sees a reset. */
  #unreached({ raw, socket, port, hearsUnserved }: Accepted, forward: TcpForward, error: DialError): void {
    this.#note(raw, error.key, port.port, error.message);
    const word = hearsUnserved ? unservedWord(error.key, socket) : undefined;
    if (word) forward.dismiss(word);
    else raw.resetAndDestroy();
  }

  /** Ends a connection that cannot be answered in a protocol of its own: by a reset, which nobody takes for an end. */
  #refuse(raw: Socket, key: PassportKey, port: number, detail?: string): void {
    this.#note(raw, key, port, detail);
    raw.resetAndDestroy();
  }

  /** Counts and logs a connection that was not served. */
  #note(raw: Socket, key: PassportKey, port: number, detail: string | undefined): void {
    this.#families.tcpError(key, { target_port: port });
    this.#errors.write(key, { direction: "inbound", client: peerOf(raw), target_port: port, detail });
  }
}

function headerOf(bytes: Buffer): { header: TransportHeader; size: number } | "invalid" | undefined {
  try {
    return decodeTransportHeader(bytes);
  } catch {
    return "invalid";
  }
}

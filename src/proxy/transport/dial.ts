// Opens connections to upstreams: plain, or mesh TLS with the peer's identity checked. Reads go into one buffer
// shared by all dialled sockets: whoever is called with bytes uses or copies them before returning.
import * as net from "node:net";
import * as tls from "node:tls";
import type { PassportKey } from "../../rules/passport.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorCode, errorMessage } from "../../util/error.ts";
import type { IdentitySource } from "../ports.ts";
import { READ_BUFFER } from "./reads.ts";
import { withoutCertificate } from "./session.ts";

/** Failures of our own machine, for which no endpoint is to blame. */
const OUT_OF_SOCKETS = new Set(["EMFILE", "ENFILE", "EADDRNOTAVAIL", "ENOBUFS", "ENOMEM"]);
/** A peer that accepted but does not finish the handshake is given this long, ms. */
const HANDSHAKE_TIMEOUT = 5_000;

/** How the peer must prove itself. */
export interface TlsTarget {
  /** SNI; the name under which the peer terminates mesh TLS. */
  readonly serverName: string;
  /** DNS or URI name that the peer's certificate must carry. */
  readonly identity: string;
  readonly alpn: readonly string[] | undefined;
  /** The last session ticket of this peer: resuming saves both sides the asymmetric work. */
  session: Buffer | undefined;
  /** The context that `session` came from: a renewed certificate starts anew. */
  sessionContext: tls.SecureContext | undefined;
  /** When the certificate expires by which the peer proved itself when `session` began, ms since the epoch. */
  sessionExpiry: number;
}

export interface DialTarget {
  readonly ip: string;
  readonly port: number;
  readonly tls: TlsTarget | undefined;
}

export interface DialOptions {
  readonly clock: Clock;
  /** ms, for the TCP connection. */
  readonly connectTimeout: number;
  /** Delay before the first TCP keep-alive probe, ms; 0: none. */
  readonly keepAlive: number;
  readonly userTimeout?: ((socket: net.Socket) => void) | undefined;
  readonly identity: IdentitySource;
}

export interface DialHandler {
  /** The connection can be used (with TLS: the peer has proved its identity). */
  onConnected(): void;
  /** `buf[0, size)` is only valid during the call. */
  onBytes(size: number, buf: Buffer): void;
  /** The peer has sent all it will. */
  onEnd(): void;
  /** What was written has gone out; more may be written. */
  onDrain(): void;
  /** The socket is gone. `error` is undefined after an orderly end. */
  onClosed(error: DialError | undefined): void;
}

/** Why a dialled connection failed. */
export class DialError extends Error {
  readonly key: PassportKey;
  readonly errno: string | undefined;
  constructor(key: PassportKey, message: string, errno?: string) {
    super(message);
    this.name = "DialError";
    this.key = key;
    this.errno = errno;
  }
}

/** Connects to `target`; the handler learns of everything else. Throws nothing. */
export function dial(target: DialTarget, options: DialOptions, handler: DialHandler): net.Socket {
  return new Dialled(target, options, handler).socket;
}

/** The socket's events, in one object a connection and no closure a chunk. */
class Dialled {
  readonly socket: net.Socket;
  readonly #target: DialTarget;
  readonly #options: DialOptions;
  readonly #handler: DialHandler;
  #timer: Timer | undefined;
  /** TCP is there; with TLS the handshake may still fail. */
  #reached = false;
  #connected = false;
  #error: DialError | undefined;

  constructor(target: DialTarget, options: DialOptions, handler: DialHandler) {
    this.#target = target;
    this.#options = options;
    this.#handler = handler;
    const base: net.TcpNetConnectOpts = {
      host: target.ip,
      port: target.port,
      allowHalfOpen: true,
      noDelay: true,
      onread: {
        buffer: READ_BUFFER,
        callback: (size, buf) => {
          handler.onBytes(size, buf as Buffer);
          return true;
        },
      },
    };
    if (options.keepAlive > 0) {
      base.keepAlive = true;
      base.keepAliveInitialDelay = options.keepAlive;
    }
    this.socket = target.tls ? this.#tls(base, target.tls) : net.connect(base);
    const { socket } = this;
    this.#timer = options.clock.after(options.connectTimeout, () => this.#connectTimeout());
    socket.once("connect", () => this.#onConnect());
    socket.on("end", () => handler.onEnd());
    socket.on("drain", () => handler.onDrain());
    socket.on("error", (error) => this.#onError(error));
    socket.once("close", () => this.#onClose());
  }

  #tls(base: net.TcpNetConnectOpts, target: TlsTarget): net.Socket {
    const credentials = this.#options.identity.current;
    if (!credentials) {
      const socket = new net.Socket();
      this.#error = new DialError("no-certificate", "this proxy has no certificate yet");
      socket.destroy();
      return socket;
    }
    if (target.sessionContext !== credentials.clientContext) {
      target.session = undefined;
      target.sessionContext = credentials.clientContext;
    }
    // A resumed handshake shows no certificate, and nothing of the one before is looked at again.
    if (target.sessionExpiry <= this.#options.clock.now()) target.session = undefined;
    const { session } = target;
    // The options are one object for tls.connect; a session given as undefined would be taken as given.
    const socket = tls.connect({
      ...base,
      secureContext: credentials.clientContext,
      servername: target.serverName,
      minVersion: "TLSv1.3",
      rejectUnauthorized: true,
      checkServerIdentity: (_name, certificate) =>
        identityMismatch(target.identity, certificate.subjectaltname),
      ...(target.alpn ? { ALPNProtocols: [...target.alpn] } : {}),
      ...(session ? { session } : {}),
    });
    socket.once("secureConnect", () => {
      if (!socket.isSessionReused() && target.sessionContext === credentials.clientContext)
        target.sessionExpiry = expiryOf(socket);
      this.#ready();
    });
    socket.on("session", (ticket) => {
      // Without its certificate a session counts as verified: none may be kept of a peer that has not proved its identity.
      if (this.#connected && target.sessionContext === credentials.clientContext)
        target.session = withoutCertificate(ticket);
    });
    return socket;
  }

  #onConnect(): void {
    this.#reached = true;
    this.#options.userTimeout?.(this.socket);
    this.#options.clock.clear(this.#timer);
    if (!this.#target.tls) {
      this.#ready();
      return;
    }
    // tls.connect takes neither from its options, and small writes would wait for the peer's delayed ACKs.
    this.socket.setNoDelay(true);
    if (this.#options.keepAlive > 0) this.socket.setKeepAlive(true, this.#options.keepAlive);
    this.#timer = this.#options.clock.after(HANDSHAKE_TIMEOUT, () => this.#timeout("tls-handshake"));
  }

  #ready(): void {
    this.#options.clock.clear(this.#timer);
    this.#connected = true;
    this.#handler.onConnected();
  }

  /** When this process itself stood still, throttled for want of CPU, the connection may be there and not be heard of yet. */
  #connectTimeout(): void {
    setImmediate(() => {
      if (!this.#reached && !this.socket.destroyed) this.#timeout("connect-timeout");
    });
  }

  #timeout(key: PassportKey): void {
    const { ip, port } = this.#target;
    this.#error = new DialError(key, `no connection to ${ip}:${port} within the time limit`, "ETIMEDOUT");
    this.socket.destroy();
  }

  #onError(error: Error): void {
    if (this.#error) return;
    if (error instanceof DialError) this.#error = error;
    else if (this.#connected)
      this.#error = new DialError("upstream-closed", errorMessage(error), errorCode(error));
    else {
      const errno = errorCode(error);
      const key = this.#reached
        ? "tls-handshake"
        : OUT_OF_SOCKETS.has(errno ?? "")
          ? "out-of-sockets"
          : "connect";
      this.#error = new DialError(key, errorMessage(error), errno);
    }
    // A ticket that the peer no longer takes must not fail twice.
    if (this.#target.tls && !this.#connected) this.#target.tls.session = undefined;
  }

  #onClose(): void {
    this.#options.clock.clear(this.#timer);
    if (!this.#connected && !this.#error) {
      this.#error = new DialError(
        this.#target.tls ? "tls-handshake" : "connect",
        "the peer closed the connection",
      );
    }
    this.#handler.onClosed(this.#error);
  }
}

/** The peer must carry the identity that discovery names, whatever the SNI (reference/data-planes.md §1.16). */
function identityMismatch(expected: string, subjectAltName: string | undefined): Error | undefined {
  const names = subjectAltNames(subjectAltName);
  if (names.includes(expected)) return undefined;
  return new DialError("tls-identity", `required id ${expected}; found ${names.join(", ") || "none"}`);
}

/** When the peer's certificate expires, ms since the epoch; 0 without one. */
export function expiryOf(socket: tls.TLSSocket): number {
  const certificate = socket.getPeerX509Certificate();
  return certificate ? Date.parse(certificate.validTo) : 0;
}

/** DNS and URI names of a certificate; names that Node had to quote are no identities. */
export function subjectAltNames(subjectAltName: string | undefined): string[] {
  const names: string[] = [];
  for (const part of (subjectAltName ?? "").split(", ")) {
    const match = /^(?:DNS|URI):([^",\s]+)$/.exec(part);
    if (match) names.push(match[1]!);
  }
  return names;
}

// Listens, and keeps track of what was accepted, so that a side can drain: a grace in which connections still come,
// then no new ones, then an end for those that outlive the deadline.
//
//   accepted ┬ too many, or too much is buffered → closed, and counted
//            ├ no certificate yet → held for a while
//            └ served
import * as net from "node:net";
import type { PassportKey } from "../../rules/passport.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { canonicalIp } from "../../util/ip.ts";
import type { DataPath, SetUserTimeout } from "../ports.ts";
import { endIdle } from "./idle.ts";
import { readLean } from "./reads.ts";

/** What a connection turned into; told when the side ends. */
export interface Carried {
  /** Nothing is in flight or begun. */
  readonly idle: boolean;
  /** Leave as soon as nothing is in flight. */
  closeWhenIdle(): void;
  /** No time is left: tell whoever waits for an answer, and end. */
  expire(): void;
  destroy(): void;
}

/** What is told at the deadline has so long to reach its clients, and so long has what is being made out, ms. */
const LAST_WORDS = 1_000;

export interface AcceptorOptions {
  readonly listen: readonly { readonly ip: string; readonly port: number }[];
  readonly clock: Clock;
  /** Connections that come before this resolves are held, as the kernel's backlog would; they are served then. */
  readonly ready: Promise<void>;
  /** Connections open at a time; further ones are closed as they come. */
  readonly maxConnections: number;
  /** The process buffers more than it may: connections are closed as they come. */
  readonly overloaded?: (() => boolean) | undefined;
  readonly backlog: number;
  readonly keepAlive: number;
  /** See {@link endIdle}, ms; 0: never. */
  readonly idleTimeout: number;
  readonly userTimeout?: ((socket: net.Socket) => void) | undefined;
  readonly drainGrace: number;
  readonly onConnection: (socket: net.Socket) => void;
  /** Closes a connection that is not served, and says why. */
  readonly refuse: (socket: net.Socket, key: PassportKey, detail: string) => void;
}

/** A connection is held for so long, ms, and so many are: a client that waits longer is better told to come again. */
const HOLD_TIMEOUT = 10_000;
const MAX_HELD = 1_024;

export class Acceptor implements DataPath {
  readonly #options: AcceptorOptions;
  readonly #servers: net.Server[] = [];
  readonly #open = new Map<net.Socket, Carried | undefined>();
  /** Those that wait for `ready`; undefined once there is none to wait for. */
  #held: Map<net.Socket, Timer> | undefined = new Map();
  #draining = false;
  /** The grace is over: nothing new is served for longer than what it began. */
  #leaving = false;
  #whenEmpty: (() => void) | undefined;
  #idle: { stop(): void } | undefined;

  constructor(options: AcceptorOptions) {
    this.#options = options;
  }

  /** True from the moment draining was asked for. */
  get draining(): boolean {
    return this.#draining;
  }

  /** The addresses listened on. */
  get addresses(): net.AddressInfo[] {
    return this.#servers.map((server) => server.address() as net.AddressInfo);
  }

  /** Resolves once the ports are bound. */
  async listen(): Promise<void> {
    const { idleTimeout, clock } = this.#options;
    if (idleTimeout > 0) this.#idle = endIdle(this.#open, idleTimeout, clock);
    void this.#options.ready.then(() => this.#serveHeld());
    for (const { ip, port } of this.#options.listen) {
      const { keepAlive } = this.#options;
      const server = net.createServer({
        allowHalfOpen: true,
        noDelay: true,
        pauseOnConnect: true,
        ...(keepAlive > 0 ? { keepAlive: true, keepAliveInitialDelay: keepAlive } : {}),
      });
      server.on("connection", (socket) => this.#accepted(socket));
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host: ip, port, backlog: this.#options.backlog }, () => {
          server.off("error", reject);
          resolve();
        });
      });
      // An accept that fails concerns nobody else. (Without a descriptor left, libuv takes what waits and closes it.)
      server.on("error", ignore);
      this.#servers.push(server);
    }
  }

  #accepted(socket: net.Socket): void {
    socket.on("error", ignore);
    const { maxConnections, overloaded, refuse, onConnection } = this.#options;
    if (this.#open.size >= maxConnections) {
      refuse(socket, "connection-limit", `${maxConnections} connections are open`);
      return;
    }
    if (overloaded?.()) {
      refuse(socket, "load-shed", "the proxy's buffers are full");
      return;
    }
    this.#open.set(socket, undefined);
    socket.once("close", () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) this.#whenEmpty?.();
    });
    readLean(socket);
    this.#options.userTimeout?.(socket);
    if (this.#held) this.#hold(socket, this.#held);
    else onConnection(socket);
  }

  #hold(socket: net.Socket, held: Map<net.Socket, Timer>): void {
    const { clock, refuse } = this.#options;
    if (held.size >= MAX_HELD) {
      refuse(socket, "no-certificate", `${MAX_HELD} connections wait for it`);
      return;
    }
    const timer = clock.after(HOLD_TIMEOUT, () => {
      held.delete(socket);
      refuse(socket, "no-certificate", `waited for it for ${HOLD_TIMEOUT / 1_000} s`);
    });
    held.set(socket, timer);
    socket.once("close", () => {
      clock.clear(timer);
      held.delete(socket);
    });
  }

  #serveHeld(): void {
    const held = this.#held;
    this.#held = undefined;
    for (const [socket, timer] of held ?? []) {
      this.#options.clock.clear(timer);
      if (!socket.destroyed) this.#options.onConnection(socket);
    }
  }

  /** Says what the accepted socket carries now. */
  carries(socket: net.Socket, carried: Carried): void {
    if (!this.#open.has(socket)) return;
    this.#open.set(socket, carried);
    // It reads what came before first.
    if (this.#leaving) queueMicrotask(() => carried.closeWhenIdle());
  }

  async drain(deadlineMs: number): Promise<void> {
    const { clock, drainGrace } = this.#options;
    this.#draining = true;
    let deadline: Timer | undefined;
    await new Promise<void>((resolve) => {
      deadline = clock.after(deadlineMs, resolve);
      clock.after(Math.min(drainGrace, deadlineMs), () => {
        this.#leaving = true;
        for (const server of this.#servers) server.close();
        this.#whenEmpty = resolve;
        for (const carried of [...this.#open.values()]) carried?.closeWhenIdle();
        // What is still being made out has a request on its way, or its client can try elsewhere.
        clock.after(LAST_WORDS, () => {
          for (const [socket, carried] of this.#open) if (!carried) socket.destroy();
        });
        if (this.#open.size === 0) resolve();
      });
    });
    clock.clear(deadline);
    for (const carried of [...this.#open.values()]) carried?.expire();
    if (this.#open.size > 0)
      await new Promise<void>((resolve) => {
        deadline = clock.after(LAST_WORDS, resolve);
        this.#whenEmpty = resolve;
      });
    clock.clear(deadline);
    this.close();
  }

  close(): void {
    this.#idle?.stop();
    for (const server of this.#servers) server.close();
    for (const [socket, carried] of this.#open) {
      if (carried) carried.destroy();
      else socket.destroy();
    }
  }

  connections(): number {
    return this.#open.size;
  }
}

/** Sets the timeout on each socket; undefined when there is none to set. @param ms 0: none */
export function userTimeoutOf(
  set: SetUserTimeout | undefined,
  ms: number,
): ((socket: net.Socket) => void) | undefined {
  return set && ms > 0 ? (socket) => set(socket, ms) : undefined;
}

/** Errors end the socket, and its end is what is watched. */
function ignore(): void {}

/** The address that the peer connected to, in its own family, and written as original destinations are. */
export function localOf(socket: net.Socket): string {
  const address = unmapped(socket.localAddress ?? "127.0.0.1");
  return address.includes(":") ? canonicalIp(address.replace(/%.*/, "")) : address;
}

/** The peer's address in its own family. */
export function peerOf(socket: net.Socket): string {
  return unmapped(socket.remoteAddress ?? "0.0.0.0");
}

/** An IPv4 address that a dual-stack listener shows as an IPv6 one. */
function unmapped(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}

// A simulated network: machines, connections between them that carry bytes in order and late, and links that are cut.
import { Duplex } from "node:stream";
import type { Chance } from "../support/chance.ts";
import type { MachineClock, Scheduler } from "./time.ts";

/** What a stream, and a connection, of a replica may have waiting, bytes: little, so that slow subscribers are cut. */
export const MAX_QUEUED = 16 * 1024;
/** A message was made at most this long before it was sent, unless it had to wait, ms. */
export const MAKING = 200;
/** How long connecting is tried, ms, as the proxy's connector does. */
const CONNECT_TIMEOUT = 3_000;
/** A connection takes so many bytes before they arrive; what is more waits with whoever writes. */
const IN_FLIGHT = 4 * 1024;
/** Whoever waited has written what waited within this, ms. */
const CATCHING_UP = 50;

export interface Machine {
  readonly name: string;
  readonly clock: MachineClock;
  /** Takes a connection; undefined: nobody listens. */
  accept: ((socket: Duplex) => void) | undefined;
  /** Nothing arrives sooner than this, ms. */
  lag: number;
  /** It takes nothing of what is sent to it. */
  deaf: boolean;
}

/** A piece of what one end sends. */
interface Parcel {
  /** Undefined: the end. */
  readonly chunk: Buffer | undefined;
  /** When it was made, or earlier. */
  readonly madeAt: number;
  /** When it arrives, at the earliest. */
  readonly at: number;
}

/** One end of a connection. */
export class SimulatedSocket extends Duplex {
  readonly machine: Machine;
  readonly #network: Network;
  peer!: SimulatedSocket;
  /** What is sent arrives after this, so that nothing overtakes. */
  last = 0;
  inFlight = 0;
  /** What is on its way from here, in the order in which it was sent; the first of it arrives before the second is looked at. */
  readonly underway: Parcel[] = [];
  waiting: (() => void) | undefined;
  /** Since when it has not taken all that was to be sent: what is sent now may have been made then. */
  congestedSince: number | undefined;

  constructor(network: Network, machine: Machine) {
    super();
    this.#network = network;
    this.machine = machine;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, taken: () => void): void {
    // Whoever wrote may use its memory again.
    this.#network.carry(this, Buffer.from(chunk));
    if (this.inFlight < IN_FLIGHT) taken();
    else {
      this.waiting = taken;
      this.congestedSince ??= this.#network.now;
    }
  }

  override _final(done: () => void): void {
    this.#network.carry(this, undefined);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#network.reset(this);
    done(error);
  }
}

export class Network {
  readonly #scheduler: Scheduler;
  readonly #chance: Chance;
  readonly #cuts = new Map<string, number>();
  readonly #sockets = new Set<SimulatedSocket>();
  /** Connections that were cut because too much waited for the other end. */
  overfull = 0;
  /** Told before bytes are handed over: whose they are, and when they were made, or earlier. */
  onDelivery: (to: SimulatedSocket, madeAt: number) => void = () => {};

  constructor(scheduler: Scheduler, chance: Chance) {
    this.#scheduler = scheduler;
    this.#chance = chance;
  }

  get now(): number {
    return this.#scheduler.now;
  }

  /** Ends that are open. */
  get sockets(): ReadonlySet<SimulatedSocket> {
    return this.#sockets;
  }

  /** Cuts the link between two machines; what is on its way waits. Cuts add up. */
  cut(a: string, b: string): void {
    const key = linkOf(a, b);
    this.#cuts.set(key, (this.#cuts.get(key) ?? 0) + 1);
  }

  mend(a: string, b: string): void {
    const key = linkOf(a, b);
    const left = (this.#cuts.get(key) ?? 0) - 1;
    if (left > 0) this.#cuts.set(key, left);
    else this.#cuts.delete(key);
  }

  isCut(a: string, b: string): boolean {
    return this.#cuts.has(linkOf(a, b));
  }

  /** Time on the way between two machines, ms: mostly short. */
  latency(...machines: readonly Machine[]): number {
    const lag = Math.max(0, ...machines.map((machine) => machine.lag));
    const usual = this.#chance.happens(0.03) ? this.#chance.between(20, 400) : this.#chance.between(1, 5);
    return usual + (lag > 0 ? this.#chance.between(0, lag) : 0);
  }

  connect(from: Machine, to: Machine): Promise<SimulatedSocket> {
    return new Promise((resolve, reject) => {
      const began = this.#scheduler.now;
      const attempt = () => {
        if (this.isCut(from.name, to.name)) {
          if (this.#scheduler.now - began >= CONNECT_TIMEOUT)
            reject(new Error(`no connection within ${CONNECT_TIMEOUT} ms`));
          else this.#scheduler.after(500, attempt);
          return;
        }
        if (!to.clock.running || !to.accept) {
          reject(new Error(`connect ECONNREFUSED ${to.name}`));
          return;
        }
        const near = new SimulatedSocket(this, from);
        const far = new SimulatedSocket(this, to);
        near.peer = far;
        far.peer = near;
        this.#sockets.add(near).add(far);
        to.accept(far);
        resolve(near);
      };
      this.#scheduler.after(this.latency(from, to), attempt);
    });
  }

  /** @param chunk undefined: the end */
  carry(from: SimulatedSocket, chunk: Buffer | undefined): void {
    const size = chunk?.length ?? 0;
    const { now } = this.#scheduler;
    const madeAt = from.congestedSince ?? now;
    from.inFlight += size;
    from.last = Math.max(from.last, now + this.latency(from.machine, from.peer.machine));
    from.underway.push({ chunk, madeAt, at: from.last });
    if (from.underway.length === 1) this.#scheduler.at(from.last, () => this.#arrive(from));
  }

  /** The first of what is under way has come, if it is let through. */
  #arrive(from: SimulatedSocket): void {
    const to = from.peer;
    if (to.destroyed || !to.machine.clock.running) return;
    if (to.machine.deaf || this.isCut(from.machine.name, to.machine.name)) {
      this.#scheduler.after(500, () => this.#arrive(from));
      return;
    }
    const { chunk, madeAt } = from.underway[0]!;
    from.inFlight -= chunk?.length ?? 0;
    this.onDelivery(to, madeAt);
    to.push(chunk ?? null);
    this.#taken(from);
    from.underway.shift();
    const [next] = from.underway;
    if (next) this.#scheduler.at(next.at, () => this.#arrive(from));
  }

  /** There is room again for what waits. */
  #taken(from: SimulatedSocket): void {
    const { waiting } = from;
    if (!waiting) return;
    from.waiting = undefined;
    waiting();
    this.#scheduler.after(CATCHING_UP, () => {
      if (!from.waiting) from.congestedSince = undefined;
    });
  }

  /** One end is gone: the other hears of it when it can be reached. */
  reset(socket: SimulatedSocket): void {
    this.#sockets.delete(socket);
    if (socket.writableLength > MAX_QUEUED) this.overfull += 1;
    if (!socket.machine.clock.running) return;
    const tell = () => {
      const { peer } = socket;
      if (peer.destroyed) return;
      if (this.isCut(socket.machine.name, peer.machine.name)) this.#scheduler.after(500, tell);
      else peer.destroy();
    };
    this.#scheduler.at(Math.max(socket.last, this.#scheduler.now + 1) + 1, tell);
  }

  /** A machine is gone. @param silently no word of it reaches those that it spoke with */
  lose(machine: Machine, silently: boolean): void {
    machine.clock.running = false;
    for (const socket of [...this.#sockets]) {
      if (socket.machine !== machine) continue;
      this.#sockets.delete(socket);
      const { peer } = socket;
      if (!silently) this.#scheduler.after(this.latency(machine), () => peer.destroy());
    }
  }
}

const linkOf = (a: string, b: string): string => (a < b ? `${a} ${b}` : `${b} ${a}`);

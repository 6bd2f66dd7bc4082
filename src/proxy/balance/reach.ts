// Whether an endpoint can be reached, and when it is tried again after it could not.
//
//   REACHED ─ a connection fails ────────────→ LOST     until a probe connects; probes wait longer each time
//      └───── its proxy cannot reach its ────→ RESTING  for a while, longer each time, or until it serves a request
//             application
//
// No connection of our own can probe an application behind a proxy, which answers for itself: time alone brings that
// endpoint back, and the next request tells. Its waits begin anew once it has served one.
import type { PassportKey } from "../../rules/passport.ts";
import { Backoff, type BackoffOptions } from "../../util/backoff.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import {
  type DialError,
  type DialHandler,
  type DialOptions,
  type DialTarget,
  dial,
} from "../transport/dial.ts";

const REACHED = 0;
const LOST = 1;
const RESTING = 2;

/** Says nothing of whether the endpoint can be reached. */
const NOT_ITS_FAULT: ReadonlySet<PassportKey> = new Set<PassportKey>([
  "upstream-closed",
  "no-certificate",
  "out-of-sockets",
]);

export interface ReachOptions {
  readonly clock: Clock;
  readonly target: DialTarget;
  readonly dial: DialOptions;
  /** Of probes and rests; undefined: there are none, the next request tries. */
  readonly backoff: BackoffOptions | undefined;
  /** `reached` has changed. */
  readonly onChange: () => void;
}

export class Reach {
  /** When it last failed, monotonic, ms. */
  failedAt = 0;
  readonly #options: ReachOptions;
  readonly #backoff: Backoff | undefined;
  #state = REACHED;
  #timer: Timer | undefined;
  /** It has failed, and nothing has been served since. */
  #suspect = false;
  #stopped = false;

  constructor(options: ReachOptions) {
    this.#options = options;
    this.#backoff = options.backoff && new Backoff(options.backoff, options.clock.random);
  }

  /** It can be reached, as far as is known. */
  get reached(): boolean {
    return this.#state === REACHED;
  }

  /** A connection could not be made. */
  lost(error: DialError): void {
    if (this.#stopped || NOT_ITS_FAULT.has(error.key)) return;
    this.#failed();
    if (this.#state === RESTING) this.#clearTimer();
    this.#enter(LOST);
    if (this.#backoff) this.#timer ??= this.#options.clock.after(this.#backoff.next(), () => this.#probe());
  }

  /** Its proxy could not reach its application. */
  unserved(): void {
    if (this.#stopped || !this.#backoff) return;
    this.#failed();
    if (this.#state !== REACHED) return;
    this.#timer = this.#options.clock.after(this.#backoff.next(), () => this.#enter(REACHED));
    this.#enter(RESTING);
  }

  #failed(): void {
    this.failedAt = this.#options.clock.monotonic();
    this.#suspect = true;
  }

  /** A connection was made; of a proxy's own that says nothing of its application. */
  connected(): void {
    if (this.#state === LOST) this.#recovered();
  }

  /**
   * A response has begun, of bytes as well.
   * @param since when its request or connection began, monotonic, ms: what was under way before a failure says nothing new
   */
  served(since: number): void {
    if (!this.#suspect || (this.#state !== LOST && since <= this.failedAt)) return;
    this.#recovered();
  }

  #recovered(): void {
    this.#suspect = false;
    this.#backoff?.reset();
    this.#clearTimer();
    this.#enter(REACHED);
  }

  #enter(state: number): void {
    const { reached } = this;
    this.#state = state;
    if (state === REACHED) this.#timer = undefined;
    if (this.reached !== reached && !this.#stopped) this.#options.onChange();
  }

  #probe(): void {
    this.#timer = undefined;
    if (!this.#stopped) new Probe(this, this.#options.target, this.#options.dial);
  }

  #clearTimer(): void {
    this.#options.clock.clear(this.#timer);
    this.#timer = undefined;
  }

  stop(): void {
    this.#stopped = true;
    this.#clearTimer();
  }
}

/** One connection made for no other reason than to learn that it can be. */
class Probe implements DialHandler {
  readonly #reach: Reach;
  readonly #destroy: () => void;
  #connected = false;

  constructor(reach: Reach, target: DialTarget, options: DialOptions) {
    this.#reach = reach;
    const socket = dial(target, options, this);
    this.#destroy = () => socket.destroy();
  }

  onConnected(): void {
    this.#connected = true;
    this.#destroy();
    this.#reach.connected();
  }

  onClosed(error: DialError | undefined): void {
    if (!this.#connected && error) this.#reach.lost(error);
  }

  onBytes(): void {}
  onEnd(): void {}
  onDrain(): void {}
}

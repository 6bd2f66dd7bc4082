// A value that the control plane streams: kept while the stream is away, asked for again, brought up to date.
import type { Method, Partially } from "../../api/codec.ts";
import { type GrpcError, STATUS } from "../../api/grpc-status.ts";
import { Backoff } from "../../util/backoff.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import type { Watch } from "../ports.ts";
import type { GrpcClient } from "./grpc-client.ts";

export interface StreamWatchOptions<Q, R, T> {
  readonly client: GrpcClient;
  readonly method: Method<Q, R>;
  readonly request: Partially<Q>;
  readonly clock: Clock;
  /** The value after a message. `fresh` says that it is the first of a (new) stream: it replaces what was `known`. */
  readonly take: (message: R, fresh: boolean, known: T | undefined) => T;
  /**
   * The value when a stream that took the place of another has told what it knew to begin with: that is, has been silent
   * for a while. Absent: each message tells all.
   */
  readonly settled?: () => T;
  /**
   * The value when the control plane has none, or does not answer in time; later answers replace it. Without it, that
   * there is none is no answer: what was known holds, and it is asked again soon.
   */
  readonly absent?: T;
  /** The value until the first answer; without it there is none, for at most `timeout`. */
  readonly initial?: T;
  /** How long the first answer is waited for before `absent` holds, ms. */
  readonly timeout: number;
  readonly onClose: () => void;
}

/** Streams that ended by themselves are asked for again between these, ms. */
const BACKOFF = { min: 100, max: 10_000, jitter: 0.5 };
/** What does not exist may come to be: it is asked for again after this long, ms. */
const ABSENT_RETRY = 10_000;

/** A stream that says nothing for so long has told all that it knew to begin with; it has so long for it, ms. */
const SETTLE = { quiet: 1_000, limit: 10_000 };

/** Answers of the control plane itself, as opposed to trouble in reaching it. */
const ABSENT: readonly number[] = [
  STATUS.NOT_FOUND,
  STATUS.UNIMPLEMENTED,
  STATUS.INVALID_ARGUMENT,
  STATUS.FAILED_PRECONDITION,
];

export class StreamWatch<Q, R, T> implements Watch<T> {
  readonly ready: Promise<void>;
  readonly #options: StreamWatchOptions<Q, R, T>;
  readonly #listeners = new Set<(value: T) => void>();
  readonly #backoff: Backoff;
  #resolveReady: () => void = () => {};
  #current: T | undefined;
  #known = false;
  /** The control plane's last word: none yet, one that holds, or one from before it went away. */
  #word: "none" | "holds" | "old" = "none";
  #cancel: (() => void) | undefined;
  #timer: Timer | undefined;
  #patience: Timer | undefined;
  #settling: Timer | undefined;
  /** The stream may be telling still what it knew to begin with: at most until then, monotonic, ms. */
  #settleBy: number | undefined;
  #closed = false;

  constructor(options: StreamWatchOptions<Q, R, T>) {
    this.#options = options;
    this.#backoff = new Backoff(BACKOFF, options.clock.random);
    this.ready = new Promise((resolve) => {
      this.#resolveReady = resolve;
    });
    if (options.initial !== undefined) this.#set(options.initial);
    this.#patience = options.clock.after(options.timeout, () => {
      if (!this.#known && options.absent !== undefined) this.#set(options.absent);
    });
    this.#start();
  }

  get current(): T | undefined {
    return this.#current;
  }

  get stale(): boolean {
    return this.#word === "old";
  }

  subscribe(fn: (value: T) => void): () => void {
    this.#listeners.add(fn);
    return () => this.#listeners.delete(fn);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancel?.();
    this.#options.clock.clear(this.#timer);
    this.#options.clock.clear(this.#patience);
    this.#options.clock.clear(this.#settling);
    this.#listeners.clear();
    this.#options.onClose();
  }

  #start(): void {
    const { client, method, request, take, settled, clock } = this.#options;
    let fresh = true;
    this.#cancel = client.call(method, request, {
      onMessage: (message) => {
        const value = take(message, fresh, this.#current);
        if (fresh && settled && this.#word !== "none") this.#settleBy = clock.monotonic() + SETTLE.limit;
        fresh = false;
        this.#word = "holds";
        this.#backoff.reset();
        this.#set(value);
        if (this.#settleBy !== undefined) this.#settleSoon(this.#settleBy, settled!);
      },
      onEnd: (error) => this.#again(error),
    });
  }

  #settleSoon(deadline: number, settled: () => T): void {
    const { clock } = this.#options;
    clock.clear(this.#settling);
    this.#settling = clock.after(Math.min(deadline - clock.monotonic(), SETTLE.quiet), () => {
      this.#settleBy = undefined;
      this.#set(settled());
    });
  }

  #again(error: GrpcError | undefined): void {
    if (this.#closed) return;
    const { clock, absent } = this.#options;
    // What the stream had not come to tell is not gone.
    clock.clear(this.#settling);
    this.#settleBy = undefined;
    const isAbsent = absent !== undefined && error !== undefined && ABSENT.includes(error.code);
    if (isAbsent) {
      this.#word = "holds";
      this.#set(absent);
    } else if (this.#word === "holds") this.#word = "old";
    this.#timer = clock.after(isAbsent ? ABSENT_RETRY : this.#backoff.next(), () => this.#start());
  }

  #set(value: T): void {
    const first = !this.#known;
    this.#known = true;
    this.#current = value;
    this.#options.clock.clear(this.#patience);
    if (first) this.#resolveReady();
    for (const listener of [...this.#listeners]) listener(value);
  }
}

/** Gives several holders one watch; it ends when the last of them closes. */
export class SharedWatches<T> {
  readonly #open = new Map<string, { watch: Watch<T>; holders: number }>();

  hold(key: string, make: (onClose: () => void) => Watch<T>): Watch<T> {
    let entry = this.#open.get(key);
    if (!entry) {
      entry = { watch: make(() => this.#open.delete(key)), holders: 0 };
      this.#open.set(key, entry);
    }
    entry.holders += 1;
    const shared = entry;
    const stops: (() => void)[] = [];
    let released = false;
    return {
      get current() {
        return shared.watch.current;
      },
      get stale() {
        return shared.watch.stale;
      },
      ready: shared.watch.ready,
      subscribe(fn) {
        const stop = shared.watch.subscribe(fn);
        stops.push(stop);
        return stop;
      },
      close() {
        if (released) return;
        released = true;
        for (const stop of stops) stop();
        shared.holders -= 1;
        if (shared.holders === 0) shared.watch.close();
      },
    };
  }

  get size(): number {
    return this.#open.size;
  }

  close(): void {
    for (const { watch } of [...this.#open.values()]) watch.close();
  }
}

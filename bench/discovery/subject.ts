// What is measured: a controller, what proxies ask of it, what changes, and how they hear of it.
import type { Method } from "../../src/api/codec.ts";
import { encode } from "../../src/api/codec.ts";
import { frame } from "../../src/api/grpc-frame.ts";
import type { BenchCluster, ClusterSize } from "./cluster.ts";

export interface Load extends ClusterSize {
  readonly proxies: number;
  /** Services that each proxy watches. */
  readonly watched: number;
  /** Changes a second. */
  readonly rate: number;
}

/** A stream that a proxy opens. */
export interface Ask {
  readonly path: string;
  /** The framed request. */
  readonly request: Buffer;
  /** Whether what it is told is looked at. */
  readonly read: boolean;
}

/** Something that proxies are to hear of. */
export interface Change {
  /** What tells it from others in the messages about it. */
  readonly id: number;
  /** The one that it makes out of date; whoever has not heard of that by now need not. */
  readonly replaces: number;
  /** How many streams are told. */
  readonly watchers: number;
}

export interface Subject {
  /** Its program: `discovery/NAME-controller.ts`. */
  readonly controller: "destination" | "policy";
  /** Node's flags, as in the image. */
  readonly flags: readonly string[];
  asks(proxy: number, services: readonly number[]): Ask[];
  /** Calls `visit` with each change that a message tells. */
  read(bytes: Buffer, from: number, to: number, visit: (id: number) => void): void;
  /**
   * Changes something in the cluster.
   * @param number how many changes there were
   * @param watchers how many proxies talk to each Service
   */
  change(number: number, watchers: Uint32Array): Change;
}

/** Prepares a cluster for what is measured with it. */
export type SubjectOf = (cluster: BenchCluster, load: Load) => Subject;

export const askOf = <Q>(
  method: Method<Q, unknown>,
  request: Parameters<typeof encode<Q>>[1],
  read: boolean,
): Ask => ({ path: method.path, request: frame(encode(method.request, request)), read });

/** The Services that a proxy talks to: every Service has as many clients as another. */
export const servicesOf = (proxy: number, { watched, services }: Load): number[] =>
  Array.from({ length: watched }, (_, at) => (proxy * watched + at) % services);

/** Spreads changes over so many. */
export const spread = (number: number, over: number): number => (number * 7_919) % over;

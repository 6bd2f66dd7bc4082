// What the API server asks of the kubelet for the pod subresources: log, exec, attach, port-forward, proxy.
// An error thrown here reaches the client: throw ApiError (apiserver/status.ts) to choose its status, e.g.
// `badRequest("container … is waiting to start: ContainerCreating")`, `notFound(…)`; anything else becomes a 500.

import type { Duplex, Readable, Writable } from "node:stream";

export interface LogOptions {
  /** Always given: the API server has resolved the default container and checked that it exists in the spec. */
  container: string;
  follow: boolean;
  /** The instance before the last restart. */
  previous: boolean;
  timestamps: boolean;
  tailLines?: number | undefined;
  sinceSeconds?: number | undefined;
  /** RFC 3339. */
  sinceTime?: string | undefined;
  limitBytes?: number | undefined;
}

export interface ExecOptions {
  container: string;
  command: string[];
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** With a tty, stdout carries everything and stderr stays empty. */
  tty: boolean;
}

export type AttachOptions = Omit<ExecOptions, "command">;

export interface ExecSession {
  /** Ending it closes the process's stdin. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Terminal size in characters; ignored without a tty. */
  resize(width: number, height: number): void;
  /** The exit code (128+n for signal n). Rejects when the process could not be started. */
  readonly exit: Promise<number>;
  /** The client has gone: end the process (exec) or leave it (attach). */
  close(): void;
}

export interface NodeApi {
  /** Log lines as bytes, oldest first. Stopping the iteration stops following. */
  logs(namespace: string, pod: string, options: LogOptions): AsyncIterable<Buffer>;
  exec(namespace: string, pod: string, options: ExecOptions): Promise<ExecSession>;
  attach(namespace: string, pod: string, options: AttachOptions): Promise<ExecSession>;
  /** Connects to 127.0.0.1:port inside the pod's network namespace. Rejects when nothing listens. */
  dial(namespace: string, pod: string, port: number): Promise<Duplex>;
}

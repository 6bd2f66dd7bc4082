// Connections to a pod's own 127.0.0.1, for port-forward: a small process in the pod's network namespace makes
// them and hands the sockets over. It is started at the first call and ended when idle.
import { type ChildProcess, spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import type { Clock, Timer } from "../../util/clock.ts";
import { tool } from "./process.ts";

/** How long the helper stays after its last connection was made, ms. */
const IDLE_MS = 30_000;
const TIMEOUT_MS = 10_000;
const MAX_PENDING = 1_000;

/** Paused before it connects, so that nothing the server says first is read here. */
const HELPER = `
const net = require("node:net");
process.on("message", ({ id, port }) => {
  const socket = net.connect({ host: "127.0.0.1", port });
  socket.pause();
  const fail = (error) => process.send({ id, error: error.message });
  socket.once("error", fail);
  socket.once("connect", () => {
    socket.off("error", fail);
    socket.on("error", () => {});
    process.send({ id }, socket);
  });
});
process.on("disconnect", () => process.exit());
`;

interface Pending {
  resolve(socket: Socket): void;
  reject(error: Error): void;
}

export class PodDialer {
  readonly #pid: number | undefined;
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  #helper: ChildProcess | undefined;
  #idle: Timer | undefined;
  #next = 0;

  /** `pid`: a process in the pod's network namespace; undefined when the pod uses the node's. */
  constructor(pid: number | undefined, clock: Clock) {
    this.#pid = pid;
    this.#clock = clock;
  }

  /** Rejects when nothing listens there. */
  async dial(port: number): Promise<Socket> {
    if (this.#pid === undefined) return direct(port);
    if (this.#pending.size >= MAX_PENDING) throw new Error("too many connections are being made to the pod");
    const helper = this.#start(this.#pid);
    const id = this.#next++;
    this.#rest();
    return new Promise<Socket>((resolve, reject) => {
      const timer = this.#clock.after(TIMEOUT_MS, () =>
        settle(() => reject(new Error("connection timed out"))),
      );
      const settle = (then: () => void) => {
        if (!this.#pending.delete(id)) return;
        this.#clock.clear(timer);
        then();
      };
      this.#pending.set(id, {
        resolve: (socket) => settle(() => resolve(socket)),
        reject: (error) => settle(() => reject(error)),
      });
      helper.send({ id, port }, (error) => {
        if (error) this.#pending.get(id)?.reject(error);
      });
    });
  }

  close(): void {
    this.#clock.clear(this.#idle);
    this.#helper?.kill("SIGKILL");
    this.#helper = undefined;
  }

  #rest(): void {
    this.#clock.clear(this.#idle);
    this.#idle = this.#clock.after(IDLE_MS, () => this.close());
  }

  #start(pid: number): ChildProcess {
    if (this.#helper) return this.#helper;
    const helper = spawn(tool("nsenter"), [`--net=/proc/${pid}/ns/net`, process.execPath, "-e", HELPER], {
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    this.#helper = helper;
    helper.on("message", (message, handle) => {
      const { id, error } = message as { id: number; error?: string };
      const socket = handle as Socket | undefined;
      const pending = this.#pending.get(id);
      if (!socket) pending?.reject(new Error(error ?? "the connection was lost"));
      else if (!pending) socket.destroy();
      else {
        socket.allowHalfOpen = true;
        pending.resolve(socket);
      }
    });
    const ended = () => {
      if (this.#helper === helper) this.#helper = undefined;
      for (const pending of [...this.#pending.values()]) pending.reject(new Error("the pod has ended"));
    };
    helper.on("error", ended);
    helper.on("exit", ended);
    return helper;
  }
}

function direct(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}

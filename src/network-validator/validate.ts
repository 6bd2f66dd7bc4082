// The proof itself: a token that only this process knows goes out to an address that nobody has, and comes back.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { errorMessage, MeshError } from "../util/error.ts";
import type { ValidatorOptions } from "./options.ts";

/** The pod's connections do not reach the proxy's port. */
export class RedirectError extends MeshError {
  constructor(message: string) {
    super(`the pod's connections are not redirected to the proxy: ${message}`, {
      hints: [
        "the mesh's CNI plugin lays the rules when the pod's network is made: see that it runs on this node and is in the chain of /etc/cni/net.d, then delete the pod",
        "without a CNI plugin install with cniEnabled=false: an init container lays the rules",
      ],
    });
    this.name = "RedirectError";
  }
}

const TOKEN_BYTES = 32;

/**
 * Resolves when a connection to `connect` arrives at `listen`, in this very process.
 * @throws RedirectError that says what happened instead, or MeshError when nobody can listen there
 */
export async function validate({ listen, connect: target, timeout }: ValidatorOptions): Promise<void> {
  const token = randomBytes(TOKEN_BYTES).toString("hex");
  const server = createServer((socket) => {
    // A peer that is gone already needs no token.
    socket.on("error", () => {});
    socket.end(`${token}\n`);
  });
  server.listen({ host: listen.host, port: listen.port });
  try {
    await once(server, "listening");
  } catch (cause) {
    throw new MeshError(`cannot listen on ${listen.text}: ${errorMessage(cause)}`, { cause });
  }
  try {
    const answer = await firstLine(target, token.length + 1, timeout);
    if (answer !== `${token}\n`)
      throw new RedirectError(`something else answered at ${target.text}, which should be nobody's address`);
  } finally {
    close(server);
  }
}

function close(server: Server): void {
  server.close();
  server.unref();
}

/** What comes from `target` up to `length` bytes or its end. */
function firstLine(
  { host, port, text }: ValidatorOptions["connect"],
  length: number,
  timeout: number,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    let received = "";
    const done = (error?: RedirectError) => {
      clearTimeout(timer);
      socket.destroy();
      if (error) reject(error);
      else resolve(received);
    };
    const timer = setTimeout(() => {
      const what = socket.connecting ? "no connection" : "no answer";
      done(new RedirectError(`${what} to the dial of ${text} within ${timeout} ms`));
    }, timeout);
    socket.setEncoding("latin1");
    socket.on("data", (chunk: string) => {
      received += chunk;
      if (received.length >= length) done();
    });
    socket.on("end", () => done());
    socket.on("error", (error) => done(new RedirectError(`dialling ${text}: ${errorMessage(error)}`)));
  });
}

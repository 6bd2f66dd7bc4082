// Ends mesh TLS on accepted connections: TLS 1.3, the client's certificate asked for and its absence accepted,
// since whether an identity is needed is for the policy to say (reference/data-planes.md §1.16).
import type { Socket } from "node:net";
import * as tls from "node:tls";
import { TRANSPORT_PROTOCOL } from "../../api/transport-header.ts";
import type { Clock } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { Credentials } from "../ports.ts";
import { expiryOf, subjectAltNames } from "./dial.ts";
import { readLean } from "./reads.ts";

const HANDSHAKE_TIMEOUT = 10_000;

export interface Terminated {
  readonly socket: tls.TLSSocket;
  /** The client's identity; undefined when it presented no certificate, or one we do not trust. */
  readonly clientId: string | undefined;
  /** The peer speaks the transport header protocol. */
  readonly transportHeader: boolean;
}

/**
 * Calls `done` once, with the way on or with why there is none; the raw socket is destroyed in the latter case.
 * @param protocols what clients may ask for by ALPN; those that ask for nothing are served as well
 */
export function terminateTls(
  raw: Socket,
  first: Buffer,
  credentials: Credentials,
  clock: Clock,
  done: (error: string | undefined, terminated: Terminated | undefined) => void,
  protocols: readonly string[] = [TRANSPORT_PROTOCOL],
): void {
  raw.pause();
  if (first.length > 0) raw.unshift(first);
  const socket = new tls.TLSSocket(raw, {
    isServer: true,
    secureContext: credentials.serverContext,
    requestCert: true,
    rejectUnauthorized: false,
    ALPNProtocols: [...protocols],
  });
  socket.allowHalfOpen = true;
  let pending = true;
  const settle = (error: string | undefined) => {
    if (!pending) return;
    pending = false;
    clock.clear(timer);
    if (error !== undefined) {
      socket.destroy();
      raw.destroy();
      done(error, undefined);
      return;
    }
    socket.pause();
    readLean(socket);
    done(undefined, {
      socket,
      clientId: clientIdentity(socket, clock.now()),
      transportHeader: socket.alpnProtocol === TRANSPORT_PROTOCOL,
    });
  };
  const timer = clock.after(HANDSHAKE_TIMEOUT, () => settle("handshake timed out"));
  socket.once("secure", () => settle(undefined));
  // Before the handshake is done, failures come under the one name, after it under the other.
  socket.on("_tlsError", (error: Error) => settle(errorMessage(error)));
  socket.on("error", (error) => settle(errorMessage(error)));
  socket.once("close", () => settle("closed in the handshake"));
}

/**
 * The first DNS or URI name of the client's certificate, when it verified against our anchors. Node asks the
 * same of the handle in its own servers; without an answer there is no identity. A resumed session has the verdict of
 * the handshake that it began with: whether the certificate holds still is asked here.
 */
function clientIdentity(socket: tls.TLSSocket, now: number): string | undefined {
  const handle = (socket as unknown as { _handle?: { verifyError?: () => Error | null | undefined } })
    ._handle;
  if (!handle?.verifyError || handle.verifyError()) return undefined;
  if (socket.isSessionReused() && expiryOf(socket) <= now) return undefined;
  return subjectAltNames(socket.getPeerX509Certificate()?.subjectAltName)[0];
}

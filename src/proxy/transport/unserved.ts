// One proxy's word to the proxy that dialled it: the application behind me never got this. What was sent may therefore
// go elsewhere, whatever it is. That must be believed of nobody but the proxy at the other end of our own mesh TLS, and
// applications can write any header or byte that a proxy can. So the word is a value that both ends of this very TLS
// connection can derive from its keys (RFC 8446 §7.5), and nobody else: not the application behind the peer, not one of
// another hop, not whoever has seen the word on another connection. Peers of another kind say nothing like it.
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { PassportKey } from "../../rules/passport.ts";

/** On answers between proxies; taken away wherever a response is read. */
export const UNSERVED = "l5d-mesh-unserved";

const LABEL = "EXPORTER-kubectl-mesh-unserved";
/** Of the word, bytes; a guess succeeds once in 2^128. */
const SIZE = 16;

/** After these errors of its own, a proxy knows that the application has not got what was to be sent. */
const BEFORE_SENDING: ReadonlySet<PassportKey> = new Set<PassportKey>(["connect", "connect-timeout"]);

/** The word on this connection; undefined where there is none, without TLS or when it is over. */
function wordOf(socket: Socket): Buffer | undefined {
  if (!("encrypted" in socket) || socket.destroyed) return undefined;
  try {
    return (socket as TLSSocket).exportKeyingMaterial(SIZE, LABEL, Buffer.alloc(0));
  } catch {
    return undefined;
  }
}

/** What tells the peer that an answer with this error is ours; undefined when it would not be true, or not believed. */
export function unservedWord(key: PassportKey, socket: Socket): Buffer | undefined {
  return BEFORE_SENDING.has(key) ? wordOf(socket) : undefined;
}

/** Whether `word` is that of the proxy at the other end of `socket`. */
export function isUnservedWord(word: Buffer, socket: Socket): boolean {
  return word.length === SIZE && (wordOf(socket)?.equals(word) ?? false);
}

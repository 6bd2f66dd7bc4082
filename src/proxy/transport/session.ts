// TLS sessions as Node hands them out: OpenSSL's SSL_SESSION in DER, with the peer's certificate in it.
import { type Asn1, childrenOf, fromDer, isContext, sequence, toDer } from "../../pki/der.ts";

/** `peer [3] EXPLICIT Certificate`, in OpenSSL's ssl/ssl_asn1.c. */
const PEER = 3;

/**
 * The session without its peer's certificate. Who resumes it looks at nothing in there again (dial.ts keeps when it
 * expires), and reading it costs more than all else about a resumed handshake. What cannot be read stays as it is.
 */
export function withoutCertificate(session: Buffer): Buffer {
  let parts: readonly Asn1[];
  try {
    parts = childrenOf(fromDer(session), "a session");
  } catch {
    return session;
  }
  const rest = parts.filter((part) => !isContext(part, PEER));
  return rest.length === parts.length ? session : toDer(sequence(...rest));
}

// An answer of the endpoint's own proxy: the application never got the request. See transport/unserved.ts for why it can
// be believed.
import type { Socket } from "node:net";
import { PASSPORTS, type PassportKey } from "../../rules/passport.ts";
import { DialError } from "../transport/dial.ts";
import { isUnservedWord, UNSERVED } from "../transport/unserved.ts";
import type { ResponseHead } from "./message.ts";

/** Why the endpoint's proxy did not reach its application; undefined: this is no such answer, or not of that proxy. */
export function unservedError(head: ResponseHead, socket: Socket): DialError | undefined {
  const word = head.get(UNSERVED);
  if (word === undefined || !isUnservedWord(Buffer.from(word, "base64url"), socket)) return undefined;
  const timeout = head.get("l5d-mesh-code") === PASSPORTS["connect-timeout"].code;
  const key: PassportKey = timeout ? "connect-timeout" : "connect";
  return new DialError(key, `its proxy says: ${head.get("l5d-proxy-error") ?? key}`);
}

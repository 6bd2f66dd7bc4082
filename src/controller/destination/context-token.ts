// What a proxy says of itself with each look-up: `{"ns":"…","nodeName":"…","pod":"…"}`.
import { intern } from "../../util/intern.ts";
import type { Client } from "./index.ts";

/** Longer ones say nothing that we know, characters. */
const MAX_TOKEN = 2_000;
const NOBODY: Client = {};

/** Clients that were asked for already: a proxy sends the same token with each of its look-ups. */
let known = new Map<string, Client>();
const MAX_KNOWN = 10_000;

/** Who asks. What cannot be read says nothing: the look-up is answered all the same. Old proxies write `ns:namespace`. */
export function clientOf(token: string): Client {
  if (token === "" || token.length > MAX_TOKEN) return NOBODY;
  const found = known.get(token);
  if (found) return found;
  if (known.size >= MAX_KNOWN) known = new Map();
  const client = parse(token);
  known.set(token, client);
  return client;
}

function parse(token: string): Client {
  if (token.startsWith("ns:")) return { namespace: intern(token.slice(3)) };
  try {
    const parsed = JSON.parse(token) as Record<string, unknown> | null;
    const text = (key: string) => {
      const value = parsed?.[key];
      return typeof value === "string" && value !== "" ? intern(value) : undefined;
    };
    return { namespace: text("ns"), nodeName: text("nodeName"), pod: text("pod") };
  } catch {
    return NOBODY;
  }
}

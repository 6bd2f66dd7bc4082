// io.linkerd.proxy.http_types
import { bytes, embed, enumeration, member, message, repeated, string } from "./codec.ts";

/** Values of HttpMethod.registered, in wire order. */
export const REGISTERED_METHODS = [
  "GET",
  "POST",
  "PUT",
  "DELETE",
  "PATCH",
  "OPTIONS",
  "CONNECT",
  "HEAD",
  "TRACE",
] as const;

/** Values of Scheme.registered, in wire order. */
export const REGISTERED_SCHEMES = ["http", "https"] as const;

/** The message of a name: its place among those that have one, or itself. */
function registration(names: readonly string[]) {
  return (name: string): { registered: number } | { unregistered: string } => {
    const registered = names.indexOf(name);
    return registered < 0 ? { unregistered: name } : { registered };
  };
}

export const methodMessage = registration(REGISTERED_METHODS);
export const schemeMessage = registration(REGISTERED_SCHEMES);

export const HttpMethod = message("io.linkerd.proxy.http_types.HttpMethod", {
  registered: member(enumeration(1)),
  unregistered: member(string(2)),
});

export const Scheme = message("io.linkerd.proxy.http_types.Scheme", {
  registered: member(enumeration(1)),
  unregistered: member(string(2)),
});

export const HeadersHeader = message("io.linkerd.proxy.http_types.Headers.Header", {
  name: string(1),
  value: bytes(2),
});

export const Headers = message("io.linkerd.proxy.http_types.Headers", {
  headers: repeated(embed(1, () => HeadersHeader)),
});

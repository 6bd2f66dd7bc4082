// Whether a server's policy admits a client: by network and by mesh identity (reference/data-planes.md §1.14).
// A policy is compiled once when it arrives; clients are then checked against numbers and strings.
import { networkText } from "../api/address.ts";
import type { MessageOf } from "../api/codec.ts";
import type { Authz } from "../api/inbound.ts";
import { type Cidr, cidrHas, formatCidr, parseCidr, parseIp } from "../util/ip.ts";
import type { Trace } from "./trace.ts";

export interface Client {
  readonly ip: string;
  /** The connection came over mesh TLS. */
  readonly tls: boolean;
  /** The identity of the client's certificate, if it presented one. */
  readonly identity?: string | undefined;
}

export interface Verdict {
  readonly allowed: boolean;
  /** `authz_*` labels (`group`, `kind`, `name`) of what admitted the client; empty when nothing did. */
  readonly labels: Readonly<Record<string, string>>;
}

interface CompiledAuthorization {
  readonly labels: Readonly<Record<string, string>>;
  readonly networks: readonly { readonly net: Cidr; readonly except: readonly Cidr[] }[];
  /** Who may come: anyone, anyone over mesh TLS, or the named. */
  readonly clients: "any" | "mesh" | "named" | "none";
  readonly names: ReadonlySet<string>;
  /** `""` admits every identity, `.ns.…` those that end so. */
  readonly suffixes: readonly string[];
}

export interface Authorization {
  check(client: Client, trace?: Trace): Verdict;
}

export const DENIED: Verdict = { allowed: false, labels: {} };
const LOOPBACK: Verdict = { allowed: true, labels: { group: "", kind: "default", name: "localhost" } };

/**
 * Authorizations of a server or a route, ready to check clients against. The pod's own loopback is always admitted.
 * What a network or identity says is taken strictly: a network that cannot be read admits nobody.
 * @param requiresIdentity clients without a mesh identity are not admitted, whatever the authorizations say
 */
export function compileAuthorization(
  authorizations: readonly MessageOf<typeof Authz>[],
  requiresIdentity = false,
): Authorization {
  const compiled = authorizations.map(compileOne);
  return {
    check(client, trace) {
      if (requiresIdentity && client.identity === undefined && !isLoopback(parseIp(client.ip))) {
        trace?.add("port", false, "it takes clients with a mesh identity only");
        return DENIED;
      }
      return decide(compiled, client, trace);
    },
  };
}

function decide(
  authorizations: readonly CompiledAuthorization[],
  client: Client,
  trace: Trace | undefined,
): Verdict {
  const address = parseIp(client.ip);
  if (isLoopback(address)) {
    trace?.add("loopback", true, "traffic from the pod itself is always admitted");
    return LOOPBACK;
  }
  for (const authorization of authorizations) {
    const why = mismatch(authorization, address, client);
    trace?.add(describe(authorization), why === undefined, why ?? "network and identity match");
    if (why === undefined) return { allowed: true, labels: authorization.labels };
  }
  if (authorizations.length === 0)
    trace?.add("authorizations", false, "there are none, so nobody is admitted");
  return DENIED;
}

function compileOne(authz: MessageOf<typeof Authz>): CompiledAuthorization {
  const networks = authz.networks.flatMap(({ net, except }) => {
    const cidr = net && networkText(net);
    return cidr === undefined ? [] : [{ net: parseCidr(cidr), except: except.map(exceptionOf) }];
  });
  const { unauthenticated, meshTLS } = authz.authentication ?? {};
  const named = meshTLS?.identities;
  return {
    labels: labelsOf(authz),
    networks,
    clients: unauthenticated ? "any" : meshTLS?.unauthenticated ? "mesh" : named ? "named" : "none",
    names: new Set(named?.identities.map((identity) => identity.name)),
    suffixes: named?.suffixes.map(({ parts }) => (parts.length === 0 ? "" : `.${parts.join(".")}`)) ?? [],
  };
}

/** An exception that cannot be read excepts everything: when in doubt, nobody is let in. */
function exceptionOf(network: Parameters<typeof networkText>[0]): Cidr {
  return parseCidr(networkText(network) ?? "0.0.0.0/0");
}

function labelsOf(authz: MessageOf<typeof Authz>): Record<string, string> {
  const { default: name, resource } = authz.metadata ?? {};
  if (resource) return { group: resource.group, kind: resource.kind, name: resource.name };
  if (name !== undefined) return { group: "", kind: "default", name };
  return authz.labels;
}

function mismatch(
  authorization: CompiledAuthorization,
  address: { family: 4 | 6; bits: bigint },
  client: Client,
): string | undefined {
  const inNetwork = authorization.networks.some(
    ({ net, except }) => cidrHas(net, address) && !except.some((cidr) => cidrHas(cidr, address)),
  );
  if (!inNetwork) return `${client.ip} is in none of its networks`;
  switch (authorization.clients) {
    case "any":
      return undefined;
    case "mesh":
      return client.tls ? undefined : "the connection is not mesh TLS";
    case "named": {
      const { identity } = client;
      if (identity === undefined) return "the client has no mesh identity";
      const known =
        authorization.names.has(identity) ||
        authorization.suffixes.some((suffix) => identity.endsWith(suffix));
      return known ? undefined : `${identity} is none of its clients`;
    }
    default:
      return "it names no clients";
  }
}

function describe(authorization: CompiledAuthorization): string {
  const { kind, name } = authorization.labels;
  const networks = authorization.networks.map(({ net }) => formatCidr(net)).join(",");
  return `${kind ?? "authorization"} ${name ?? ""} for ${networks}`;
}

function isLoopback({ family, bits }: { family: 4 | 6; bits: bigint }): boolean {
  return family === 4 ? bits >> 24n === 127n : bits === 1n;
}

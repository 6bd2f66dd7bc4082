// Which exchanges a tap asks for: the tree of an ObserveRequest, compiled once. What is not known yet (an outbound
// request's endpoint, before one is chosen) leaves the verdict open where it matters.
import { networkText } from "../../api/address.ts";
import { REGISTERED_METHODS, REGISTERED_SCHEMES } from "../../api/http-types.ts";
import type { ObserveRequestMatchShape as MatchShape } from "../../api/tap.ts";
import { type Cidr, cidrHas, parseCidr, parseIp } from "../../util/ip.ts";
import type { RequestHead } from "../http/message.ts";

export interface TapFacts {
  readonly request: RequestHead;
  readonly source: Address;
  /** undefined: not known yet. */
  readonly destination: Address | undefined;
  readonly destinationLabels: Labels | undefined;
  readonly routeLabels: Labels | undefined;
}

export interface Address {
  readonly ip: string;
  readonly port: number;
}

type Labels = Readonly<Record<string, string>>;

/** Whether an exchange is asked for; undefined: not to be said yet. */
export type TapMatch = (facts: TapFacts) => boolean | undefined;

/** A request for a tap that cannot be understood. */
export class TapMatchError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "TapMatchError";
  }
}

/** How deep a tree may be, and how many conditions it may have: each is looked at for each request. */
const MAX_DEPTH = 16;
const MAX_NODES = 256;

/** @throws TapMatchError for a tree that is empty, too large, or holds what is no condition */
export function compileTapMatch(shape: MatchShape | undefined): TapMatch {
  return compile(shape, 0, { left: MAX_NODES });
}

function compile(shape: MatchShape | undefined, depth: number, budget: { left: number }): TapMatch {
  budget.left -= 1;
  if (depth > MAX_DEPTH || budget.left < 0) throw new TapMatchError("the match is too large");
  const child = (each: MatchShape | undefined) => compile(each, depth + 1, budget);
  if (shape?.all) return all(shape.all.matches.map(child));
  if (shape?.any) return any(shape.any.matches.map(child));
  if (shape?.not) {
    const inner = child(shape.not);
    return (facts) => {
      const verdict = inner(facts);
      return verdict === undefined ? undefined : !verdict;
    };
  }
  if (shape?.source) {
    const matches = compileAddress(shape.source);
    return ({ source }) => matches(source);
  }
  if (shape?.destination) {
    const matches = compileAddress(shape.destination);
    return ({ destination }) => destination && matches(destination);
  }
  if (shape?.http) return compileHttp(shape.http);
  if (shape?.destinationLabel) {
    const { key, value } = label(shape.destinationLabel);
    return ({ destinationLabels }) => destinationLabels && destinationLabels[key] === value;
  }
  if (shape?.routeLabel) {
    const { key, value } = label(shape.routeLabel);
    return ({ routeLabels }) => routeLabels && routeLabels[key] === value;
  }
  throw new TapMatchError("a match without a condition");
}

const all =
  (matches: readonly TapMatch[]): TapMatch =>
  (facts) => {
    let verdict: boolean | undefined = true;
    for (const match of matches) {
      const one = match(facts);
      if (one === false) return false;
      if (one === undefined) verdict = undefined;
    }
    return verdict;
  };

const any =
  (matches: readonly TapMatch[]): TapMatch =>
  (facts) => {
    let verdict: boolean | undefined = false;
    for (const match of matches) {
      const one = match(facts);
      if (one === true) return true;
      if (one === undefined) verdict = undefined;
    }
    return verdict;
  };

function label({ key, value }: { key: string; value: string }): { key: string; value: string } {
  if (key === "" || value === "") throw new TapMatchError("a label without a key or a value");
  return { key, value };
}

function compileAddress({
  netmask,
  ports,
}: NonNullable<MatchShape["source"]>): (address: Address) => boolean {
  if (ports) {
    // One bound alone names a single port.
    const from = ports.min || ports.max;
    const to = ports.max || ports.min;
    if (from === 0 || to > 65_535 || from > to)
      throw new TapMatchError(`a range of ports from ${ports.min} to ${ports.max}`);
    return ({ port }) => from <= port && port <= to;
  }
  if (!netmask) throw new TapMatchError("an address without a network or ports");
  const network = networkOf(netmask);
  return ({ ip }) => cidrHas(network, parseIp(ip));
}

function networkOf({ ip, mask }: NonNullable<NonNullable<MatchShape["source"]>["netmask"]>): Cidr {
  const text = networkText({ ip, prefixLen: mask });
  try {
    if (text !== undefined && mask > 0) return parseCidr(text);
  } catch {
    // As below.
  }
  throw new TapMatchError(`a network of ${text ?? "no address"}`);
}

function compileHttp(http: NonNullable<MatchShape["http"]>): TapMatch {
  if (http.scheme) {
    const wanted = registered(http.scheme, REGISTERED_SCHEMES, "scheme").toLowerCase();
    return ({ request }) => request.scheme === wanted;
  }
  if (http.method) {
    const wanted = registered(http.method, REGISTERED_METHODS, "method");
    return ({ request }) => request.method === wanted;
  }
  if (http.authority) {
    const matches = compileString(http.authority, "authority");
    return ({ request }) => matches(request.authority);
  }
  if (http.path) {
    const matches = compileString(http.path, "path");
    return ({ request }) => matches(pathOf(request));
  }
  throw new TapMatchError("an HTTP match without a condition");
}

/** Without the query. */
export function pathOf({ path }: RequestHead): string {
  const query = path.indexOf("?");
  return query < 0 ? path : path.slice(0, query);
}

function registered(
  value: { registered?: number | undefined; unregistered?: string | undefined },
  names: readonly string[],
  what: string,
): string {
  const name = value.registered === undefined ? value.unregistered : names[value.registered];
  if (!name) throw new TapMatchError(`no such ${what}`);
  return name;
}

function compileString(
  { exact, prefix }: { exact?: string | undefined; prefix?: string | undefined },
  what: string,
): (text: string) => boolean {
  if (exact !== undefined) return (text) => text === exact;
  if (prefix !== undefined) return (text) => text.startsWith(prefix);
  throw new TapMatchError(`a match of the ${what} with nothing`);
}

// Which of several routes takes a request: by host, path, method, header fields and query, the most specific first, as
// the Gateway API orders them. Compiled once; the data path then compares strings, most specific first.
import type { MessageOf } from "../api/codec.ts";
import type { GrpcRouteMatch } from "../api/grpc-route.ts";
import type {
  HeaderMatch,
  HostMatch,
  HttpRouteMatch,
  PathMatch,
  QueryParamMatch,
} from "../api/http-route.ts";
import { REGISTERED_METHODS } from "../api/http-types.ts";
import type { Metadata } from "../api/meta.ts";
import { compileRegex, type Regex } from "./regex.ts";
import type { Trace } from "./trace.ts";

/** What routes look at. */
export interface RequestFacts {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly authority: string;
  /** Values joined by `, `. @param name in lower case */
  get(name: string): string | undefined;
}

/** The resource that a route comes from, for labels. */
export interface RouteRef {
  readonly group: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly section: string;
  readonly port: number;
}

export function refOf(metadata: MessageOf<typeof Metadata> | undefined): RouteRef {
  const { resource, default: name } = metadata ?? {};
  return resource
    ? {
        group: resource.group,
        kind: resource.kind,
        namespace: resource.namespace,
        name: resource.name,
        section: resource.section,
        port: resource.port,
      }
    : { group: "", kind: "default", namespace: "", name: name ?? "", section: "", port: 0 };
}

export const refText = ({ kind, namespace, name }: RouteRef): string =>
  namespace === "" ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;

/** One condition of a route's rule. */
interface Condition<R> {
  /** More specific conditions first. */
  readonly rank: readonly number[];
  readonly hosts: readonly Host[];
  readonly method: string | undefined;
  readonly exact: string | undefined;
  /** Without a slash at its end; "" takes every path. */
  readonly prefix: string | undefined;
  readonly path: Regex | undefined;
  readonly fields: readonly ValueMatch[];
  readonly query: readonly ValueMatch[];
  readonly text: string;
  readonly match: RouteMatch<R>;
}

interface ValueMatch {
  readonly name: string;
  readonly exact: string | undefined;
  readonly regex: Regex | undefined;
}

interface Host {
  readonly exact: string | undefined;
  /** `.example.com` */
  readonly suffix: string;
}

export interface RouteMatch<R> {
  readonly rule: R;
  /** The path prefix by which it matched: what a path modifier replaces. */
  readonly prefix: string | undefined;
  /** It names the whole path. */
  readonly exact: boolean;
}

/** A rule with what it takes. */
export interface Candidate<R> {
  readonly rule: R;
  readonly hosts: readonly MessageOf<typeof HostMatch>[];
  readonly http?: readonly MessageOf<typeof HttpRouteMatch>[];
  readonly grpc?: readonly MessageOf<typeof GrpcRouteMatch>[];
  /** The route's name, for traces. */
  readonly text: string;
}

export class RouteTable<R> {
  readonly #conditions: readonly Condition<R>[];
  readonly #byHost: boolean;

  /** @throws RegexError for an expression that cannot be had */
  constructor(candidates: readonly Candidate<R>[]) {
    const conditions = candidates.flatMap(compile);
    // Sorting is stable: of two equals the first stays first.
    this.#conditions = conditions.sort((a, b) => compareRanks(b.rank, a.rank));
    this.#byHost = conditions.some(({ hosts }) => hosts.length > 0);
  }

  /** Whether the one condition there is takes every request. */
  get takesAll(): boolean {
    const [first] = this.#conditions;
    return this.#conditions.length === 1 && first!.hosts.length === 0 && isUnconditional(first!);
  }

  get size(): number {
    return this.#conditions.length;
  }

  /** The most specific rule that takes the request. */
  find(facts: RequestFacts, trace?: Trace): RouteMatch<R> | undefined {
    const { path: target } = facts;
    const mark = target.indexOf("?");
    const path = mark < 0 ? target : target.slice(0, mark);
    const query = mark < 0 ? "" : target.slice(mark + 1);
    const host = this.#byHost ? hostOf(facts.authority) : "";
    let best: Condition<R> | undefined;
    let bestHost = -1;
    for (const condition of this.#conditions) {
      const rank = condition.hosts.length === 0 ? 0 : hostRank(condition.hosts, host);
      // A host that fits better outweighs everything else.
      if (rank < 0 || rank <= bestHost) {
        if (rank < 0) trace?.add(condition.text, false, `${host} is none of its hosts`);
        continue;
      }
      const why = mismatch(condition, facts, path, query);
      trace?.add(condition.text, why === undefined, why ?? "all its conditions hold");
      if (why !== undefined) continue;
      best = condition;
      bestHost = rank;
      if (!this.#byHost) break;
    }
    return best?.match;
  }
}

function compile<R>({ rule, hosts, http, grpc, text }: Candidate<R>): Condition<R>[] {
  const compiledHosts = hosts.map(compileHost);
  if (grpc !== undefined) {
    const matches = grpc.length > 0 ? grpc : [{ headers: [] }];
    return matches.map(({ rpc, headers }) => {
      const { service = "", method = "" } = rpc ?? {};
      const fields = headers.map(compileField);
      // A call is named by its path (gRPC over HTTP/2, "Requests").
      const exact = service !== "" && method !== "" ? `/${service}/${method}` : undefined;
      const prefix = service !== "" && method === "" ? `/${service}` : undefined;
      const path = service === "" && method !== "" ? compileRegex(`/[^/]+/${quote(method)}`) : undefined;
      return {
        rank: [exact ? 2 : prefix || path ? 1 : 0, service.length, method.length, 0, fields.length, 0],
        hosts: compiledHosts,
        method: undefined,
        exact,
        prefix,
        path,
        fields,
        query: [],
        text,
        match: { rule, prefix: undefined, exact: exact !== undefined },
      };
    });
  }
  const matches = http && http.length > 0 ? http : [{ headers: [], queryParams: [] }];
  return matches.map(({ path, method, headers, queryParams }) => {
    const fields = headers.map(compileField);
    const query = queryParams.map(compileQuery);
    const { exact, prefix, regex } = (path ?? {}) as MessageOf<typeof PathMatch>;
    const verb = method?.unregistered ?? (method ? REGISTERED_METHODS[method.registered ?? 0] : undefined);
    const kind = exact !== undefined ? 3 : prefix !== undefined ? 2 : regex !== undefined ? 1 : 0;
    return {
      rank: [
        kind,
        (exact ?? prefix ?? "").length,
        0,
        verb === undefined ? 0 : 1,
        fields.length,
        query.length,
      ],
      hosts: compiledHosts,
      method: verb,
      exact,
      prefix: prefix?.replace(/\/+$/, ""),
      path: regex === undefined ? undefined : compileRegex(regex),
      fields,
      query,
      text,
      match: { rule, prefix: prefix?.replace(/\/+$/, ""), exact: exact !== undefined },
    };
  });
}

const quote = (text: string) => text.replace(/[^A-Za-z0-9_]/g, "\\$&");

function compileHost({ exact, suffix }: MessageOf<typeof HostMatch>): Host {
  return {
    exact: exact?.toLowerCase(),
    suffix: suffix ? `.${[...suffix.reverseLabels].reverse().join(".").toLowerCase()}` : "",
  };
}

function compileField({ name, exact, regex }: MessageOf<typeof HeaderMatch>): ValueMatch {
  return {
    name: name.toLowerCase(),
    exact: exact?.toString("latin1"),
    regex: regex === undefined ? undefined : compileRegex(regex),
  };
}

function compileQuery({ name, exact, regex }: MessageOf<typeof QueryParamMatch>): ValueMatch {
  return { name, exact, regex: regex === undefined ? undefined : compileRegex(regex) };
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}

function isUnconditional<R>({ method, exact, prefix, path, fields, query }: Condition<R>): boolean {
  return (
    method === undefined &&
    exact === undefined &&
    !prefix &&
    path === undefined &&
    fields.length === 0 &&
    query.length === 0
  );
}

/** The host of an authority, in lower case and without its port. */
function hostOf(authority: string): string {
  const text = authority.toLowerCase();
  if (text.startsWith("[")) return text.slice(0, text.indexOf("]") + 1);
  const colon = text.indexOf(":");
  return colon < 0 ? text : text.slice(0, colon);
}

/** How well a host fits: an exact name beats suffixes, longer suffixes beat shorter ones; -1 when none fits. */
function hostRank(hosts: readonly Host[], host: string): number {
  let best = -1;
  for (const { exact, suffix } of hosts) {
    if (exact !== undefined) {
      if (exact === host) return Number.MAX_SAFE_INTEGER;
    } else if (host.endsWith(suffix) && host.length > suffix.length) best = Math.max(best, suffix.length);
  }
  return best;
}

/** Why a condition does not hold; undefined when it does. */
function mismatch<R>(
  condition: Condition<R>,
  facts: RequestFacts,
  path: string,
  query: string,
): string | undefined {
  const { method, exact, prefix } = condition;
  if (method !== undefined && facts.method !== method) return `the method is not ${method}`;
  if (exact !== undefined && path !== exact) return `the path is not ${exact}`;
  // Whole segments: `/a` takes `/a` and `/a/b` but not `/ab`.
  if (prefix && !(path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === "/")))
    return `the path does not begin with ${prefix}`;
  if (condition.path && !condition.path.matches(path)) return "the path does not match its expression";
  for (const field of condition.fields) {
    const value = facts.get(field.name);
    if (value === undefined || !holds(field, value)) return `header ${field.name} differs`;
  }
  if (condition.query.length > 0) {
    const parameters = new URLSearchParams(query);
    for (const parameter of condition.query) {
      const value = parameters.get(parameter.name);
      if (value === null || !holds(parameter, value)) return `query parameter ${parameter.name} differs`;
    }
  }
  return undefined;
}

function holds({ exact, regex }: ValueMatch, value: string): boolean {
  return exact !== undefined ? exact === value : (regex?.matches(value) ?? true);
}

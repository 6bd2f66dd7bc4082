// ServiceProfiles and TrafficSplits as proxies are told of them.
import type { MessageOf, Partially } from "../../api/codec.ts";
import type {
  DestinationProfile,
  RequestMatchShape,
  ResponseMatchShape,
  Route,
} from "../../api/destination.ts";
import { methodMessage } from "../../api/http-types.ts";
import { durationOf } from "../../api/time.ts";
import { parseGoDuration } from "../../crds/duration.ts";
import type { RequestMatch, ResponseMatch, ServiceProfile } from "../../crds/service-profile.ts";
import { type PortRange, parsePortSet } from "../../util/port-set.ts";

type ProfileMessage = Partially<MessageOf<typeof DestinationProfile>>;

/** A ServiceProfile, ready to be sent. */
export interface ProfileRecord {
  readonly namespace: string;
  /** Full name of the Service that it is about. */
  readonly name: string;
  readonly routes: NonNullable<ProfileMessage["routes"]>;
  readonly retryBudget: ProfileMessage["retryBudget"];
  readonly overrides: readonly Override[];
  readonly opaquePorts: readonly PortRange[];
}

/** A share of the traffic for another Service. */
export interface Override {
  /** `name.namespace.svc.domain`, with or without a port. */
  readonly authority: string;
  /** 10,000 for a weight of 1. */
  readonly weight: number;
}

/** A message of the API counts weights in units of this (Linkerd's: a thousandth of a quantity is 10). */
const WHOLE = 10_000;
/** Factors of quantities; a weight of 500m is a half. */
const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 1024,
  Mi: 1024 ** 2,
  Gi: 1024 ** 3,
};

/** The API's weight of a quantity such as `1`, `90` or `500m`; 0 for what cannot be read. */
export function weightOf(quantity: number | string | undefined): number {
  const match = /^\+?(\d+(?:\.\d*)?|\.\d+)([a-zA-Z]*)$/.exec(String(quantity ?? 0).trim());
  if (!match) return 0;
  const factor = match[2] === "" ? 1 : FACTORS[match[2]!];
  return Math.min(0xffff_ffff, Math.round(Number(match[1]) * (factor ?? 0) * WHOLE));
}

/** What cannot be read of an object that got past its schema is left out: the rest of it serves on. */
function readable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

export function profileRecord({ metadata, spec }: ServiceProfile): ProfileRecord {
  const { routes = [], retryBudget, dstOverrides = [], opaquePorts = [] } = spec ?? {};
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name.toLowerCase(),
    routes: routes.flatMap((route) => readable(() => routeOf(route)) ?? []),
    retryBudget:
      retryBudget &&
      readable(() => ({
        retryRatio: retryBudget.retryRatio,
        minRetriesPerSecond: retryBudget.minRetriesPerSecond,
        ttl: durationOf(parseGoDuration(retryBudget.ttl)),
      })),
    overrides: dstOverrides.map(({ authority, weight }) => ({ authority, weight: weightOf(weight) })),
    opaquePorts: opaquePorts.flatMap((text) => readable(() => parsePortSet(text)) ?? []),
  };
}

function routeOf(
  route: NonNullable<NonNullable<ServiceProfile["spec"]>["routes"]>[number],
): Partially<MessageOf<typeof Route>> {
  const timeout = route.timeout === undefined ? 0 : (readable(() => parseGoDuration(route.timeout!)) ?? 0);
  return {
    condition: requestMatchOf(route.condition),
    responseClasses: (route.responseClasses ?? []).map(({ condition, isFailure = false }) => ({
      condition: responseMatchOf(condition),
      isFailure,
    })),
    metricsLabels: { route: route.name },
    isRetryable: route.isRetryable ?? false,
    ...(timeout > 0 ? { timeout: durationOf(timeout) } : {}),
  };
}

/** All of what is set must hold. @throws RangeError when nothing is */
function requestMatchOf({ all, any, not, pathRegex, method }: RequestMatch): RequestMatchShape {
  return whole<RequestMatchShape>([
    ...(all ? [{ all: { matches: all.map(requestMatchOf) } }] : []),
    ...(any ? [{ any: { matches: any.map(requestMatchOf) } }] : []),
    ...(method ? [{ method: methodOf(method) }] : []),
    ...(not ? [{ not: requestMatchOf(not) }] : []),
    ...(pathRegex ? [{ path: { regex: pathRegex } }] : []),
  ]);
}

function responseMatchOf({ all, any, not, status }: ResponseMatch): ResponseMatchShape {
  return whole<ResponseMatchShape>([
    ...(all ? [{ all: { matches: all.map(responseMatchOf) } }] : []),
    ...(any ? [{ any: { matches: any.map(responseMatchOf) } }] : []),
    // A bound that is not given, or 0, is none.
    ...(status ? [{ status: { min: status.min || 100, max: status.max || 599 } }] : []),
    ...(not ? [{ not: responseMatchOf(not) }] : []),
  ]);
}

function whole<M extends { all?: { matches: M[] } | undefined }>(matches: M[]): M {
  if (matches.length === 0) throw new RangeError("expected a condition, got none");
  return matches.length === 1 ? matches[0]! : ({ all: { matches } } as M);
}

/** Registered ones in whatever case they are written; others as they are. */
function methodOf(method: string): NonNullable<RequestMatchShape["method"]> {
  const message = methodMessage(method.toUpperCase());
  return "registered" in message ? message : { unregistered: method };
}

// The exchanges of both sides as taps see them. While nobody taps, nothing watches; the first tap switches it on and
// the last one off.
//
//   begin → (endpoint chosen) → RequestInit → ResponseInit → ResponseEnd
//
// An outbound request is told of once its endpoint is known, or is answered without one.
import { addressOf } from "../../api/address.ts";
import type { MessageOf, Partially } from "../../api/codec.ts";
import { type Headers, methodMessage, schemeMessage } from "../../api/http-types.ts";
import { type TapEvent, TapEventProxyDirection } from "../../api/tap.ts";
import { durationOf } from "../../api/time.ts";
import { ERROR } from "../../http2/frame.ts";
import { PASSPORTS } from "../../rules/passport.ts";
import type { Clock } from "../../util/clock.ts";
import type {
  Exchange,
  ExchangeContext,
  ExchangeEnd,
  ExchangeRecord,
  ExchangeWatch,
  Place,
} from "../http/exchange.ts";
import type { Field, RequestHead, ResponseHead } from "../http/message.ts";
import type { Watches } from "../telemetry/watches.ts";
import { pathOf, type TapFacts } from "./match.ts";
import type { TapStreamId, TapSubscription } from "./subscription.ts";

type Event = Partially<MessageOf<typeof TapEvent>>;

/** Taps at the same time: each is asked about every request. */
const MAX_TAPS = 16;

export class Taps implements ExchangeWatch {
  readonly clock: Clock;
  readonly #sides: readonly Watches[];
  /** Replaced, not changed: it is gone through at each request. */
  #subscriptions: readonly TapSubscription[] = [];
  #off: (() => void)[] = [];

  /** @param sides what watches each of the proxy's sides */
  constructor(sides: readonly Watches[], clock: Clock) {
    this.#sides = sides;
    this.clock = clock;
  }

  get size(): number {
    return this.#subscriptions.length;
  }

  get full(): boolean {
    return this.size >= MAX_TAPS;
  }

  add(subscription: TapSubscription): void {
    this.#subscriptions = [...this.#subscriptions, subscription];
    if (this.size === 1) this.#off = this.#sides.map((side) => side.add(this));
  }

  remove(subscription: TapSubscription): void {
    subscription.close();
    this.#subscriptions = this.#subscriptions.filter((each) => each !== subscription);
    if (this.size === 0) for (const off of this.#off.splice(0)) off();
  }

  begin(exchange: Exchange, context: ExchangeContext): { record: ExchangeRecord } | undefined {
    const inbound = context.direction === "inbound";
    const facts = factsOf(exchange, context, inbound ? { ...context.target, labels: {} } : undefined);
    let wanted: TapSubscription[] | undefined;
    for (const subscription of this.#subscriptions) {
      if (subscription.full || subscription.match(facts) === false) continue;
      wanted ??= [];
      wanted.push(subscription);
    }
    if (!wanted) return undefined;
    const record = new TapRecord(wanted, context, this.clock);
    if (inbound) record.placed(exchange, { ...context.target, labels: {} });
    return { record };
  }
}

function factsOf(exchange: Exchange, context: ExchangeContext, place: Place | undefined): TapFacts {
  return {
    request: exchange.request,
    source: context.client,
    destination: place,
    destinationLabels: place?.labels,
    routeLabels: place && (exchange.routeLabels ?? {}),
  };
}

/** One exchange to one tap. */
interface Told {
  readonly subscription: TapSubscription;
  readonly id: TapStreamId;
  /** An event was lost: it hears no more of it. */
  lost: boolean;
}

class TapRecord implements ExchangeRecord {
  readonly #context: ExchangeContext;
  readonly #clock: Clock;
  /** Whoever may want it; undefined once that is settled. */
  #wanted: readonly TapSubscription[] | undefined;
  #told: Told[] = [];
  /** What all its events say. */
  #base: Event = {};
  #respondedAt: number | undefined;
  #grpcStatus: number | undefined;

  constructor(wanted: readonly TapSubscription[], context: ExchangeContext, clock: Clock) {
    this.#wanted = wanted;
    this.#context = context;
    this.#clock = clock;
  }

  placed(exchange: Exchange, place: Place): void {
    if (this.#wanted) this.#begin(exchange, place, this.#wanted);
  }

  response(exchange: Exchange, head: ResponseHead): void {
    this.#settle(exchange);
    if (this.#told.length === 0) return;
    const grpc = exchange.grpc ? head.get("grpc-status") : undefined;
    if (grpc !== undefined && /^\d{1,3}$/.test(grpc)) this.#grpcStatus = Number(grpc);
    this.#responded(exchange, head.status, (): Field[] => [
      ...(exchange.version === 2 ? [[":status", String(head.status)] as Field] : []),
      ...head.fields(),
    ]);
  }

  end(exchange: Exchange, end: ExchangeEnd): void {
    this.#settle(exchange);
    if (this.#told.length === 0) return;
    const { error, trailers } = end;
    if (error !== undefined) this.#base = withError(this.#base, error);
    // An answer of the proxy's own has no head to show.
    if (this.#respondedAt === undefined && end.status > 0) this.#responded(exchange, end.status, () => []);
    const now = this.#clock.monotonic();
    for (const { subscription, id, lost } of this.#told) {
      if (!lost) {
        const responseEnd = {
          id,
          sinceRequestInit: durationOf(now - exchange.startedAt),
          ...(this.#respondedAt !== undefined && {
            sinceResponseInit: durationOf(now - this.#respondedAt),
          }),
          responseBytes: exchange.responseBytes,
          eos: eosOf(end, this.#grpcStatus),
          ...(subscription.headers && trailers && { trailers: headersOf(trailers) }),
        };
        subscription.emit({ ...this.#base, http: { responseEnd } });
      }
      subscription.release();
    }
    this.#told = [];
  }

  /** Of an exchange that was answered without an endpoint. */
  #settle(exchange: Exchange): void {
    if (this.#wanted) this.#begin(exchange, { ...this.#context.target, labels: {} }, this.#wanted);
  }

  #begin(exchange: Exchange, place: Place, wanted: readonly TapSubscription[]): void {
    this.#wanted = undefined;
    const context = this.#context;
    const facts = factsOf(exchange, context, place);
    for (const subscription of wanted) {
      if (subscription.full || !subscription.match(facts)) continue;
      const id = subscription.take();
      if (id) this.#told.push({ subscription, id, lost: false });
    }
    if (this.#told.length === 0) return;
    this.#base = {
      source: addressOf(context.client.ip, context.client.port),
      sourceMeta: { labels: context.sourceLabels },
      destination: addressOf(place.ip, place.port),
      destinationMeta: { labels: place.labels },
      routeMeta: { labels: exchange.routeLabels ?? {} },
      proxyDirection:
        context.direction === "inbound" ? TapEventProxyDirection.INBOUND : TapEventProxyDirection.OUTBOUND,
    };
    const { request } = exchange;
    const head = {
      method: methodMessage(request.method),
      scheme: schemeMessage(request.scheme),
      authority: request.authority,
      path: pathOf(request),
    };
    this.#emit((id, headers) => ({
      requestInit: { id, ...head, ...(headers && { headers: headersOf(requestFields(exchange)) }) },
    }));
  }

  #responded(exchange: Exchange, httpStatus: number, fields: () => readonly Field[]): void {
    this.#respondedAt = this.#clock.monotonic();
    const sinceRequestInit = durationOf(this.#respondedAt - exchange.startedAt);
    this.#emit((id, headers) => ({
      responseInit: { id, sinceRequestInit, httpStatus, ...(headers && { headers: headersOf(fields()) }) },
    }));
  }

  #emit(event: (id: TapStreamId, headers: boolean) => Event["http"]): void {
    for (const told of this.#told) {
      if (told.lost) continue;
      const { subscription, id } = told;
      told.lost = !subscription.emit({ ...this.#base, http: event(id, subscription.headers) });
    }
  }
}

/** What went wrong, for those who read labels: as the error metrics name it. */
function withError(base: Event, key: NonNullable<ExchangeEnd["error"]>): Event {
  const { code, metric } = PASSPORTS[key];
  return {
    ...base,
    destinationMeta: { labels: { ...base.destinationMeta?.labels, error: metric, code } },
  };
}

function eosOf({ complete, resetCode, error, grpcStatus }: ExchangeEnd, inHead: number | undefined) {
  if (complete) {
    const grpcStatusCode = grpcStatus ?? inHead;
    return grpcStatusCode === undefined ? {} : { grpcStatusCode };
  }
  // Without a word of HTTP/2's: it broke on our side, or the client has gone.
  return { resetErrorCode: resetCode ?? (error === undefined ? ERROR.CANCEL : ERROR.INTERNAL_ERROR) };
}

function requestFields({ version, request }: Exchange): Field[] {
  const { method, scheme, authority, path } = request satisfies RequestHead;
  if (version === 1) return [["host", authority], ...request.fields()];
  return [
    [":method", method],
    [":scheme", scheme],
    [":authority", authority],
    [":path", path],
    ...request.fields(),
  ];
}

function headersOf(fields: readonly Field[]): MessageOf<typeof Headers> {
  return { headers: fields.map(([name, value]) => ({ name, value: Buffer.from(value, "latin1") })) };
}

// What watches the exchanges of one side: access log, traces, taps. Nothing is paid while nothing does.
import { mergeEdits } from "../http/edits.ts";
import type { Exchange, ExchangeContext, ExchangeRecord, ExchangeWatch } from "../http/exchange.ts";
import { NO_EDITS, type RequestEdits, type ResponseHead } from "../http/message.ts";

export class Watches {
  #all: readonly ExchangeWatch[] = [];
  #current: ExchangeWatch | undefined;

  /** All that is on, as one; undefined when nothing is. */
  get current(): ExchangeWatch | undefined {
    return this.#current;
  }

  /** @returns takes it off again */
  add(watch: ExchangeWatch): () => void {
    this.#set([...this.#all, watch]);
    return () => this.#set(this.#all.filter((each) => each !== watch));
  }

  #set(all: readonly ExchangeWatch[]): void {
    this.#all = all;
    this.#current = all.length > 1 ? new Combined(all) : all[0];
  }
}

class Combined implements ExchangeWatch {
  readonly #watches: readonly ExchangeWatch[];

  constructor(watches: readonly ExchangeWatch[]) {
    this.#watches = watches;
  }

  begin(
    exchange: Exchange,
    context: ExchangeContext,
  ): { record: ExchangeRecord; edits: RequestEdits } | undefined {
    const records: ExchangeRecord[] = [];
    let edits = NO_EDITS;
    for (const watch of this.#watches) {
      const watching = watch.begin(exchange, context);
      if (!watching) continue;
      records.push(watching.record);
      edits = mergeEdits(edits, watching.edits);
    }
    if (records.length === 0) return undefined;
    return { record: records.length === 1 ? records[0]! : new CombinedRecord(records), edits };
  }
}

class CombinedRecord implements ExchangeRecord {
  readonly #records: readonly ExchangeRecord[];

  constructor(records: readonly ExchangeRecord[]) {
    this.#records = records;
  }

  response(exchange: Exchange, head: ResponseHead): void {
    for (const record of this.#records) record.response(exchange, head);
  }

  end(...args: Parameters<ExchangeRecord["end"]>): void {
    for (const record of this.#records) record.end(...args);
  }
}

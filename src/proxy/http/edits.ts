// Edits of several parties to one request, as one.
import { NO_EDITS, type RequestEdits } from "./message.ts";

/** First `a`'s, then `b`'s. */
export function mergeEdits(a: RequestEdits, b: RequestEdits | undefined): RequestEdits {
  if (b === undefined || b === NO_EDITS) return a;
  if (a === NO_EDITS) return b;
  return {
    fields: [...a.fields, ...b.fields],
    path: b.path ?? a.path,
    authority: b.authority ?? a.authority,
  };
}

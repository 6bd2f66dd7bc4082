// How long a server asks to be left alone (RFC 9110 §10.2.3).

/**
 * The wait that a Retry-After field asks for, ms, never negative; undefined when there is none that can be read.
 * @param now wall time, ms since the epoch, for the form that is a date
 */
export function retryAfterMs(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1_000;
  // Only the one date format that senders may use: Date.parse takes much else for a date.
  if (!/^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(value)) return undefined;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}

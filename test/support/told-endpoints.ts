// What a proxy makes of the destination service's messages.
import { addressText } from "../../src/api/address.ts";
import type { MessageOf } from "../../src/api/codec.ts";
import type { Update } from "../../src/api/destination.ts";

/** Endpoints after these messages: address → the value of a label, sorted by address. */
export function toldEndpoints(
  messages: readonly MessageOf<typeof Update>[],
  label: "pod" | "serviceaccount",
): Record<string, string> {
  const known = new Map<string, string>();
  for (const { add, remove, noEndpoints } of messages) {
    for (const { addr, metricLabels } of add?.addrs ?? [])
      known.set(addressText(addr)!.ip, metricLabels[label] ?? "");
    for (const address of remove?.addrs ?? []) known.delete(addressText(address)!.ip);
    if (noEndpoints) known.clear();
  }
  return Object.fromEntries([...known].sort(([a], [b]) => (a < b ? -1 : 1)));
}

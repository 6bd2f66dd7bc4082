// The endpoints of one destination, as the control plane's streams tell of them. A stream tells what it knows first, in
// one message or, of many endpoints, in several; nothing marks the last of these. So what the stream before had told
// stays in use beside, until the new one has told all: a service must not shrink to its first few hundred endpoints
// whenever a control plane is restarted.
import { addressKey, addressText } from "../../api/address.ts";
import type { MessageOf } from "../../api/codec.ts";
import type { Update } from "../../api/destination.ts";
import type { EndpointSet, WeightedAddr } from "../ports.ts";

export const NO_ENDPOINTS: EndpointSet = { exists: false, endpoints: new Map(), metricLabels: {} };

export class EndpointUpdates {
  /** By the stream at hand. */
  #told = NO_ENDPOINTS;
  /** What was known when it began, until it has told all. */
  #before: EndpointSet | undefined;

  /**
   * @param fresh it is the first message of a stream
   * @param known what holds so far
   */
  take(update: MessageOf<typeof Update>, fresh: boolean, known: EndpointSet | undefined): EndpointSet {
    if (fresh) {
      this.#before = known && known.endpoints.size > 0 ? known : undefined;
      this.#told = NO_ENDPOINTS;
    }
    this.#told = applyUpdate(this.#told, update);
    if (update.noEndpoints) this.#before = undefined;
    else if (update.remove && this.#before)
      this.#before = applyUpdate(this.#before, { remove: update.remove });
    const told = this.#told;
    if (!this.#before) return told;
    return { ...told, endpoints: new Map([...this.#before.endpoints, ...told.endpoints]) };
  }

  /** The stream has told all that it knew: what it did not name is gone. */
  settle(): EndpointSet {
    this.#before = undefined;
    return this.#told;
  }
}

/** The set after an update; a new object, so that holders of the old one see no change under their hands. */
export function applyUpdate(set: EndpointSet, update: MessageOf<typeof Update>): EndpointSet {
  if (update.noEndpoints)
    return { exists: update.noEndpoints.exists, endpoints: new Map(), metricLabels: set.metricLabels };
  const endpoints = new Map<string, WeightedAddr>(set.endpoints);
  let { metricLabels } = set;
  if (update.add) {
    metricLabels = update.add.metricLabels;
    for (const endpoint of update.add.addrs) {
      const at = addressText(endpoint.addr);
      if (at) endpoints.set(addressKey(at.ip, at.port), endpoint);
    }
  }
  for (const address of update.remove?.addrs ?? []) {
    const at = addressText(address);
    if (at) endpoints.delete(addressKey(at.ip, at.port));
  }
  return { exists: true, endpoints, metricLabels };
}

// What all routed requests of the outbound side may hold together beyond their own way: requests that are delayed, and
// copies for mirrors.

/** Requests held back at a time; further ones go on at once. */
const MAX_DELAYED = 10_000;
/** Copies under way at a time. */
const MAX_MIRRORS = 1_000;
/** Of all their bodies, what waits for mirrors that are slow, bytes. */
const MAX_MIRROR_BYTES = 4 * 1024 * 1024;

export class RouteLimits {
  readonly maxDelayed = MAX_DELAYED;
  readonly maxMirrors: number;
  readonly maxMirrorBytes = MAX_MIRROR_BYTES;
  delayed = 0;
  mirrors = 0;
  mirrorBytes = 0;

  /** @param maxInFlight requests that the side takes: copies use a small part of what is there for originals */
  constructor(maxInFlight: number) {
    this.maxMirrors = Math.max(1, Math.min(MAX_MIRRORS, Math.floor(maxInFlight / 10)));
  }
}

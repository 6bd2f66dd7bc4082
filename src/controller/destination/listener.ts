// Who asks, and how it is told.

/** Who asks: what its context token says of it. */
export interface Client {
  readonly namespace?: string | undefined;
  readonly pod?: string | undefined;
  readonly nodeName?: string | undefined;
}

/**
 * Told of a value, and of each that follows. One may listen for many, and is then told for whom: whatever was given as
 * the `key` of the subscription.
 */
export interface Listener<T> {
  /** @param first it is what there is now; what comes later is a change */
  update(value: T, key: unknown, first: boolean): void;
}

export interface Subscription {
  close(): void;
}

// Who asks, and how it is told.

/** Who asks: what its context token says of it. */
export interface Client {
  readonly namespace?: string | undefined;
  readonly pod?: string | undefined;
  readonly nodeName?: string | undefined;
}

/** Told of a value, and of each that follows. An object: there are many of them. */
export interface Listener<T> {
  update(value: T): void;
}

export interface Subscription {
  close(): void;
}

// google.protobuf.Duration and Timestamp
import { int32, int64, type MessageOf, message } from "./codec.ts";

export const Duration = message("google.protobuf.Duration", { seconds: int64(1), nanos: int32(2) });
export const Timestamp = message("google.protobuf.Timestamp", { seconds: int64(1), nanos: int32(2) });

type Parts = MessageOf<typeof Duration>;

const split = (ms: number): Parts => {
  const seconds = Math.trunc(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
};

/** A duration of `ms` milliseconds. */
export const durationOf = (ms: number): Parts => split(ms);
/** Milliseconds, with fractions. */
export const durationMs = (duration: Parts): number => duration.seconds * 1000 + duration.nanos / 1e6;
/** A timestamp from ms since the epoch, not before it. */
export const timestampOf = (ms: number): Parts => split(ms);
/** ms since the epoch. */
export const timestampMs = durationMs;

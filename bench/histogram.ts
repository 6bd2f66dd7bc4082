// Latencies, counted in buckets that are fine where values are small: after HdrHistogram (http://hdrhistogram.org).
// 256 buckets for each doubling keep every value to within 0.4 %, from 1 µs to half an hour, in 60 KB.

const BITS = 8;
const HALF = 1 << (BITS - 1);
const BUCKETS = (32 - BITS + 2) * HALF;
const MAX = 2 ** 31 - 1;

/** Bucket counts that are not 0, by bucket; what a histogram travels as between processes. */
export type Counts = readonly (readonly [bucket: number, count: number])[];

/** µs */
export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
}

export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;

  static of(counts: Counts): Histogram {
    const histogram = new Histogram();
    for (const [bucket, count] of counts) histogram.#add(bucket, count);
    return histogram;
  }

  get count(): number {
    return this.#count;
  }

  /** @param us microseconds; fractions are dropped, negative values count as 0 */
  record(us: number): void {
    this.#add(bucketOf(us < 0 ? 0 : us > MAX ? MAX : Math.floor(us)), 1);
  }

  /** Takes in all that another holds: percentiles of several rounds come from their pooled samples. */
  merge(other: Histogram): void {
    for (const [bucket, count] of other.counts()) this.#add(bucket, count);
  }

  /**
   * The smallest value that at least `percent` % of all are not above, µs, as the upper end of its bucket.
   * @returns NaN when there are none
   */
  percentile(percent: number): number {
    if (this.#count === 0) return Number.NaN;
    // Rounding must not ask for one sample more than there is: 99.9 % of 1000 is 999.
    const wanted = Math.max(1, Math.ceil((percent / 100) * this.#count - 1e-6));
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      seen += this.#counts[bucket]!;
      if (seen >= wanted) return upperEnd(bucket);
    }
    return upperEnd(BUCKETS - 1);
  }

  /** Those that tables have, µs. */
  percentiles(): Percentiles {
    const [p50, p90, p99, p999] = [50, 90, 99, 99.9].map((percent) => this.percentile(percent));
    return { p50: p50!, p90: p90!, p99: p99!, p999: p999! };
  }

  counts(): Counts {
    const counts: [number, number][] = [];
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      const count = this.#counts[bucket]!;
      if (count > 0) counts.push([bucket, count]);
    }
    return counts;
  }

  #add(bucket: number, count: number): void {
    this.#counts[bucket]! += count;
    this.#count += count;
  }
}

/** Values below 2^BITS have a bucket each; above, the highest BITS bits name it. */
function bucketOf(value: number): number {
  const shift = Math.max(0, 32 - BITS - Math.clz32(value));
  return shift * HALF + (value >>> shift);
}

function upperEnd(bucket: number): number {
  if (bucket < 2 * HALF) return bucket;
  const shift = Math.floor(bucket / HALF) - 1;
  return (bucket - shift * HALF + 1) * 2 ** shift - 1;
}

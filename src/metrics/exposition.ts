// Writes the Prometheus text format (0.0.4) as bytes, piece by piece: ten thousand series are tens of megabytes, which
// nobody should hold at once, nor make in one go.

/** Bytes of a piece; a line that needs more gets a piece of its own size. */
const PIECE = 64 * 1024;
/** The most that a number takes: sign, 17 digits, point, exponent. */
const NUMBER = 32;

/** A family as its lines need it, made once. */
export interface FamilyText {
  /** `# HELP` and `# TYPE`. */
  readonly head: Buffer;
  /** `name`, and of histograms `name_bucket{`, `name_sum`, `name_count`. */
  readonly name: Buffer;
  readonly bucket: Buffer;
  readonly sum: Buffer;
  readonly count: Buffer;
  /** `le="…"} ` by bucket, +Inf last. */
  readonly bounds: readonly Buffer[];
}

export function familyText(
  name: string,
  help: string,
  type: "counter" | "gauge" | "histogram",
  bounds: readonly number[],
): FamilyText {
  const text = help.replace(/[\\\n]/g, (c) => (c === "\n" ? "\\n" : "\\\\"));
  const upper = type === "histogram" ? [...bounds, Number.POSITIVE_INFINITY] : [];
  return {
    head: Buffer.from(`# HELP ${name} ${text}\n# TYPE ${name} ${type}\n`),
    name: Buffer.from(name),
    bucket: Buffer.from(`${name}_bucket{`),
    sum: Buffer.from(`${name}_sum`),
    count: Buffer.from(`${name}_count`),
    bounds: upper.map((bound) => Buffer.from(`le="${formatNumber(bound)}"} `)),
  };
}

/** Gathers lines; whoever writes asks for `full` from time to time and takes the piece. */
export class ExpositionWriter {
  #out = Buffer.allocUnsafe(PIECE);
  #at = 0;
  /** Pieces that are full. */
  readonly #done: Buffer[] = [];

  /** A piece that is full; undefined while there is none. */
  take(): Buffer | undefined {
    return this.#done.shift();
  }

  /** The last piece, which may be empty. */
  finish(): Buffer {
    return this.#out.subarray(0, this.#at);
  }

  head({ head }: FamilyText): void {
    this.#room(head.length);
    this.#copy(head);
  }

  /** @param labels rendered, without braces */
  sample(name: Buffer, labels: string, value: number): void {
    this.#room(name.length + 3 * labels.length + NUMBER + 4);
    this.#copy(name);
    if (labels !== "") {
      this.#byte(0x7b);
      this.#text(labels);
      this.#byte(0x7d);
    }
    this.#byte(0x20);
    this.#number(value);
    this.#byte(0x0a);
  }

  /** @param values the buckets' counts, +Inf last, then the sum */
  histogram(text: FamilyText, labels: string, values: Float64Array): void {
    const { bucket, bounds } = text;
    const line = bucket.length + 3 * labels.length + 1 + NUMBER + NUMBER + 8;
    let cumulative = 0;
    // From the second line on what they begin with is copied from the line before.
    let size = 0;
    let before = 0;
    for (let i = 0; i < bounds.length; i += 1) {
      const out = this.#out;
      this.#room(line);
      const start = this.#at;
      if (size > 0 && out === this.#out) {
        out.copyWithin(start, before, before + size);
        this.#at = start + size;
      } else {
        this.#copy(bucket);
        if (labels !== "") {
          this.#text(labels);
          this.#byte(0x2c);
        }
        size = this.#at - start;
      }
      before = start;
      cumulative += values[i]!;
      this.#copyShort(bounds[i]!);
      this.#number(cumulative);
      this.#byte(0x0a);
    }
    this.sample(text.sum, labels, values[bounds.length]!);
    this.sample(text.count, labels, cumulative);
  }

  #room(size: number): void {
    if (this.#at + size <= this.#out.length) return;
    if (this.#at > 0) this.#done.push(this.#out.subarray(0, this.#at));
    this.#out = Buffer.allocUnsafe(Math.max(PIECE, size));
    this.#at = 0;
  }

  #byte(value: number): void {
    this.#out[this.#at] = value;
    this.#at += 1;
  }

  #copy(bytes: Buffer): void {
    this.#out.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** A loop beats a call for a dozen bytes. */
  #copyShort(bytes: Buffer): void {
    const out = this.#out;
    let at = this.#at;
    for (let i = 0; i < bytes.length; i += 1) out[at++] = bytes[i]!;
    this.#at = at;
  }

  #text(text: string): void {
    this.#at += this.#out.write(text, this.#at, "utf8");
  }

  #number(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
      this.#at += this.#out.write(formatNumber(value), this.#at, "latin1");
      return;
    }
    let digits = 1;
    for (let bound = 10; bound <= value; bound *= 10) digits += 1;
    const out = this.#out;
    let rest = value;
    for (let at = this.#at + digits - 1; at >= this.#at; at -= 1) {
      const next = Math.floor(rest / 10);
      out[at] = 0x30 + (rest - next * 10);
      rest = next;
    }
    this.#at += digits;
  }
}

function formatNumber(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  return String(value);
}

/**
 * Label pairs as they stand between braces; undefined values are left out. Joined, not added up: a string that was added
 * up keeps every step of it for as long as it lives, four times what it says.
 */
export function renderLabels(labels: Readonly<Record<string, string | number | undefined>>): string {
  const pairs: string[] = [];
  for (const name in labels) {
    const value = labels[name];
    if (value === undefined) continue;
    const text = String(value);
    const safe = /[\\"\n]/.test(text)
      ? text.replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`))
      : text;
    pairs.push(`${name}="${safe}"`);
  }
  return pairs.join(",");
}

// Regular expressions of routes, matched in time linear in the text whatever the expression: they are written by users
// of the cluster and run on every request, where a backtracking engine could be made to stand still.
//
//   pattern → syntax tree → NFA → DFA, made state by state as texts need them
//
// The language is that of Rust's `regex`, as the control plane's checks it, without what no automaton over bytes
// does: word boundaries, look-around, back references and Unicode classes are refused with a reason. An expression
// must match the whole text.
import { PolicyError } from "./policy-error.ts";

/** Most characters of a pattern, states of its automaton, and states of the DFA that are kept. */
const MAX_PATTERN = 1_024;
const MAX_STATES = 4_000;
const MAX_CACHED = 256;

export class RegexError extends PolicyError {
  constructor(message: string) {
    super(message);
    this.name = "RegexError";
  }
}

/** Which of the 256 bytes a position takes. */
type ByteSet = Uint8Array;

type Node =
  | { readonly kind: "set"; readonly set: ByteSet }
  | { readonly kind: "all" | "any"; readonly parts: readonly Node[] }
  | { readonly kind: "repeat"; readonly node: Node; readonly min: number; readonly max: number };

const EMPTY: Node = { kind: "all", parts: [] };

export interface Regex {
  /** Whether all of `text` (bytes, as latin1) matches. */
  matches(text: string): boolean;
}

/** @throws RegexError for a pattern that is malformed, too large or not to be had */
export function compileRegex(pattern: string): Regex {
  if (pattern.length > MAX_PATTERN)
    throw new RegexError(`the expression has ${pattern.length} characters, at most ${MAX_PATTERN} are taken`);
  return new Automaton(new Parser(Buffer.from(pattern, "utf8").toString("latin1")).parse());
}

// ── Syntax ────────────────────────────────────────────────────────────────────────────────────────────────────

const ranges = (...pairs: readonly (readonly [number, number])[]): ByteSet => {
  const set = new Uint8Array(256);
  for (const [from, to] of pairs) set.fill(1, from, to + 1);
  return set;
};
const DIGIT = ranges([0x30, 0x39]);
const WORD = ranges([0x30, 0x39], [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]);
const SPACE = ranges([0x09, 0x0d], [0x20, 0x20]);
const not = (set: ByteSet): ByteSet => set.map((bit) => 1 - bit);
const CLASSES: Readonly<Record<string, ByteSet>> = {
  d: DIGIT,
  D: not(DIGIT),
  w: WORD,
  W: not(WORD),
  s: SPACE,
  S: not(SPACE),
};
const POSIX: Readonly<Record<string, ByteSet>> = {
  alnum: ranges([0x30, 0x39], [0x41, 0x5a], [0x61, 0x7a]),
  alpha: ranges([0x41, 0x5a], [0x61, 0x7a]),
  digit: DIGIT,
  lower: ranges([0x61, 0x7a]),
  space: SPACE,
  upper: ranges([0x41, 0x5a]),
  word: WORD,
  xdigit: ranges([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]),
};
const ESCAPES: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11, a: 7 };

interface Flags {
  readonly insensitive: boolean;
  readonly dotAll: boolean;
}

class Parser {
  readonly #text: string;
  #at = 0;
  #flags: Flags = { insensitive: false, dotAll: false };

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Node {
    const node = this.#alternatives();
    if (this.#at < this.#text.length) throw new RegexError(`unmatched ")" at ${this.#at}`);
    return node;
  }

  #peek(): string | undefined {
    return this.#text[this.#at];
  }

  #next(expected: string): string {
    const char = this.#text[this.#at];
    if (char === undefined) throw new RegexError(`the expression ends where ${expected} is expected`);
    this.#at += 1;
    return char;
  }

  #eat(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #alternatives(): Node {
    const parts = [this.#sequence()];
    while (this.#eat("|")) parts.push(this.#sequence());
    return parts.length === 1 ? parts[0]! : { kind: "any", parts };
  }

  #sequence(): Node {
    const parts: Node[] = [];
    for (let char = this.#peek(); char !== undefined && char !== "|" && char !== ")"; char = this.#peek()) {
      // The whole text must match anyway, so anchors at its ends say nothing; elsewhere they could never hold.
      if (char === "^" || this.#text.startsWith("\\A", this.#at)) {
        if (parts.length > 0) throw new RegexError(`an anchor inside the expression at ${this.#at}`);
        this.#at += char === "^" ? 1 : 2;
        continue;
      }
      if (char === "$" || this.#text.startsWith("\\z", this.#at)) {
        this.#at += char === "$" ? 1 : 2;
        const after = this.#peek();
        if (after !== undefined && after !== "|" && after !== ")")
          throw new RegexError(`an anchor inside the expression at ${this.#at}`);
        continue;
      }
      parts.push(this.#quantified());
    }
    return parts.length === 1 ? parts[0]! : { kind: "all", parts };
  }

  #quantified(): Node {
    let node = this.#atom();
    for (;;) {
      const [min, max] = this.#quantifier() ?? [-1, -1];
      if (min < 0) return node;
      // Whether it takes much or little makes no difference to whether it matches.
      this.#eat("?");
      node = { kind: "repeat", node, min, max };
    }
  }

  #quantifier(): readonly [number, number] | undefined {
    if (this.#eat("*")) return [0, Number.POSITIVE_INFINITY];
    if (this.#eat("+")) return [1, Number.POSITIVE_INFINITY];
    if (this.#eat("?")) return [0, 1];
    if (this.#peek() !== "{") return undefined;
    const match = /^\{(\d{1,4})(?:(,)(\d{1,4})?)?\}/.exec(this.#text.slice(this.#at));
    if (!match) throw new RegexError(`malformed repetition at ${this.#at}`);
    this.#at += match[0].length;
    const min = Number(match[1]);
    const max = match[3] !== undefined ? Number(match[3]) : match[2] ? Number.POSITIVE_INFINITY : min;
    if (max < min) throw new RegexError(`repetition {${min},${max}} counts down`);
    return [min, max];
  }

  #atom(): Node {
    const at = this.#at;
    const char = this.#next("an expression");
    switch (char) {
      case "(":
        return this.#group();
      case "[":
        return this.#set(this.#bracket());
      case ".":
        return { kind: "set", set: this.#flags.dotAll ? not(new Uint8Array(256)) : not(ranges([10, 10])) };
      case "\\":
        return this.#set(this.#escape());
      case "*":
      case "+":
      case "?":
      case "{":
        throw new RegexError(`nothing to repeat at ${at}`);
      default:
        return this.#set(ranges([char.charCodeAt(0), char.charCodeAt(0)]));
    }
  }

  #group(): Node {
    const outer = this.#flags;
    if (this.#eat("?")) {
      if (!/^(P?<[A-Za-z_]\w*>)/.test(this.#text.slice(this.#at))) {
        const match = /^([is]*)(?:-([is]*))?([:)])/.exec(this.#text.slice(this.#at));
        if (!match) throw new RegexError(`this kind of group is not supported at ${this.#at}`);
        this.#at += match[0].length;
        const on = (flag: string, before: boolean) =>
          (before || match[1]!.includes(flag)) && !match[2]?.includes(flag);
        this.#flags = { insensitive: on("i", outer.insensitive), dotAll: on("s", outer.dotAll) };
        // `(?i)` holds for the rest of the group that it stands in.
        if (match[3] === ")") return EMPTY;
      } else this.#at = this.#text.indexOf(">", this.#at) + 1;
    }
    const node = this.#alternatives();
    if (!this.#eat(")")) throw new RegexError('a group without its ")"');
    this.#flags = outer;
    return node;
  }

  #escape(): ByteSet {
    const char = this.#next("a character after the backslash");
    const known = CLASSES[char];
    if (known) return known;
    if (char === "x") {
      const match = /^(?:([0-9a-fA-F]{2})|\{([0-9a-fA-F]{1,2})\})/.exec(this.#text.slice(this.#at));
      if (!match) throw new RegexError(`\\x without two hexadecimal digits at ${this.#at}`);
      this.#at += match[0].length;
      const byte = Number.parseInt((match[1] ?? match[2])!, 16);
      return ranges([byte, byte]);
    }
    const code = ESCAPES[char] ?? (/[^0-9A-Za-z<>]/.test(char) ? char.charCodeAt(0) : -1);
    if (code < 0) throw new RegexError(`\\${char} is not supported`);
    return ranges([code, code]);
  }

  #bracket(): ByteSet {
    const negated = this.#eat("^");
    const set = new Uint8Array(256);
    const join = (other: ByteSet) =>
      other.forEach((bit, byte) => {
        if (bit) set[byte] = 1;
      });
    for (let first = true; first || this.#peek() !== "]"; first = false) {
      const posix = /^\[:(\^?)(\w+):\]/.exec(this.#text.slice(this.#at));
      if (posix) {
        const known = POSIX[posix[2]!];
        if (!known) throw new RegexError(`unknown class ${posix[0]}`);
        this.#at += posix[0].length;
        join(posix[1] ? not(known) : known);
        continue;
      }
      if (this.#peek() === "[" || this.#text.startsWith("&&", this.#at))
        throw new RegexError(`classes within classes are not supported at ${this.#at}`);
      const from = this.#member();
      const after = this.#text[this.#at + 1];
      if (this.#peek() !== "-" || after === "]" || after === undefined) {
        join(from);
        continue;
      }
      this.#at += 1;
      const [low, high] = [from.indexOf(1), this.#member().indexOf(1)];
      if (high < low) throw new RegexError("a range of characters that counts down");
      join(ranges([low, high]));
    }
    this.#at += 1;
    const cased = this.#flags.insensitive ? insensitive(set) : set;
    return negated ? not(cased) : cased;
  }

  #member(): ByteSet {
    const char = this.#next('"]"');
    if (char === "\\") return this.#escape();
    return ranges([char.charCodeAt(0), char.charCodeAt(0)]);
  }

  #set(set: ByteSet): Node {
    return { kind: "set", set: this.#flags.insensitive ? insensitive(set) : set };
  }
}

function insensitive(set: ByteSet): ByteSet {
  const out = Uint8Array.from(set);
  for (let upper = 0x41; upper <= 0x5a; upper += 1) {
    const either = set[upper]! | set[upper + 0x20]!;
    out[upper] = either;
    out[upper + 0x20] = either;
  }
  return out;
}

// ── Automaton ─────────────────────────────────────────────────────────────────────────────────────────────────

/** A state of the NFA: takes a byte of `set` to go to `to`, or goes to all of `free` without one. */
interface State {
  readonly set: ByteSet | undefined;
  readonly to: number;
  readonly free: readonly number[];
}

/** A state of the DFA: the NFA's states that the text so far may be in. */
interface Combined {
  readonly states: readonly number[];
  readonly accepts: boolean;
  readonly next: (Combined | undefined)[];
}

const ACCEPT = 0;

class Automaton implements Regex {
  readonly #states: State[] = [{ set: undefined, to: -1, free: [] }];
  readonly #start: number;
  #cache = new Map<string, Combined>();
  #first: Combined;

  constructor(node: Node) {
    this.#start = this.#build(node, ACCEPT);
    this.#first = this.#combine([this.#start]);
  }

  matches(text: string): boolean {
    let state = this.#first;
    for (let i = 0; i < text.length; i += 1) {
      const byte = text.charCodeAt(i) & 0xff;
      const next = state.next[byte] ?? this.#step(state, byte);
      if (next.states.length === 0 && !next.accepts) return false;
      state = next;
    }
    return state.accepts;
  }

  #add(state: State): number {
    if (this.#states.length >= MAX_STATES) throw new RegexError("the expression's repetitions are too large");
    this.#states.push(state);
    return this.#states.length - 1;
  }

  /** Adds states that match `node` and go on to `then`; returns the first. */
  #build(node: Node, then: number): number {
    switch (node.kind) {
      case "set":
        return this.#add({ set: node.set, to: then, free: [] });
      case "all":
        return node.parts.reduceRight((next, part) => this.#build(part, next), then);
      case "any":
        return this.#add({ set: undefined, to: -1, free: node.parts.map((part) => this.#build(part, then)) });
      default:
        return this.#repeat(node, then);
    }
  }

  #repeat({ node, min, max }: Node & { kind: "repeat" }, then: number): number {
    let start = then;
    if (max === Number.POSITIVE_INFINITY) {
      const free: number[] = [];
      start = this.#add({ set: undefined, to: -1, free });
      free.push(this.#build(node, start), then);
    } else {
      for (let i = min; i < max; i += 1)
        start = this.#add({ set: undefined, to: -1, free: [this.#build(node, start), then] });
    }
    for (let i = 0; i < min; i += 1) start = this.#build(node, start);
    return start;
  }

  #step(from: Combined, byte: number): Combined {
    const reached: number[] = [];
    for (const index of from.states) {
      const { set, to } = this.#states[index]!;
      if (set?.[byte]) reached.push(to);
    }
    const next = this.#combine(reached);
    from.next[byte] = next;
    return next;
  }

  /** The state of being in any of `starts`, or wherever they lead without a byte. */
  #combine(starts: readonly number[]): Combined {
    const seen = new Set<number>();
    const open = [...starts];
    for (let index = open.pop(); index !== undefined; index = open.pop()) {
      if (seen.has(index)) continue;
      seen.add(index);
      open.push(...this.#states[index]!.free);
    }
    const states = [...seen].filter((index) => this.#states[index]!.set).sort((a, b) => a - b);
    const accepts = seen.has(ACCEPT);
    const key = `${accepts ? "!" : ""}${states.join(",")}`;
    let combined = this.#cache.get(key);
    if (!combined) {
      // Texts that go everywhere must not make the proxy remember everything: begin anew.
      if (this.#cache.size >= MAX_CACHED) this.#forget();
      combined = { states, accepts, next: [] };
      this.#cache.set(key, combined);
    }
    return combined;
  }

  #forget(): void {
    this.#cache = new Map();
    for (const key of this.#first.next.keys()) this.#first.next[key] = undefined;
    this.#cache.set("first", this.#first);
  }
}

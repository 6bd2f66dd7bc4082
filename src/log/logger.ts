// Structured log lines for the long-running processes: one line an event on stderr, plain or JSON.

export const LEVELS = ["trace", "debug", "info", "warn", "error", "off"] as const;
export type Level = (typeof LEVELS)[number];
export type Format = "plain" | "json";
export type Fields = Record<string, string | number | boolean | undefined>;

export interface Logger {
  readonly level: Level;
  trace(message: string, fields?: Fields): void;
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** Whether a line of this level is written: ask before building costly fields. */
  enabled(level: Level): boolean;
  /** The same log with fields added to each line. */
  child(fields: Fields): Logger;
  setLevel(level: Level): void;
  /**
   * Gives `fn` each record from this level up as a line of JSON, whatever is written elsewhere.
   * @returns stops it
   */
  listen(level: Level, fn: (line: string) => void): () => void;
}

export interface LoggerOptions {
  level?: Level;
  format?: Format;
  write?: (line: string) => void;
  now?: () => number;
}

/**
 * Reads a log filter as LINKERD2_PROXY_LOG writes it (`warn,linkerd=info,hickory=error`): the most verbose of
 * the bare level and the `linkerd` one. Unknown text means `info`.
 */
export function parseLevel(filter: string | undefined): Level {
  let best: number | undefined;
  for (const part of (filter ?? "").split(",")) {
    const [target, named] = part.includes("=") ? part.split("=", 2) : [undefined, part];
    const index = LEVELS.indexOf((named ?? "").trim().toLowerCase() as Level);
    if (index < 0 || (target !== undefined && !/^(linkerd|mesh)/.test(target.trim()))) continue;
    best = best === undefined ? index : Math.min(best, index);
  }
  return LEVELS[best ?? 2] as Level;
}

export function createLogger(options: LoggerOptions = {}): Logger {
  const state: State = {
    rank: LEVELS.indexOf(options.level ?? "info"),
    format: options.format ?? "plain",
    write: options.write ?? ((line: string) => void process.stderr.write(line)),
    now: options.now ?? Date.now,
    listeners: [],
  };
  return withFields(state, {});
}

type Listener = { readonly rank: number; readonly fn: (line: string) => void };
type State = {
  rank: number;
  format: Format;
  write: (line: string) => void;
  now: () => number;
  /** Replaced, not changed: whoever is called may go. */
  listeners: readonly Listener[];
};

function withFields(state: State, base: Fields): Logger {
  const wanted = (rank: number) =>
    rank >= state.rank || state.listeners.some((listener) => rank >= listener.rank);
  const emit = (rank: number, message: string, fields: Fields | undefined) => {
    if (!wanted(rank)) return;
    const time = new Date(state.now()).toISOString();
    const all = fields ? { ...base, ...fields } : base;
    const level = (LEVELS[rank] as string).toUpperCase();
    const json = () => `${JSON.stringify({ timestamp: time, level, message, ...all })}\n`;
    if (rank >= state.rank)
      state.write(
        state.format === "json" ? json() : `${time} ${level.padEnd(5)} ${message}${plainFields(all)}\n`,
      );
    for (const listener of state.listeners) if (rank >= listener.rank) listener.fn(json());
  };
  return {
    get level() {
      return LEVELS[state.rank] as Level;
    },
    trace: (message, fields) => emit(0, message, fields),
    debug: (message, fields) => emit(1, message, fields),
    info: (message, fields) => emit(2, message, fields),
    warn: (message, fields) => emit(3, message, fields),
    error: (message, fields) => emit(4, message, fields),
    enabled: (level) => wanted(LEVELS.indexOf(level)),
    child: (fields) => withFields(state, { ...base, ...fields }),
    setLevel: (level) => {
      state.rank = LEVELS.indexOf(level);
    },
    listen: (level, fn) => {
      const listener = { rank: LEVELS.indexOf(level), fn };
      state.listeners = [...state.listeners, listener];
      return () => {
        state.listeners = state.listeners.filter((each) => each !== listener);
      };
    },
  };
}

function plainFields(fields: Fields): string {
  let out = "";
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const text = String(value);
    out += ` ${key}=${/^[^\s"=\x00-\x1f]+$/.test(text) ? text : JSON.stringify(text)}`;
  }
  return out;
}

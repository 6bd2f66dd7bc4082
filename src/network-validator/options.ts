// The validator's command line, with Linkerd's flags.
import { parseArgs } from "node:util";
import { type Format, LEVELS, type Level } from "../log/logger.ts";
import { parseDuration } from "../util/duration.ts";
import { parseIp } from "../util/ip.ts";

export interface Address {
  readonly host: string;
  readonly port: number;
  /** As it was written. */
  readonly text: string;
}

export interface ValidatorOptions {
  readonly listen: Address;
  /** Nobody must answer there but the validator by way of the redirect. */
  readonly connect: Address;
  /** ms */
  readonly timeout: number;
  readonly logLevel: Level;
  readonly logFormat: Format;
}

/** Of the networks reserved for examples (RFC 5737, RFC 3849), so that a broken node's probes reach nobody. */
const NOWHERE = { 4: "192.0.2.1:20001", 6: "[2001:db8::1]:20001" } as const;

const text = { type: "string" } as const;
const FLAGS = {
  "listen-addr": text,
  "connect-addr": text,
  timeout: text,
  "log-level": text,
  "log-format": text,
} as const;

/** @throws RangeError or TypeError that names the flag */
export function parseOptions(argv: readonly string[]): ValidatorOptions {
  const { values } = parseArgs({ args: [...argv], options: FLAGS, strict: true, allowPositionals: false });
  const named = <T>(flag: keyof typeof FLAGS, fallback: string, parse: (text: string) => T): T => {
    try {
      return parse(values[flag] ?? fallback);
    } catch (cause) {
      throw new RangeError(`--${flag}: ${(cause as Error).message}`, { cause });
    }
  };
  const listen = named("listen-addr", "0.0.0.0:4140", parseAddress);
  // A listener of both families hears IPv4 as well, which pods have wherever there is one.
  const family = listen.host === "::" ? 4 : parseIp(listen.host).family;
  return {
    listen,
    connect: named("connect-addr", NOWHERE[family], parseAddress),
    timeout: named("timeout", "10s", parseDuration),
    logLevel: named("log-level", "info", (value) => oneOf(LEVELS, value)),
    logFormat: named("log-format", "plain", (value) => oneOf(["plain", "json"] as const, value)),
  };
}

function parseAddress(source: string): Address {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(source);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  if (!match || port < 1 || port > 65_535)
    throw new RangeError(`expected address:port, got ${JSON.stringify(source)}`);
  parseIp(host);
  return { host, port, text: source };
}

function oneOf<const T extends string>(options: readonly T[], value: string): T {
  if (!options.includes(value as T))
    throw new RangeError(`expected one of ${options.join(", ")}, got ${JSON.stringify(value)}`);
  return value as T;
}

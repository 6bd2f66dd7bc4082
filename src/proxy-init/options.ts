// proxy-init's command line, with Linkerd's flags.
import { parseArgs } from "node:util";
import { type Format, LEVELS, type Level } from "../log/logger.ts";
import { parseCidr } from "../util/ip.ts";
import { parsePortSet } from "../util/port-set.ts";
import type { RedirectConfig } from "./rules.ts";

const MODES = ["auto", "nft", "plain", "legacy"] as const;
export type Mode = (typeof MODES)[number];

export interface InitOptions {
  readonly redirect: RedirectConfig;
  readonly ipv6: boolean;
  readonly mode: Mode;
  /** Names or paths of the tools, which overrule `mode`. */
  readonly firewallBin?: string | undefined;
  readonly firewallSaveBin?: string | undefined;
  /** Print instead of apply. */
  readonly simulate: boolean;
  /** Wait for the lock that iptables programs share. */
  readonly wait: boolean;
  /** Seconds that conntrack keeps a connection in CLOSE_WAIT; 0 leaves the kernel's setting. */
  readonly closeWaitSeconds: number;
  readonly logLevel: Level;
  readonly logFormat: Format;
}

const text = { type: "string" } as const;
const FLAGS = {
  "incoming-proxy-port": text,
  "outgoing-proxy-port": text,
  "proxy-uid": text,
  "proxy-gid": text,
  "ports-to-redirect": text,
  "inbound-ports-to-ignore": text,
  "outbound-ports-to-ignore": text,
  "subnets-to-ignore": text,
  "timeout-close-wait-secs": text,
  "iptables-mode": text,
  "firewall-bin-path": text,
  "firewall-save-bin-path": text,
  "log-level": text,
  "log-format": text,
  ipv6: text,
  simulate: { type: "boolean" },
  "use-wait-flag": { type: "boolean" },
} as const;

/** @throws RangeError or TypeError that names the flag. */
export function parseOptions(argv: readonly string[]): InitOptions {
  // `--ipv6` alone means true, as Go's flags have it; parseArgs needs a value.
  const args = argv.map((arg) => (arg === "--ipv6" ? "--ipv6=true" : arg));
  const { values } = parseArgs({ args, options: FLAGS, strict: true, allowPositionals: false });
  const named = <T>(flag: keyof typeof FLAGS, parse: (text: string) => T, fallback: T): T => {
    const given = values[flag];
    if (given === undefined) return fallback;
    try {
      return parse(given as string);
    } catch (cause) {
      throw new RangeError(`--${flag}: ${(cause as Error).message}`, { cause });
    }
  };
  const port = (flag: "incoming-proxy-port" | "outgoing-proxy-port", fallback: number) =>
    named(flag, (value) => integer(value, 1, 65_535), fallback);
  const id = (flag: "proxy-uid" | "proxy-gid") =>
    named<number | undefined>(flag, (value) => integer(value, 0, 2 ** 32 - 2), undefined);
  const ports = (flag: "ports-to-redirect" | "inbound-ports-to-ignore" | "outbound-ports-to-ignore") =>
    named(flag, parsePortSet, []);
  return {
    redirect: {
      incomingProxyPort: port("incoming-proxy-port", 4143),
      outgoingProxyPort: port("outgoing-proxy-port", 4140),
      proxyUid: id("proxy-uid"),
      proxyGid: id("proxy-gid"),
      inboundPortsToRedirect: ports("ports-to-redirect"),
      inboundPortsToIgnore: ports("inbound-ports-to-ignore"),
      outboundPortsToIgnore: ports("outbound-ports-to-ignore"),
      subnetsToIgnore: named("subnets-to-ignore", cidrs, []),
    },
    ipv6: named("ipv6", (value) => oneOf(["true", "false"], value) === "true", true),
    mode: named("iptables-mode", (value) => oneOf(MODES, value), "auto"),
    firewallBin: values["firewall-bin-path"],
    firewallSaveBin: values["firewall-save-bin-path"],
    simulate: values.simulate === true,
    wait: values["use-wait-flag"] === true,
    closeWaitSeconds: named("timeout-close-wait-secs", (value) => integer(value, 0, 2 ** 31 - 1), 0),
    logLevel: named("log-level", (value) => oneOf(LEVELS, value), "info"),
    logFormat: named("log-format", (value) => oneOf(["plain", "json"] as const, value), "plain"),
  };
}

function integer(value: string, min: number, max: number): number {
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= min && number <= max)) {
    throw new RangeError(`expected an integer from ${min} to ${max}, got ${JSON.stringify(value)}`);
  }
  return number;
}

function oneOf<const T extends string>(options: readonly T[], value: string): T {
  if (!options.includes(value as T)) {
    throw new RangeError(`expected one of ${options.join(", ")}, got ${JSON.stringify(value)}`);
  }
  return value as T;
}

function cidrs(value: string): string[] {
  const items = value.split(",").flatMap((item) => (item.trim() === "" ? [] : [item.trim()]));
  for (const item of items) parseCidr(item);
  return items;
}

// The pod's redirect as data, and as text for iptables-restore. Pure: what is there now comes in as iptables-save
// wrote it.
import { formatCidr, parseCidr } from "../util/ip.ts";
import { mergePorts, type PortRange } from "../util/port-set.ts";

export interface RedirectConfig {
  /** Port of the proxy's inbound listener. */
  readonly incomingProxyPort: number;
  /** Port of the proxy's outbound listener. */
  readonly outgoingProxyPort: number;
  /** Traffic of this user (and group) is the proxy's own and never redirected. */
  readonly proxyUid?: number | undefined;
  readonly proxyGid?: number | undefined;
  /** Inbound ports to redirect; all when empty. */
  readonly inboundPortsToRedirect: readonly PortRange[];
  readonly inboundPortsToIgnore: readonly PortRange[];
  readonly outboundPortsToIgnore: readonly PortRange[];
  /** Sources whose inbound traffic is left alone, as CIDRs. */
  readonly subnetsToIgnore: readonly string[];
}

const REDIRECT_CHAIN = "PROXY_INIT_REDIRECT";
const OUTPUT_CHAIN = "PROXY_INIT_OUTPUT";

/** A rule of the nat table. */
export interface Rule {
  readonly chain: string;
  readonly match: readonly string[];
  readonly target: readonly string[];
  readonly comment: string;
}

/** The rules of one address family, in order. TCP only: UDP stays as it is. */
export function redirectRules(config: RedirectConfig, family: 4 | 6): Rule[] {
  const tcp = ["-p", "tcp"];
  const rules: Rule[] = [];
  const add = (chain: string, match: readonly string[], target: readonly string[], comment: string) =>
    rules.push({ chain, match, target, comment: `proxy-init/${comment}` });
  const pass = ["-j", "RETURN"];
  const redirect = (port: number) => ["-j", "REDIRECT", "--to-port", String(port)];

  for (const ports of multiports(config.inboundPortsToIgnore)) {
    add(REDIRECT_CHAIN, [...tcp, "-m", "multiport", "--dports", ports], pass, `ignore-port-${ports}`);
  }
  for (const subnet of config.subnetsToIgnore) {
    const cidr = parseCidr(subnet);
    if (cidr.family === family) {
      add(REDIRECT_CHAIN, ["-s", formatCidr(cidr)], pass, `ignore-subnet-${formatCidr(cidr)}`);
    }
  }
  if (config.inboundPortsToRedirect.length === 0) {
    add(REDIRECT_CHAIN, tcp, redirect(config.incomingProxyPort), "redirect-all-incoming-to-proxy-port");
  }
  for (const ports of multiports(config.inboundPortsToRedirect)) {
    add(
      REDIRECT_CHAIN,
      [...tcp, "-m", "multiport", "--dports", ports],
      redirect(config.incomingProxyPort),
      `redirect-port-${ports}-to-proxy-port`,
    );
  }
  add("PREROUTING", [], ["-j", REDIRECT_CHAIN], "install-proxy-init-prerouting");

  if (config.proxyUid !== undefined) {
    add(OUTPUT_CHAIN, ["-m", "owner", "--uid-owner", String(config.proxyUid)], pass, "ignore-proxy-user-id");
  }
  if (config.proxyGid !== undefined) {
    add(OUTPUT_CHAIN, ["-m", "owner", "--gid-owner", String(config.proxyGid)], pass, "ignore-proxy-group-id");
  }
  add(OUTPUT_CHAIN, ["-o", "lo"], pass, "ignore-loopback");
  for (const ports of multiports(config.outboundPortsToIgnore)) {
    add(OUTPUT_CHAIN, [...tcp, "-m", "multiport", "--dports", ports], pass, `ignore-port-${ports}`);
  }
  add(OUTPUT_CHAIN, tcp, redirect(config.outgoingProxyPort), "redirect-all-outgoing-to-proxy-port");
  add("OUTPUT", [], ["-j", OUTPUT_CHAIN], "install-proxy-init-output");
  return rules;
}

/** iptables' multiport match takes this many ports; a range takes two of them. */
const MULTIPORT_SLOTS = 15;

/** Port sets in the syntax of `--dports`, each within the bound of one rule. */
export function multiports(ranges: readonly PortRange[]): string[] {
  const out: string[] = [];
  let current: string[] = [];
  let slots = 0;
  for (const { from, to } of mergePorts(ranges)) {
    const size = from === to ? 1 : 2;
    if (slots + size > MULTIPORT_SLOTS) {
      out.push(current.join(","));
      current = [];
      slots = 0;
    }
    current.push(from === to ? `${from}` : `${from}:${to}`);
    slots += size;
  }
  if (current.length > 0) out.push(current.join(","));
  return out;
}

const quoted = (comment: string): string => `"${comment}"`;

const ruleText = ({ chain, match, target, comment }: Rule): string =>
  ["-A", chain, ...match, ...target, "-m", "comment", "--comment", quoted(comment)].join(" ");

/**
 * One transaction for `iptables-restore --noflush`: empties our own chains, takes out jumps to them that an
 * earlier run left, and lays the rules anew. Everything else in the table stays as it is.
 *
 * @param current what `iptables-save -t nat` says now
 */
export function restoreScript(rules: readonly Rule[], current: string): string {
  const staleJumps = current
    .split("\n")
    .filter((line) =>
      new RegExp(`^-A (PREROUTING|OUTPUT) .*-j (${REDIRECT_CHAIN}|${OUTPUT_CHAIN})\\b`).test(line),
    )
    .map((line) => line.replace(/^-A/, "-D"));
  return [
    "*nat",
    `:${REDIRECT_CHAIN} - [0:0]`,
    `:${OUTPUT_CHAIN} - [0:0]`,
    ...staleJumps,
    ...rules.map(ruleText),
    "COMMIT",
    "",
  ].join("\n");
}

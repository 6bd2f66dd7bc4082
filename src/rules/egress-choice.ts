// Which EgressNetwork governs an address outside the cluster (reference/linkerd-interfaces.md §6): one of the client's
// namespace when it has any, else one of the global namespace; the narrowest network wins, then the older one.
import { type Cidr, cidrHas, formatCidr, parseCidr, parseIp } from "../util/ip.ts";
import { byAge, type EgressNetworkRecord, type NetworkRule } from "./policy-records.ts";
import type { Trace } from "./trace.ts";

/**
 * The networks of an EgressNetwork; those that cannot be read are none.
 * @param clusterNetworks what the default leaves out
 */
function networksOf(
  { networks }: EgressNetworkRecord,
  clusterNetworks: readonly string[],
): readonly NetworkRule[] {
  return networks ?? ["0.0.0.0/0", "::/0"].map((cidr) => ({ cidr, except: clusterNetworks }));
}

/** Length of the prefix by which one of the networks takes the address; undefined: none does. */
function matchedPrefix(networks: readonly NetworkRule[], ip: ReturnType<typeof parseIp>): number | undefined {
  let best: number | undefined;
  for (const { cidr, except } of networks) {
    const network = parseCidr(cidr);
    if (!cidrHas(network, ip) || except.some((one) => cidrHas(parseCidr(one), ip))) continue;
    if (best === undefined || network.prefix > best) best = network.prefix;
  }
  return best;
}

/**
 * @param candidates EgressNetworks of the client's and of the global namespace
 * @param client namespace of the client
 */
export function chooseEgressNetwork(
  candidates: readonly EgressNetworkRecord[],
  ip: string,
  client: string,
  clusterNetworks: readonly string[],
  trace?: Trace,
): EgressNetworkRecord | undefined {
  const address = parseIp(ip);
  const own = candidates.filter(({ namespace }) => namespace === client);
  const asked = own.length > 0 ? own : candidates;
  let best: { network: EgressNetworkRecord; prefix: number } | undefined;
  for (const network of asked) {
    const prefix = matchedPrefix(networksOf(network, clusterNetworks), address);
    const text = `EgressNetwork ${network.namespace}/${network.name}`;
    if (prefix === undefined) {
      trace?.add(text, false, `${ip} is in none of its networks`);
      continue;
    }
    trace?.add(text, true, `${ip} is in a network of its with a prefix of ${prefix}`);
    if (!best || prefix > best.prefix || (prefix === best.prefix && byAge(network, best.network) < 0))
      best = { network, prefix };
  }
  return best?.network;
}

/** A network of the cluster that an EgressNetwork takes in; undefined: it keeps outside, as it must. */
export function clusterOverlap(
  { networks }: EgressNetworkRecord,
  clusterNetworks: readonly string[],
): string | undefined {
  for (const { cidr, except } of networks ?? []) {
    const network = parseCidr(cidr);
    const holes = except.map(parseCidr);
    for (const text of clusterNetworks) {
      const cluster = parseCidr(text);
      if (!overlaps(network, cluster)) continue;
      // What both have is the narrower of the two: it must lie within an exception.
      const common = network.prefix > cluster.prefix ? network : cluster;
      if (!holes.some((hole) => hole.prefix <= common.prefix && overlaps(hole, common)))
        return formatCidr(common);
    }
  }
  return undefined;
}

function overlaps(a: Cidr, b: Cidr): boolean {
  return cidrHas(a.prefix <= b.prefix ? a : b, a.prefix <= b.prefix ? b : a);
}

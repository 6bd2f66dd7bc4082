// Service IPs and DNS together: what the daemon starts once the node's network is up.
import type { Logger } from "../../log/logger.ts";
import type { Clock } from "../../util/clock.ts";
import type { Cluster } from "../cluster.ts";
import { DNS_SERVICE_IP, GATEWAY_IP } from "./addresses.ts";
import { startDnsServer } from "./dns-server.ts";
import { DnsZone } from "./dns-zone.ts";
import { ServiceProxy } from "./service-proxy.ts";

export interface ServiceNetwork {
  stop(): Promise<void>;
}

/** Resolves when DNS answers and the rules of all present services are in place. Needs {@link setupNodeNetwork}. */
export async function startServiceNetwork(options: {
  readonly cluster: Cluster;
  readonly clock: Clock;
  readonly log: Logger;
}): Promise<ServiceNetwork> {
  const zone = new DnsZone();
  zone.watch(options.cluster);
  const proxy = new ServiceProxy(options);
  try {
    const dns = await startDnsServer({
      zone,
      addresses: [GATEWAY_IP, DNS_SERVICE_IP],
      log: options.log,
    });
    try {
      await proxy.start();
    } catch (error) {
      await dns.close();
      throw error;
    }
    return {
      async stop() {
        zone.stop();
        await proxy.stop();
        await dns.close();
      },
    };
  } catch (error) {
    zone.stop();
    throw error;
  }
}

// The sandbox's network: pods' links and addresses, service IPs, DNS.
export {
  CLUSTER_DOMAIN,
  DNS_SERVICE_IP,
  GATEWAY_IP,
  KUBERNETES_SERVICE_IP,
  MAX_NODES,
  nodeIp,
  nodePodCidr,
  POD_CIDR,
  PodIpPool,
  SERVICE_CIDR,
} from "./addresses.ts";
export { type DnsServer, startDnsServer } from "./dns-server.ts";
export { DnsZone, resolvConf } from "./dns-zone.ts";
export {
  attachPod,
  detachPod,
  type NodeNetworkOptions,
  type PodAttachment,
  setupNodeNetwork,
  vethName,
} from "./node-network.ts";
export { type ServiceNetwork, startServiceNetwork } from "./service-network.ts";
export { ServiceProxy, type ServiceProxyOptions } from "./service-proxy.ts";

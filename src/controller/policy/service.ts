// The policy APIs over the index: InboundServerPolicies for a pod's ports, OutboundPolicies for addresses.
import { addressText } from "../../api/address.ts";
import type { MessageOf } from "../../api/codec.ts";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { GetPort, type PortSpec, WatchPort } from "../../api/inbound.ts";
import { Get, type TrafficSpec, Watch } from "../../api/outbound.ts";
import { parseAuthority } from "../authority.ts";
import type { GrpcServer } from "../grpc-server.ts";
import type { OutboundMessage, PolicyIndex, ServerMessage } from "./index.ts";

export function servePolicy(server: GrpcServer, index: PolicyIndex, clusterDomain: string): void {
  server.unary(GetPort, (spec) => {
    const { namespace, pod, port } = portOf(spec);
    let found: ServerMessage | undefined;
    index.watchServer(namespace, pod, port, (value) => {
      found = value;
    })();
    if (!found) throw noPod(namespace, pod);
    return found;
  });

  server.stream(WatchPort, (spec, sender) => {
    const { namespace, pod, port } = portOf(spec);
    const stop = index.watchServer(namespace, pod, port, (value) => {
      if (value) sender.send(value);
      else sender.end(noPod(namespace, pod));
    });
    sender.whenClosed(stop);
  });

  server.unary(Get, (spec) => {
    const { ip, port } = addressOf(spec, index, clusterDomain);
    let found: OutboundMessage | undefined;
    index.watchOutbound(ip, port, (value) => {
      found = value;
    })();
    if (!found) throw noService(ip, port);
    return found;
  });

  server.stream(Watch, (spec, sender) => {
    const { ip, port } = addressOf(spec, index, clusterDomain);
    const stop = index.watchOutbound(ip, port, (value) => {
      if (value) sender.send(value);
      else sender.end(noService(ip, port));
    });
    sender.whenClosed(stop);
  });
}

const noPod = (namespace: string, pod: string) =>
  new GrpcError(STATUS.NOT_FOUND, `there is no pod ${namespace}/${pod}`);
const noService = (ip: string, port: number) =>
  new GrpcError(STATUS.NOT_FOUND, `no Service has port ${port} at ${ip}`);

/** The workload is JSON with `ns` and `pod`, or `ns:pod` as old proxies write it. @throws GrpcError InvalidArgument */
function portOf({ workload, port }: MessageOf<typeof PortSpec>): {
  namespace: string;
  pod: string;
  port: number;
} {
  if (port < 1 || port > 65_535) throw new GrpcError(STATUS.INVALID_ARGUMENT, `expected a port, got ${port}`);
  const plain = /^([^:{}"]+):([^:{}"]+)$/.exec(workload);
  if (plain) return { namespace: plain[1]!, pod: plain[2]!, port };
  try {
    const { ns, pod } = JSON.parse(workload) as { ns?: unknown; pod?: unknown };
    if (typeof ns === "string" && typeof pod === "string") return { namespace: ns, pod, port };
  } catch {
    // Said below.
  }
  throw new GrpcError(STATUS.INVALID_ARGUMENT, 'expected a workload such as {"ns":"…","pod":"…"}');
}

function addressOf(
  spec: MessageOf<typeof TrafficSpec>,
  index: PolicyIndex,
  clusterDomain: string,
): { ip: string; port: number } {
  const address = addressText(spec.addr);
  if (address) return address;
  if (spec.authority === undefined)
    throw new GrpcError(STATUS.INVALID_ARGUMENT, "expected an address or an authority");
  const target = parseAuthority(spec.authority, clusterDomain);
  if (target.kind === "ip") return target;
  const ip = index.addressOf(target.namespace, target.name);
  if (ip === undefined)
    throw new GrpcError(STATUS.NOT_FOUND, `there is no Service ${target.namespace}/${target.name}`);
  return { ip, port: target.port };
}

// The policy APIs over the index: InboundServerPolicies for workloads' ports, OutboundPolicies for addresses and names.
import { addressText } from "../../api/address.ts";
import type { MessageOf } from "../../api/codec.ts";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { GetPort, type PortSpec, WatchPort } from "../../api/inbound.ts";
import { Get, type TrafficSpec, Watch } from "../../api/outbound.ts";
import { parseAuthority } from "../authority.ts";
import type { GrpcServer } from "../grpc-server.ts";
import type { WorkloadRef } from "./inbound.ts";
import type { OutboundMessage, OutboundTarget, PolicyIndex, ServerMessage } from "./index.ts";

export function servePolicy(server: GrpcServer, index: PolicyIndex, clusterDomain: string): void {
  server.unary(GetPort, (spec) => {
    const { workload, port } = portOf(spec);
    let found: ServerMessage | undefined;
    index.watchServer(workload, port, (value) => {
      found = value;
    })();
    if (!found) throw noWorkload(workload);
    return found;
  });

  server.stream(WatchPort, (spec, sender) => {
    const { workload, port } = portOf(spec);
    const stop = index.watchServer(workload, port, (value) => {
      if (value) sender.send(value);
      else sender.end(noWorkload(workload));
    });
    sender.whenClosed(stop);
  });

  server.unary(Get, (spec) => {
    const { target, client } = trafficOf(spec, clusterDomain);
    let found: OutboundMessage | undefined;
    index.watchOutbound(target, client, (value) => {
      found = value;
    })();
    if (!found) throw nobody(target);
    return found;
  });

  server.stream(Watch, (spec, sender) => {
    const { target, client } = trafficOf(spec, clusterDomain);
    const stop = index.watchOutbound(target, client, (value) => {
      if (value) sender.send(value);
      else sender.end(nobody(target));
    });
    sender.whenClosed(stop);
  });
}

const noWorkload = ({ kind, namespace, name }: WorkloadRef) =>
  new GrpcError(STATUS.NOT_FOUND, `there is no ${kind} ${namespace}/${name}`);

const nobody = (target: OutboundTarget) =>
  new GrpcError(
    STATUS.NOT_FOUND,
    target.kind === "address"
      ? `no Service has port ${target.port} at ${target.ip}`
      : `there is no Service ${target.namespace}/${target.name} with port ${target.port}`,
  );

/** @throws GrpcError InvalidArgument */
function portOf({ workload, port }: MessageOf<typeof PortSpec>): { workload: WorkloadRef; port: number } {
  if (port < 1 || port > 65_535) throw new GrpcError(STATUS.INVALID_ARGUMENT, `expected a port, got ${port}`);
  return { workload: workloadOf(workload), port };
}

/**
 * A workload is JSON with `ns` and `pod` or `external_workload`, or `ns:pod` as old proxies write it.
 * @throws GrpcError InvalidArgument
 */
function workloadOf(text: string): WorkloadRef {
  const plain = /^([^:{}"]+):([^:{}"]+)$/.exec(text);
  if (plain) return { kind: "Pod", namespace: plain[1]!, name: plain[2]! };
  try {
    const { ns, pod, external_workload: external } = JSON.parse(text) as Record<string, unknown>;
    if (typeof ns === "string" && typeof pod === "string") return { kind: "Pod", namespace: ns, name: pod };
    if (typeof ns === "string" && typeof external === "string")
      return { kind: "ExternalWorkload", namespace: ns, name: external };
  } catch {
    // Said below.
  }
  throw new GrpcError(
    STATUS.INVALID_ARGUMENT,
    'expected a workload such as {"ns":"…","pod":"…"} or {"ns":"…","external_workload":"…"}',
  );
}

/** What is asked about, and the namespace of who asks. @throws GrpcError InvalidArgument */
function trafficOf(
  spec: MessageOf<typeof TrafficSpec>,
  clusterDomain: string,
): { target: OutboundTarget; client: string } {
  const client = spec.sourceWorkload === "" ? "" : workloadOf(spec.sourceWorkload).namespace;
  const address = addressText(spec.addr);
  if (address) {
    if (address.port < 1 || address.port > 65_535)
      throw new GrpcError(STATUS.INVALID_ARGUMENT, `expected a port, got ${address.port}`);
    return { target: { kind: "address", ...address }, client };
  }
  if (spec.authority === undefined)
    throw new GrpcError(STATUS.INVALID_ARGUMENT, "expected an address or an authority");
  const { kind, port, ...named } = parseAuthority(spec.authority, clusterDomain);
  if ("ip" in named) return { target: { kind: "address", ip: named.ip, port }, client };
  const { namespace, name } = named;
  return { target: { kind, namespace, name, port } as OutboundTarget, client };
}

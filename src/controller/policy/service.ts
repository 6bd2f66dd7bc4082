// The policy APIs over the index: InboundServerPolicies for workloads' ports, OutboundPolicies for addresses and names.
import { addressText } from "../../api/address.ts";
import type { Message, MessageOf, Partially } from "../../api/codec.ts";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { GetPort, type PortSpec, WatchPort } from "../../api/inbound.ts";
import { Get, type TrafficSpec, Watch } from "../../api/outbound.ts";
import { intern } from "../../util/intern.ts";
import { parseAuthority } from "../authority.ts";
import type { GrpcServer, Sender } from "../grpc-server.ts";
import type { WorkloadRef } from "./inbound.ts";
import type { Followed, Listener, OutboundTarget, PolicyIndex } from "./index.ts";
import { messageIn } from "./listener.ts";

export function servePolicy(server: GrpcServer, index: PolicyIndex, clusterDomain: string): void {
  const watchPort = (spec: MessageOf<typeof PortSpec>, listener: Listener<WorkloadRef>) => {
    const { workload, port } = portOf(spec);
    return index.watchServer(workload, port, listener);
  };
  const watchTraffic = (spec: MessageOf<typeof TrafficSpec>, listener: Listener<OutboundTarget>) => {
    const { target, client } = trafficOf(spec, clusterDomain);
    return index.watchOutbound(target, client, listener);
  };
  server.unary(GetPort, (spec) => now(GetPort.response, noWorkload, (listener) => watchPort(spec, listener)));
  server.stream(WatchPort, (spec, sender) =>
    new PolicyWatch(sender, noWorkload).follow((watch) => watchPort(spec, watch)),
  );
  server.unary(Get, (spec) => now(Get.response, nobody, (listener) => watchTraffic(spec, listener)));
  server.stream(Watch, (spec, sender) =>
    new PolicyWatch(sender, nobody).follow((watch) => watchTraffic(spec, watch)),
  );
}

/** One stream of a proxy: is told policies, sends them, and is let go when the stream ends. */
class PolicyWatch<Q> implements Listener<Q> {
  readonly #sender: Sender<unknown>;
  /** Why there is none. */
  readonly #absent: (asked: Q) => GrpcError;
  #followed: Followed<Q> | undefined;

  constructor(sender: Sender<never>, absent: (asked: Q) => GrpcError) {
    this.#sender = sender as Sender<unknown>;
    this.#absent = absent;
  }

  follow(watch: (listener: this) => Followed<Q>): void {
    this.#followed = watch(this);
    this.#sender.whenClosed(this);
  }

  update(frame: Buffer | undefined, asked: Q): void {
    if (frame) this.#sender.sendFrame(frame);
    else this.#sender.end(this.#absent(asked));
  }

  close(): void {
    this.#followed?.leave(this);
    this.#followed = undefined;
  }
}

/** The policy of this moment. @throws GrpcError when there is none */
function now<R, Q>(
  type: Message<R>,
  absent: (asked: Q) => GrpcError,
  watch: (listener: Listener<Q>) => Followed<Q>,
): Partially<R> {
  let answer: Partially<R> | GrpcError | undefined;
  const listener: Listener<Q> = {
    update(frame, asked) {
      answer = frame ? (messageIn(type, frame) as Partially<R>) : absent(asked);
    },
  };
  watch(listener).leave(listener);
  if (answer instanceof GrpcError) throw answer;
  return answer!;
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
  // Kept once for all streams of a namespace.
  const client = spec.sourceWorkload === "" ? "" : intern(workloadOf(spec.sourceWorkload).namespace);
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

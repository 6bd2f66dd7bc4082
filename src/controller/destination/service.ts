// The Destination API over the index: Get streams endpoints, GetProfile streams what an address is.
import { addressOf } from "../../api/address.ts";
import type { MessageOf, Partially } from "../../api/codec.ts";
import type { DestinationProfile } from "../../api/destination.ts";
import { Get, GetProfile, type Update } from "../../api/destination.ts";
import { GrpcError, STATUS } from "../../api/grpc-status.ts";
import { durationOf } from "../../api/time.ts";
import { parseAuthority } from "../authority.ts";
import type { GrpcServer, Sender } from "../grpc-server.ts";
import type { DestinationIndex, EndpointChange, Profile } from "./index.ts";

type UpdateMessage = MessageOf<typeof Update>;
type ProfileMessage = MessageOf<typeof DestinationProfile>;

/** Endpoints of one update; more are sent in several, so that no message is large. */
const BATCH = 500;
/** Linkerd's default retry budget, which a profile carries even without routes. */
const RETRY_BUDGET = { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: durationOf(10_000) };

export function serveDestination(server: GrpcServer, index: DestinationIndex, clusterDomain: string): void {
  const made = new WeakMap<EndpointChange, Partially<UpdateMessage>[]>();
  /** All listeners of a change get the same messages, which the server then encodes once. */
  const updatesOf = (change: EndpointChange, metricLabels: Record<string, string>) => {
    const known = made.get(change) ?? updates(change, metricLabels);
    made.set(change, known);
    return known;
  };
  server.stream(Get, ({ path }, sender) => {
    const target = parseAuthority(path, clusterDomain);
    if (target.kind === "ip")
      throw new GrpcError(STATUS.INVALID_ARGUMENT, "expected the name of a Service, got an IP address");
    const { name: service, namespace, port, hostname } = target;
    if (index.service(namespace, service)?.externalName) {
      throw new GrpcError(
        STATUS.INVALID_ARGUMENT,
        `Service ${namespace}/${service} is an ExternalName: it has no endpoints`,
      );
    }
    const stop = index.watchEndpoints({ namespace, service, port, hostname }, (change) => {
      for (const update of updatesOf(change, { namespace, service })) sender.send(update);
    });
    sender.whenClosed(stop);
  });

  server.stream(GetProfile, ({ path }, sender: Sender<ProfileMessage>) => {
    const target = parseAuthority(path, clusterDomain);
    const profileOf = (profile: Profile): Partially<ProfileMessage> => {
      const { service, endpoint, opaque } = profile;
      const reference = service && {
        group: "",
        kind: "Service",
        name: service.name,
        namespace: service.namespace,
        port: target.port,
      };
      return {
        fullyQualifiedName: service ? `${service.name}.${service.namespace}.svc.${clusterDomain}` : "",
        opaqueProtocol: opaque,
        retryBudget: RETRY_BUDGET,
        ...(endpoint ? { endpoint } : {}),
        ...(reference ? { parentRef: { resource: reference } } : {}),
      } as Partially<ProfileMessage>;
    };
    let ip: string | undefined;
    if (target.kind === "ip") ip = target.ip;
    else {
      const service = index.service(target.namespace, target.name);
      if (!service)
        throw new GrpcError(STATUS.NOT_FOUND, `there is no Service ${target.namespace}/${target.name}`);
      ip = service.clusterIPs[0];
      if (ip === undefined) {
        sender.send(profileOf({ service, endpoint: undefined, opaque: false }));
        return;
      }
    }
    sender.whenClosed(index.watchProfile(ip, target.port, (profile) => sender.send(profileOf(profile))));
  });
}

/** What is new before what is gone: a client whose endpoints are all replaced is never left without any. */
function updates(change: EndpointChange, metricLabels: Record<string, string>): Partially<UpdateMessage>[] {
  const { added, removed, size, exists } = change;
  const out: Partially<UpdateMessage>[] = [];
  for (let at = 0; at < added.length; at += BATCH)
    out.push({ add: { addrs: added.slice(at, at + BATCH), metricLabels } } as Partially<UpdateMessage>);
  for (let at = 0; at < removed.length; at += BATCH) {
    const addrs = removed.slice(at, at + BATCH).map(({ ip, port }) => addressOf(ip, port));
    out.push({ remove: { addrs } });
  }
  if (size === 0) out.push({ noEndpoints: { exists } });
  return out;
}

// The Destination API over the index: Get streams endpoints, GetProfile streams what an address is.
import { addressOf } from "../../api/address.ts";
import type { MessageOf, Partially } from "../../api/codec.ts";
import type { DestinationProfile } from "../../api/destination.ts";
import { Get, GetProfile, type Update } from "../../api/destination.ts";
import { durationOf } from "../../api/time.ts";
import { parseAuthority } from "../authority.ts";
import { GrpcError, type GrpcServer, type Sender, STATUS } from "../grpc-server.ts";
import type { DestinationIndex, Profile } from "./index.ts";

type UpdateMessage = MessageOf<typeof Update>;
type ProfileMessage = MessageOf<typeof DestinationProfile>;

/** Endpoints of one update; more are sent in several, so that no message is large. */
const BATCH = 500;
/** Linkerd's default retry budget, which a profile carries even without routes. */
const RETRY_BUDGET = { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: durationOf(10_000) };

export function serveDestination(server: GrpcServer, index: DestinationIndex, clusterDomain: string): void {
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
    let told = false;
    const stop = index.watchEndpoints(
      { namespace, service, port, hostname },
      ({ added, removed, size, exists }) => {
        for (let at = 0; at < removed.length; at += BATCH) {
          const addrs = removed.slice(at, at + BATCH).map((address) => addressOf(address.ip, address.port));
          sender.send({ remove: { addrs } });
        }
        for (let at = 0; at < added.length; at += BATCH) {
          sender.send({
            add: { addrs: added.slice(at, at + BATCH), metricLabels: { namespace, service } },
          } as Partially<UpdateMessage>);
        }
        if (size === 0 && (!told || removed.length > 0 || added.length === 0))
          sender.send({ noEndpoints: { exists } });
        told = true;
      },
    );
    sender.onClose(stop);
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
    sender.onClose(index.watchProfile(ip, target.port, (profile) => sender.send(profileOf(profile))));
  });
}

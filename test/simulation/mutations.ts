// Faults put into the real logic on purpose, each through a seam that the logic has anyway, with the rules that must find
// them: a simulation that does not notice them would notice nothing.

import { Server } from "../../src/api/inbound.ts";
import type { Endpoint } from "../../src/controller/destination/address.ts";
import type { EndpointChange, Listener } from "../../src/controller/destination/index.ts";
import { encodeFrame } from "../../src/controller/grpc-server.ts";
import type { ServerMessage } from "../../src/controller/policy/inbound.ts";
import { messageIn } from "../../src/controller/policy/listener.ts";
import type { ControllerProcess } from "../../src/controller/process.ts";
import type { KubeClient } from "../../src/kube/client.ts";
import type { LeaderElection } from "../../src/kube/lease.ts";
import type { Mutation } from "./replica.ts";

/** A change as it is told, a little other than it is. */
const telling = (change: (told: EndpointChange) => EndpointChange): Mutation["destination"] =>
  function mutate({ index }) {
    const watchEndpoints = index.watchEndpoints.bind(index);
    index.watchEndpoints = (query, client, listener: Listener<EndpointChange>, key) =>
      watchEndpoints(query, client, { update: (told, ...how) => listener.update(change(told), ...how) }, key);
  };

/** Whoever had an address first has it for ever. */
const faithful: Mutation["destination"] = (controller) => {
  const first = new Map<string, Endpoint>();
  telling((told) => ({
    ...told,
    added: told.added.map((endpoint) => {
      const known = first.get(endpoint.ip) ?? endpoint;
      first.set(endpoint.ip, known);
      return known;
    }),
  }))!(controller);
};

/** An object with something else in the place of some of its members. */
const altered = <T extends object>(target: T, members: Partial<Record<keyof T, () => unknown>>): T =>
  new Proxy(target, {
    get(_, key) {
      if (Object.hasOwn(members, key)) return members[key as keyof T]!();
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

/** Once it leads it says so for ever. */
function neverDeposed(election: LeaderElection): LeaderElection {
  let led = false;
  return altered(election, {
    isLeader: () => {
      led ||= election.isLeader;
      return led;
    },
  });
}

type Request = KubeClient["request"];

/** What a controller asks of the API server, a little other than it does: by itself, and while it leads. */
const asking = (change: (request: Request, process: ControllerProcess) => Request): Mutation["process"] =>
  function mutate(process) {
    const { client } = process;
    const changed = (each: KubeClient): KubeClient => {
      const request = change(each.request.bind(each), process);
      return altered(each, {
        request: () => request,
        fencedBy: () => (fence: Parameters<KubeClient["fencedBy"]>[0]) => changed(each.fencedBy(fence)),
      });
    };
    return { client: changed(client) };
  };

/** The Server of a port as each proxy is told of it, a little other than it is; undefined: it is not told. */
const tellingServers = (
  changes: () => (server: ServerMessage) => ServerMessage | undefined,
): Mutation["policy"] =>
  function mutate({ index }) {
    const watchServer = index.watchServer.bind(index);
    index.watchServer = (workload, port, listener) => {
      const change = changes();
      const changed: typeof listener = {
        update(frame, asked) {
          const server = frame && change(messageIn(Server, frame));
          if (server || !frame) listener.update(server && encodeFrame(Server, server), asked);
        },
      };
      const followed = watchServer(workload, port, changed);
      return { leave: () => followed.leave(changed) };
    };
  };

/** Each of the Server's routes with the authorizations of all of them. */
function shared(server: ServerMessage): ServerMessage {
  const { detect, http1 } = server.protocol!;
  const routes = detect?.httpRoutes ?? http1?.routes ?? [];
  const authorizations = routes.flatMap((route) => route.authorizations);
  const all = routes.map((route) => ({ ...route, authorizations }));
  if (detect) return { ...server, protocol: { detect: { ...detect, httpRoutes: all } } };
  return http1 ? { ...server, protocol: { http1: { ...http1, routes: all } } } : server;
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "an index that takes no notice of a pod's end",
    breaks: ["addresses"],
    theme: "addresses",
    destination({ index }) {
      index.removePod = () => {};
    },
  },
  {
    name: "an index that takes a pod for the one that had its name before",
    breaks: ["endpoints"],
    theme: "addresses",
    destination({ index }) {
      const known = new Map<string, Parameters<typeof index.putPod>[0]>();
      const putPod = index.putPod.bind(index);
      index.putPod = (pod) => {
        const name = `${pod.namespace}/${pod.name}`;
        known.set(name, known.get(name) ?? pod);
        putPod(known.get(name)!);
      };
    },
  },
  {
    name: "an index that keeps a Service as it first was",
    breaks: ["endpoints", "profiles"],
    theme: "addresses",
    destination({ index }) {
      const putService = index.putService.bind(index);
      index.putService = (service) => {
        if (!index.service(service.namespace, service.name)) putService(service);
      };
    },
  },
  {
    name: "endpoints that are gone are not told",
    breaks: ["addresses"],
    theme: "addresses",
    destination: telling((told) => ({ ...told, removed: [] }))!,
  },
  {
    name: "an address that moved is told with its old identity",
    breaks: ["identities"],
    theme: "addresses",
    destination: faithful,
  },
  {
    name: "a view that is left is kept",
    breaks: ["remains"],
    theme: "addresses",
    destination({ index }) {
      const watchEndpoints = index.watchEndpoints.bind(index);
      index.watchEndpoints = (...asked) => {
        watchEndpoints(...asked);
        return { close: () => {} };
      };
    },
  },
  {
    name: "a ServiceProfile stays as it first was",
    breaks: ["profiles"],
    theme: "traffic",
    destination({ index }) {
      const putProfile = index.putProfile.bind(index);
      index.putProfile = (profile) => {
        if (!index.profile(profile.namespace, profile.name)) putProfile(profile);
      };
      index.removeProfile = () => {};
    },
  },
  {
    name: "subscribers may be behind as far as they like",
    breaks: ["bounds"],
    theme: "everything",
    maxQueued: Number.POSITIVE_INFINITY,
  },
  {
    name: "a policy index that forgets no authentication",
    breaks: ["authorization"],
    theme: "authorization",
    policy({ index }) {
      index.store.meshTlsAuthentications.remove = () => {};
      index.store.networkAuthentications.remove = () => {};
      index.store.authorizationPolicies.remove = () => {};
    },
  },
  {
    name: "a policy index that takes no notice of Servers",
    breaks: ["authorization"],
    theme: "authorization",
    policy({ index }) {
      index.store.servers.put = () => {};
    },
  },
  {
    name: "proxies are not told of more authorizations",
    breaks: ["inbound"],
    theme: "authorization",
    policy: tellingServers(() => {
      let most = Number.POSITIVE_INFINITY;
      return (server) => {
        if (server.authorizations.length > most) return undefined;
        most = server.authorizations.length;
        return server;
      };
    })!,
  },
  {
    name: "a route admits whom another route of the Server admits",
    breaks: ["authorization"],
    theme: "authorization",
    policy: tellingServers(() => shared)!,
  },
  {
    name: "a policy that is left is watched on",
    breaks: ["remains"],
    theme: "authorization",
    policy({ index }) {
      const watchServer = index.watchServer.bind(index);
      index.watchServer = (workload, port, listener) => {
        watchServer(workload, port, listener);
        return { leave() {} };
      };
    },
  },
  {
    name: "a consumer's routes hold for everybody",
    breaks: ["routes"],
    theme: "traffic",
    policy({ index }) {
      const watchOutbound = index.watchOutbound.bind(index);
      index.watchOutbound = (target, _client, listener) => watchOutbound(target, "b", listener);
    },
  },
  {
    name: "a TrafficSplit stays as it first was",
    breaks: ["outbound"],
    theme: "traffic",
    policy({ index }) {
      const { trafficSplits } = index.store;
      const put = trafficSplits.put.bind(trafficSplits);
      trafficSplits.put = (key, split) => {
        if (!trafficSplits.get(key)) put(key, split);
      };
      trafficSplits.remove = () => {};
    },
  },
  {
    name: "a leader that does not know when it is over",
    breaks: ["leadership", "writes"],
    theme: "leaders",
    election: neverDeposed,
  },
  {
    name: "a leader that is not told when it begins",
    breaks: ["statuses", "slices"],
    theme: "leaders",
    election: (election) => altered(election, { onChange: () => () => () => {} }),
  },
  {
    name: "candidates that give up",
    breaks: ["leases"],
    theme: "leaders",
    election(election) {
      void election.stop();
      return election;
    },
  },
  {
    name: "events that nobody records",
    breaks: ["events"],
    theme: "leaders",
    process: asking((request) => async (path, options) => {
      if (!path.endsWith("/events")) return request(path, options);
    })!,
  },
  {
    name: "a status that is written again and again",
    breaks: ["silence"],
    theme: "leaders",
    process: asking((request, { clock }) => {
      let repeating = false;
      return (path, options) => {
        const again = () => clock.after(5_000, () => request(path, options).then(again, again));
        if (path.endsWith("/status") && !repeating) {
          repeating = true;
          again();
        }
        return request(path, options);
      };
    })!,
  },
  {
    name: "an issuer that is not read again",
    breaks: ["certificates"],
    theme: "certificates",
    files(read) {
      const known = new Map<string, string>();
      return (file) => {
        known.set(file, known.get(file) ?? read(file));
        return known.get(file)!;
      };
    },
  },
  {
    name: "certificates for an hour",
    breaks: ["certificates"],
    theme: "certificates",
    process: ({ env }) => ({ env: { ...env, MESH_ISSUANCE_LIFETIME: "1h" } }),
  },
  {
    name: "whoever asks is taken for the one who asked first",
    breaks: ["certificates", "renewal"],
    theme: "certificates",
    process: asking((request) => {
      let known: Promise<unknown> | undefined;
      return (path, options) => {
        if (!path.endsWith("/tokenreviews")) return request(path, options);
        known ??= request(path, options);
        return known;
      };
    })!,
  },
];

// Faults put into the real logic on purpose, each through a seam that the logic has anyway: a simulation that does not
// notice them would notice nothing.
import type { Endpoint } from "../../src/controller/destination/address.ts";
import type { EndpointChange, Listener } from "../../src/controller/destination/index.ts";
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

/** Once it leads it says so for ever. */
function neverDeposed(election: LeaderElection): LeaderElection {
  let led = false;
  return new Proxy(election, {
    get(target, key) {
      if (key === "isLeader") {
        led ||= target.isLeader;
        return led;
      }
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "an index that takes no notice of a pod's end",
    destination({ index }) {
      index.removePod = () => {};
    },
  },
  {
    name: "an index that takes a pod for the one that had its name before",
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
    destination({ index }) {
      const putService = index.putService.bind(index);
      index.putService = (service) => {
        if (!index.service(service.namespace, service.name)) putService(service);
      };
    },
  },
  {
    name: "endpoints that are gone are not told",
    destination: telling((told) => ({ ...told, removed: [] }))!,
  },
  { name: "an address that moved is told with its old identity", destination: faithful },
  {
    name: "a view that is left is kept",
    destination({ index }) {
      const watchEndpoints = index.watchEndpoints.bind(index);
      index.watchEndpoints = (...asked) => {
        watchEndpoints(...asked);
        return { close: () => {} };
      };
    },
  },
  { name: "a leader that does not know when it is over", election: neverDeposed },
  {
    name: "a policy index that forgets no authentication",
    policy({ index }) {
      index.store.meshTlsAuthentications.remove = () => {};
      index.store.networkAuthentications.remove = () => {};
      index.store.authorizationPolicies.remove = () => {};
    },
  },
  {
    name: "a policy index that takes no notice of Servers",
    policy({ index }) {
      index.store.servers.put = () => {};
    },
  },
  {
    name: "a policy that is left is watched on",
    policy({ index }) {
      const watchServer = index.watchServer.bind(index);
      index.watchServer = (workload, port, listener) => {
        watchServer(workload, port, listener);
        return { leave() {} };
      };
    },
  },
];

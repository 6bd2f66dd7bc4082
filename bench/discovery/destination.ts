// Discovery of endpoints: proxies watch the endpoints of their Services, and their profiles too, as they do; a change is a
// pod that is replaced.
import { Get, GetProfile } from "../../src/api/destination.ts";
import { DISCOVERY_NODE_FLAGS } from "../../src/manifests/control-plane.ts";
import { addressOfService, nodeName } from "./cluster.ts";
import { askOf, type SubjectOf, spread } from "./subject.ts";
import { addedIn } from "./update-reader.ts";

/** @param profiles whether proxies watch profiles too: twice the streams */
export const destinationSubject =
  (profiles: boolean): SubjectOf =>
  (cluster, load) => ({
    controller: "destination",
    flags: DISCOVERY_NODE_FLAGS,
    asks(proxy, services) {
      const contextToken = JSON.stringify({ ns: "bench", nodeName: nodeName(proxy), pod: `proxy-${proxy}` });
      return services.flatMap((service) => [
        askOf(Get, { path: cluster.authorityOf(service), contextToken }, true),
        ...(profiles
          ? [askOf(GetProfile, { path: `${addressOfService(service)}:80`, contextToken }, false)]
          : []),
      ]);
    },
    read: addedIn,
    change(number, watchers) {
      const service = spread(number, load.services);
      const { fresh, old } = cluster.replacePod(service);
      return { id: fresh, replaces: old, watchers: watchers[service]! };
    },
  });

// Connections of bytes by the routes that they take, and bytes by whether they leave the zone (reference/data-planes.md
// §1.22). Names and labels are linkerd2-proxy's.
import type { CounterSeries, Family, Labels, Registry } from "../../metrics/registry.ts";
import type { PassportKey } from "../../rules/passport.ts";
import type { RouteRef } from "../../rules/route-match.ts";
import type { ByteCounters } from "./series.ts";

/** Why a connection came to nothing, in Linkerd's words. */
const ERRORS: Partial<Record<PassportKey, string>> = {
  unauthorized: "forbidden",
  "no-route": "invalid_backend",
  "invalid-policy": "invalid_policy",
};

interface Families {
  readonly open: Family<CounterSeries>;
  readonly close: Family<CounterSeries>;
}

export class ConnectionFamilies {
  readonly #routes: Readonly<Record<"tcp" | "tls", Families>>;
  readonly #cost: Family<CounterSeries>;
  /** By zone locality. */
  readonly #costs = new Map<string, ByteCounters>();

  constructor(registry: Registry) {
    const families = (kind: string) => ({
      open: registry.counter(`outbound_${kind}_route_open_total`, "The number of connections opened."),
      close: registry.counter(`outbound_${kind}_route_close_total`, "The number of connections closed."),
    });
    this.#routes = { tcp: families("tcp"), tls: families("tls") };
    this.#cost = registry.counter(
      "outbound_tcp_transfer_cost_bytes_total",
      "Bytes to and from endpoints, by whether they are in the proxy's zone.",
    );
  }

  /**
   * @param kind `tls`: its route was found by the server name that the client asks for
   * @param parent see `parentLabels`
   */
  opened(kind: "tcp" | "tls", parent: Labels, route: RouteRef): ConnectionSeries {
    return new ConnectionSeries(this.#routes[kind], {
      ...parent,
      route_group: route.group,
      route_kind: route.kind,
      route_namespace: route.namespace,
      route_name: route.name,
    });
  }

  /** The counters of an endpoint's bytes; undefined when nobody said where it is. */
  cost({ zone_locality }: Readonly<Record<string, string>>): ByteCounters | undefined {
    if (!zone_locality) return undefined;
    let cost = this.#costs.get(zone_locality);
    if (!cost) {
      cost = {
        read: this.#cost.labels({ op: "recv", zone_locality }),
        write: this.#cost.labels({ op: "send", zone_locality }),
      };
      this.#costs.set(zone_locality, cost);
    }
    return cost;
  }
}

/** One connection on its route. */
export class ConnectionSeries {
  readonly #families: Families;
  readonly #labels: Labels;

  constructor(families: Families, labels: Labels) {
    this.#families = families;
    this.#labels = labels;
    families.open.labels(labels).inc();
  }

  /** @param error why, when the proxy ended it or its bytes broke off; undefined: in order */
  closed(error: PassportKey | "broken" | undefined): void {
    const text = error === undefined ? "" : (error !== "broken" && ERRORS[error]) || "unexpected";
    this.#families.close.labels({ ...this.#labels, error: text }).inc();
  }
}

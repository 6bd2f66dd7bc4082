// TrafficSplit of the Service Mesh Interface: shares of a service's traffic.
import { type Infer, intOrString, list, object, optional, ruled, text } from "../schema/index.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";

const backend = object({
  service: text({ minLength: 1 }),
  weight: optional(intOrString({ expects: "a weight such as 1 or 500m" })),
});

const trafficSplitSpec = ruled(
  object({
    service: text({ minLength: 1 }),
    backends: list(backend),
  }),
  ({ backends }, report) => {
    const seen = new Map<string, number>();
    backends.forEach(({ service, weight = 0 }, index) => {
      const known = seen.get(service);
      if (known === undefined) seen.set(service, index);
      else
        report.problem(
          `backends[${index}].service`,
          `expected a service that is not there yet, got that of [${known}]: ${service}`,
        );
      if (typeof weight === "number" && weight < 0)
        report.problem(`backends[${index}].weight`, `expected a weight that is not negative, got ${weight}`);
    });
  },
);
export type TrafficSplit = Resource<Infer<typeof trafficSplitSpec>>;

export const TRAFFIC_SPLIT: Kind = {
  group: "split.smi-spec.io",
  kind: "TrafficSplit",
  plural: "trafficsplits",
  owner: "smi",
  shortNames: ["ts"],
  versions: ["v1alpha1", "v1alpha2"].map((name) => ({ name, spec: trafficSplitSpec })),
  columns: [{ name: "Service", path: ".spec.service" }],
};

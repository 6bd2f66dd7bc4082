// Everything that users write, with what each part of it changes.
import { KINDS, type Kind } from "../../../src/crds/index.ts";
import { TRAFFIC_KEYS } from "../../../src/rules/traffic-annotations.ts";
import { DISCOVERY } from "./discovery.ts";
import type { KindEffects } from "./effect.ts";
import { INBOUND } from "./inbound.ts";
import { ROUTES } from "./routes.ts";

export const EFFECTS: readonly KindEffects[] = [...INBOUND, ...ROUTES, ...DISCOVERY];

/** Kinds that are read, judged and stored, and that nothing here acts on. */
export const IDLE: Readonly<Record<string, string>> = {
  "multicluster.linkerd.io/Link": "multicluster's: this control plane does not mirror services yet",
};

// biome-ignore lint/suspicious/noExplicitAny: an OpenAPI schema.
type Json = any;

/** Paths of all fields of an OpenAPI schema that hold no further ones; `[]` stands for the items of a list. */
export function leavesOf(schema: Json, path = ""): string[] {
  if (schema.type === "array") return leavesOf(schema.items, `${path}[]`);
  const inner = Object.entries<Json>(schema.properties ?? {});
  if (inner.length === 0) return [path];
  return inner.flatMap(([name, each]) => leavesOf(each, path === "" ? name : `${path}.${name}`));
}

/** Fields of a kind, in whichever of its versions. */
export const fieldsOf = (kind: Kind): readonly string[] => [
  ...new Set(kind.versions.flatMap(({ spec }) => leavesOf(spec.openApi()))),
];

/** Annotations that each kind takes, besides those of injection. */
const KEYS: Readonly<Record<string, readonly string[]>> = {
  "v1/Service": TRAFFIC_KEYS.parent,
  "policy.linkerd.io/EgressNetwork": TRAFFIC_KEYS.parent,
  "policy.linkerd.io/HTTPRoute": TRAFFIC_KEYS.route,
  "gateway.networking.k8s.io/HTTPRoute": TRAFFIC_KEYS.route,
  "gateway.networking.k8s.io/GRPCRoute": TRAFFIC_KEYS.route,
};

/** What each kind must have a row for: fields, then annotations. */
export const EXPECTED: ReadonlyMap<string, readonly string[]> = new Map([
  ...KINDS.map((kind) => {
    const name = `${kind.group}/${kind.kind}`;
    return [name, [...fieldsOf(kind), ...(KEYS[name] ?? [])]] as const;
  }),
  ["v1/Service", KEYS["v1/Service"]!],
]);

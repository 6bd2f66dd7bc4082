// Says where an object is not what Kubernetes would take, as far as injection reads it.
import { MeshError } from "../util/error.ts";
import { isBuiltIn, type Resource, TEMPLATE_PATHS } from "./workload.ts";

type Shape = (value: unknown, at: string) => void;

function refuse(at: string, expected: string, value: unknown): never {
  const shown = JSON.stringify(value)?.slice(0, 40);
  throw new MeshError(`${at}: expected ${expected}, got ${shown}`);
}

const text: Shape = (value, at) => {
  if (typeof value !== "string") refuse(at, "text", value);
};
const integer: Shape = (value, at) => {
  if (!Number.isInteger(value)) refuse(at, "an integer", value);
};

function entriesOf(value: unknown, at: string): [string, unknown][] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) refuse(at, "a map", value);
  return Object.entries(value);
}

/** A map whose named parts have a shape; absent and null parts are fine, as for the API server. */
const map =
  (parts: Readonly<Record<string, Shape>>, required: readonly string[] = []): Shape =>
  (value, at) => {
    const entries = new Map(entriesOf(value, at));
    for (const name of required) {
      if ((entries.get(name) ?? null) === null)
        throw new MeshError(`${at === "" ? name : `${at}.${name}`}: expected, but not there`);
    }
    for (const [name, part] of Object.entries(parts)) {
      const given = entries.get(name);
      if (given !== undefined && given !== null) part(given, at === "" ? name : `${at}.${name}`);
    }
  };

const list =
  (item: Shape): Shape =>
  (value, at) => {
    if (!Array.isArray(value)) refuse(at, "a list", value);
    value.forEach((each, index) => {
      item(each, `${at}[${index}]`);
    });
  };

const textMap: Shape = (value, at) => {
  for (const [key, each] of entriesOf(value, at)) text(each, `${at}[${JSON.stringify(key)}]`);
};

const metadata = map({
  name: text,
  generateName: text,
  namespace: text,
  labels: textMap,
  annotations: textMap,
});
const probe = map({ httpGet: map({}) });
const container = map(
  {
    name: text,
    image: text,
    ports: list(map({ containerPort: integer, name: text, protocol: text }, ["containerPort"])),
    livenessProbe: probe,
    readinessProbe: probe,
    startupProbe: probe,
    securityContext: map({ capabilities: map({ add: list(text) }) }),
  },
  ["name"],
);
const template = map(
  {
    metadata,
    spec: map(
      {
        containers: list(container),
        initContainers: list(container),
        volumes: list(map({ name: text }, ["name"])),
      },
      ["containers"],
    ),
  },
  ["spec"],
);

const anyResource = map({ kind: text, apiVersion: text, metadata });

/** @throws MeshError that names the path, what was expected there and what came */
export function assertShape(resource: Resource): void {
  anyResource(resource, "");
  const path = TEMPLATE_PATHS[resource.kind ?? ""];
  if (path === undefined || !isBuiltIn(resource)) return;
  const nested = path
    .split("/")
    .slice(1)
    .reduceRight<Shape>((inner, name) => map({ [name]: inner }), template);
  nested(resource, "");
}

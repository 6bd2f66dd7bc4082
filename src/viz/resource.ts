// Resources as people type them: `deploy`, `deploy/web`, `deploy web api`, `sts/db svc/web`.
import type { ResourceRef, StatKind } from "../api/stat.ts";
import { MeshError } from "../util/error.ts";

/** Canonical kind → the short name that tables show, and all names it answers to. */
const KINDS: Record<StatKind, { short: string; names: readonly string[] }> = {
  deployment: { short: "deploy", names: ["deploy", "deployment", "deployments"] },
  pod: { short: "po", names: ["po", "pod", "pods"] },
  service: { short: "svc", names: ["svc", "service", "services"] },
  namespace: { short: "ns", names: ["ns", "namespace", "namespaces"] },
  statefulset: { short: "sts", names: ["sts", "statefulset", "statefulsets"] },
  daemonset: { short: "ds", names: ["ds", "daemonset", "daemonsets"] },
  job: { short: "job", names: ["job", "jobs"] },
  cronjob: { short: "cj", names: ["cj", "cronjob", "cronjobs"] },
  replicaset: { short: "rs", names: ["rs", "replicaset", "replicasets"] },
  replicationcontroller: {
    short: "rc",
    names: ["rc", "replicationcontroller", "replicationcontrollers"],
  },
};

const BY_NAME = new Map<string, StatKind>(
  Object.entries(KINDS).flatMap(([kind, { names }]) => names.map((name) => [name, kind as StatKind])),
);

/** Every name of a kind that can be typed. */
export const KIND_NAMES: readonly string[] = [...BY_NAME.keys()];

function shortKind(kind: StatKind): string {
  return KINDS[kind].short;
}

/** @throws MeshError (usage) naming the kinds there are. */
export function parseKind(text: string): StatKind {
  const kind = BY_NAME.get(text.toLowerCase());
  if (kind) return kind;
  throw usage(`there is no resource kind ${JSON.stringify(text)} to ask about`, [
    `kinds: ${Object.values(KINDS)
      .map(({ short }) => short)
      .join(", ")}`,
  ]);
}

/** One resource: `deploy/web`, or `deploy` for all of the kind. @throws MeshError (usage) */
export function parseResource(text: string): ResourceRef {
  const [kind = "", name, ...rest] = text.split("/");
  if (rest.length > 0 || name === "") {
    throw usage(`cannot read resource ${JSON.stringify(text)}`, [
      "write KIND or KIND/NAME, such as deploy/web",
    ]);
  }
  return { kind: parseKind(kind), ...(name === undefined ? {} : { name }) };
}

/** The resource in a namespace; undefined means in all. Namespaces themselves lie in none. */
export function within(ref: ResourceRef, namespace: string | undefined): ResourceRef {
  return namespace === undefined || ref.kind === "namespace" ? ref : { ...ref, namespace };
}

/**
 * The words after a command: `deploy`, `deploy web api` or `deploy/web svc/api`.
 * @throws MeshError (usage) when there are none or they do not fit together
 */
export function parseResources(words: readonly string[]): ResourceRef[] {
  const [first, ...rest] = words;
  if (first === undefined) {
    throw usage("which resource?", ["write KIND, KIND/NAME or KIND NAME, such as deploy or deploy/web"]);
  }
  if (first.includes("/")) return words.map(parseResource);
  if (rest.length === 0) return [parseResource(first)];
  return rest.map((name) => parseResource(`${first}/${name}`));
}

/** `deploy/web`, as it is typed. */
export function formatResource(ref: { readonly kind: StatKind; readonly name?: string }): string {
  return ref.name === undefined ? shortKind(ref.kind) : `${shortKind(ref.kind)}/${ref.name}`;
}

function usage(message: string, hints: readonly string[]): MeshError {
  return new MeshError(message, { hints, exitCode: 2 });
}

// What keeps a route's backend from being used: its share of requests fails, and the route's status says why.
import type { BackendRef } from "./policy-records.ts";
import { type Parent, parentKind } from "./route-parents.ts";

export interface BackendProblem {
  /** As the condition ResolvedRefs names it. */
  readonly reason: "BackendNotFound" | "InvalidKind";
  readonly message: string;
}

/** What is asked of a Service. */
export interface BackendService {
  readonly headless: boolean;
  readonly externalName: boolean;
  readonly ports: readonly { readonly port: number }[];
}

/**
 * The problem of a backend of a route on a parent; undefined: it can be used. References to other namespaces need no
 * grant: a mesh's client chooses where it sends its requests, and whom a server admits is the server's policy.
 * @param find asked about Services and EgressNetworks; undefined: it does not exist
 */
export function backendProblem(
  ref: BackendRef,
  parent: Parent,
  find: (
    kind: "Service" | "EgressNetwork",
    namespace: string,
    name: string,
  ) => Partial<BackendService> | undefined,
): BackendProblem | undefined {
  const { kind, namespace, name } = ref;
  const known = parentKind(ref);
  if (known === "Service") {
    if (ref.port === undefined) return notFound(`missing port for backend Service ${name}`);
    const service = find(known, namespace, name);
    if (!service) return notFound(`Service not found ${name}`);
    const { headless, externalName, ports = [] } = service;
    if (externalName) return notFound(`Service ${name} is an ExternalName: it has no endpoints here`);
    // The pods of a headless Service are called at whatever port they have.
    const served = headless || ports.some(({ port }) => port === ref.port);
    return served ? undefined : notFound(`Service ${name} has no port ${ref.port}`);
  }
  if (known === "EgressNetwork") {
    if (!find(known, namespace, name)) return notFound(`EgressNetwork not found ${name}`);
    const same = parent.kind === known && parent.name === name && parent.namespace === namespace;
    return same ? undefined : invalid("an EgressNetwork is a backend of routes only that have it as parent");
  }
  return invalid(`unsupported backend type ${ref.group || "core"} ${kind}`);
}

const notFound = (message: string): BackendProblem => ({ reason: "BackendNotFound", message });
const invalid = (message: string): BackendProblem => ({ reason: "InvalidKind", message });

// References to other objects, with the rules of names that the Gateway API has for them.
import { type Infer, integer, object, optional, text } from "../schema/index.ts";

const GROUP = /^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const KIND = /^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/;
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const DNS_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** The API group of a referent; empty or `core` for Kubernetes' own. */
export const groupName = (fallback?: string) =>
  text({
    expects: "an API group such as policy.linkerd.io",
    maxLength: 253,
    pattern: GROUP,
    ...(fallback === undefined ? {} : { default: fallback }),
  });
export const kindName = (fallback?: string) =>
  text({
    expects: "a kind such as Server",
    minLength: 1,
    maxLength: 63,
    pattern: KIND,
    ...(fallback === undefined ? {} : { default: fallback }),
  });
export const objectName = text({ expects: "a name", minLength: 1, maxLength: 253 });
export const dnsLabel = text({ expects: "a name such as web-1", pattern: DNS_LABEL });
export const namespaceName = text({
  expects: "a namespace",
  minLength: 1,
  maxLength: 63,
  pattern: DNS_LABEL,
});
export const sectionName = text({
  expects: "a section's name",
  minLength: 1,
  maxLength: 253,
  pattern: DNS_NAME,
});
export const portNumber = integer({ min: 1, max: 65_535, format: "int32" });

/** To an object of the same namespace. */
export const localReference = object({
  group: optional(groupName()),
  kind: kindName(),
  name: objectName,
});

/** To an object of any namespace; of the own one unless it says so. */
export const reference = object({
  group: optional(groupName()),
  kind: kindName(),
  name: objectName,
  namespace: optional(text({ maxLength: 253 })),
});
export type Reference = Infer<typeof reference>;

/** What a route is attached to. */
export const parentReference = (group: string) =>
  object({
    group: groupName(group),
    kind: kindName("Gateway"),
    namespace: optional(namespaceName),
    name: objectName,
    sectionName: optional(sectionName),
    port: optional(portNumber),
  });
export type ParentReference = Infer<ReturnType<typeof parentReference>>;

/** Fields of what a route sends requests to. */
export const backendFields = {
  group: groupName(""),
  kind: kindName("Service"),
  name: objectName,
  namespace: optional(namespaceName),
  port: optional(portNumber),
  weight: integer({ min: 0, max: 1_000_000, format: "int32", default: 1 }),
};
export const backendReference = object(backendFields);

interface Named {
  readonly group?: string | undefined;
  readonly kind?: string | undefined;
}

/** Whether a reference names this kind; an empty group and `core` are the same, and case does not matter. */
export function refersTo({ group, kind }: Named, wantedGroup: string, wantedKind: string): boolean {
  const plain = (text: string) => (text.toLowerCase() === "core" ? "" : text.toLowerCase());
  return plain(group ?? "") === plain(wantedGroup) && (kind ?? "").toLowerCase() === wantedKind.toLowerCase();
}

/** `policy.linkerd.io/Server` */
export const referenceText = ({ group = "", kind = "" }: Named): string =>
  group === "" || group === "core" ? kind : `${group}/${kind}`;

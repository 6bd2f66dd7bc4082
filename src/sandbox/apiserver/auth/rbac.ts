// Role-based access control: who may do what, from the stored roles and bindings.

import type { Json, KubeObject } from "../../cluster.ts";
import type { Registry } from "../registry.ts";
import { selectorMatches } from "../selectors.ts";
import { ApiError, qualified } from "../status.ts";
import type { User } from "./user.ts";

const GROUP = "rbac.authorization.k8s.io";

export interface ResourceAttributes {
  verb: string;
  group: string;
  version?: string | undefined;
  resource: string;
  subresource?: string | undefined;
  namespace?: string | undefined;
  name?: string | undefined;
}

export interface PathAttributes {
  verb: string;
  path: string;
}

export type Attributes = ResourceAttributes | PathAttributes;

export interface Decision {
  allowed: boolean;
  reason: string;
}

export class Authorizer {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  decide(user: User, attributes: Attributes): Decision {
    if (user.groups.includes("system:masters")) return { allowed: true, reason: "" };
    const namespace = "path" in attributes ? undefined : attributes.namespace;
    for (const { rules, why } of this.#grants(user, namespace)) {
      if (rules.some((rule) => ruleAllows(rule, attributes))) return { allowed: true, reason: why };
    }
    return { allowed: false, reason: "" };
  }

  /** Every rule that holds for a user in a namespace: SelfSubjectRulesReview. */
  rulesFor(user: User, namespace: string): Json[] {
    if (user.groups.includes("system:masters")) {
      return [
        { verbs: ["*"], apiGroups: ["*"], resources: ["*"] },
        { verbs: ["*"], nonResourceURLs: ["*"] },
      ];
    }
    return [...this.#grants(user, namespace)].flatMap(({ rules }) => rules);
  }

  /** 403 with Kubernetes' text when not allowed. */
  require(user: User, attributes: Attributes): void {
    if (!this.decide(user, attributes).allowed) throw forbiddenFor(user, attributes);
  }

  *#grants(user: User, namespace: string | undefined): Generator<{ rules: Json[]; why: string }> {
    for (const [, binding] of this.#registry.store.entries(`${GROUP}/clusterrolebindings`)) {
      const subject = subjectOf(binding, user);
      if (subject) yield { rules: this.#rules(binding, undefined), why: reason(binding, subject) };
    }
    if (!namespace) return;
    for (const [key, binding] of this.#registry.store.entries(`${GROUP}/rolebindings`)) {
      if (!key.startsWith(`${namespace}/`)) continue;
      const subject = subjectOf(binding, user);
      if (subject) yield { rules: this.#rules(binding, namespace), why: reason(binding, subject) };
    }
  }

  #rules(binding: KubeObject, namespace: string | undefined): Json[] {
    const { kind, name } = binding.roleRef;
    if (kind === "Role" && namespace) {
      return this.#registry.store.get(`${GROUP}/roles`, `${namespace}/${name}`)?.rules ?? [];
    }
    return this.#clusterRules(name, new Set());
  }

  #clusterRules(name: string, seen: Set<string>): Json[] {
    const role = this.#registry.store.get(`${GROUP}/clusterroles`, name);
    if (!role || seen.has(name)) return [];
    seen.add(name);
    const selectors: Json[] | undefined = role.aggregationRule?.clusterRoleSelectors;
    if (!selectors) return role.rules ?? [];
    const rules: Json[] = [];
    for (const [other, candidate] of this.#registry.store.entries(`${GROUP}/clusterroles`)) {
      if (selectors.some((selector) => selectorMatches(selector, candidate.metadata.labels))) {
        rules.push(...this.#clusterRules(other, seen));
      }
    }
    return rules;
  }
}

function subjectOf(binding: KubeObject, user: User): Json {
  return (binding.subjects ?? []).find((subject: Json) => {
    if (subject.kind === "User") return subject.name === user.name;
    if (subject.kind === "Group") return user.groups.includes(subject.name);
    const namespace = subject.namespace ?? binding.metadata.namespace;
    return user.name === `system:serviceaccount:${namespace}:${subject.name}`;
  });
}

function reason(binding: KubeObject, subject: Json): string {
  const { namespace, name } = binding.metadata;
  const where = namespace ? `${name}/${namespace}` : name;
  const who =
    subject.kind === "ServiceAccount"
      ? `${JSON.stringify(`${subject.name}/${subject.namespace ?? namespace}`)}`
      : JSON.stringify(subject.name);
  return `RBAC: allowed by ${binding.kind} ${JSON.stringify(where)} of ${binding.roleRef.kind} ${JSON.stringify(binding.roleRef.name)} to ${subject.kind} ${who}`;
}

const has = (list: string[] | undefined, value: string) =>
  list !== undefined && (list.includes("*") || list.includes(value));

function ruleAllows(rule: Json, attributes: Attributes): boolean {
  if (!has(rule.verbs, attributes.verb)) return false;
  if ("path" in attributes) {
    return (rule.nonResourceURLs ?? []).some((pattern: string) =>
      pattern.endsWith("*") ? attributes.path.startsWith(pattern.slice(0, -1)) : pattern === attributes.path,
    );
  }
  const { group, resource, subresource, name } = attributes;
  if (!has(rule.apiGroups, group)) return false;
  const full = subresource ? `${resource}/${subresource}` : resource;
  const resources: string[] = rule.resources ?? [];
  const named = has(resources, full) || (subresource !== undefined && resources.includes(`*/${subresource}`));
  if (!named) return false;
  return !(rule.resourceNames?.length > 0) || (name !== undefined && rule.resourceNames.includes(name));
}

export function forbiddenFor(user: User, attributes: Attributes): ApiError {
  const who = `User ${JSON.stringify(user.name)} cannot ${attributes.verb}`;
  if ("path" in attributes) {
    return new ApiError(403, "Forbidden", `forbidden: ${who} path ${JSON.stringify(attributes.path)}`, {});
  }
  const { group, resource, subresource, namespace, name } = attributes;
  const full = subresource ? `${resource}/${subresource}` : resource;
  const where = namespace ? `in the namespace ${JSON.stringify(namespace)}` : "at the cluster scope";
  const subject = name ? `${qualified(group, resource)} ${JSON.stringify(name)}` : qualified(group, resource);
  return new ApiError(
    403,
    "Forbidden",
    `${subject} is forbidden: ${who} resource ${JSON.stringify(full)} in API group ${JSON.stringify(group)} ${where}`,
    { ...(name ? { name } : {}), ...(group ? { group } : {}), kind: resource },
  );
}

// Questions that are answered and not stored: tokens, access, who am I, and the token subresource.

import type { Json } from "../../cluster.ts";
import type { Attributes } from "../auth/rbac.ts";
import { DEFAULT_AUDIENCES } from "../auth/tokens.ts";
import type { User } from "../auth/user.ts";
import type { ResourceDef } from "../resource.ts";
import { apiVersionOf, timestamp } from "../resource.ts";
import { badRequest } from "../status.ts";
import { readObject } from "./body.ts";
import { type Exchange, sendJson } from "./exchange.ts";

/** Answers a POST to one of the review kinds. */
export async function review(def: ResourceDef, exchange: Exchange): Promise<void> {
  const body = (await readObject(exchange.request)) ?? {};
  const spec = body.spec ?? {};
  const { authorizer, cluster } = exchange.serving;
  const answer = (status: Json) =>
    sendJson(exchange, 201, {
      kind: def.kind,
      apiVersion: apiVersionOf(def),
      metadata: { ...body.metadata, creationTimestamp: null },
      ...(def.kind === "SelfSubjectReview" ? {} : { spec }),
      status,
    });
  switch (def.kind) {
    case "TokenReview": {
      const audiences: string[] = spec.audiences?.length ? spec.audiences : [...DEFAULT_AUDIENCES];
      const verified = cluster.tokens.verify(String(spec.token ?? ""), audiences);
      if ("error" in verified) return answer({ user: {}, authenticated: false, error: verified.error });
      return answer({
        authenticated: true,
        user: userInfo(verified.user),
        audiences: verified.audiences,
      });
    }
    case "SelfSubjectReview":
      return answer({ userInfo: userInfo(exchange.user) });
    case "SelfSubjectRulesReview": {
      const rules = authorizer.rulesFor(exchange.user, spec.namespace ?? "default");
      return answer({
        resourceRules: rules.filter((rule) => rule.resources?.length > 0),
        nonResourceRules: rules.filter((rule) => rule.nonResourceURLs?.length > 0),
        incomplete: false,
      });
    }
    case "SelfSubjectAccessReview":
      return answer(decisionOf(exchange, exchange.user, spec));
    default: {
      const { user: name = "", groups = [], uid, extra } = spec;
      if (!name && groups.length === 0) throw badRequest("at least one of user or group must be specified");
      if (def.kind === "LocalSubjectAccessReview") {
        const namespace = exchange.info.resource?.namespace;
        if (spec.resourceAttributes?.namespace !== namespace) {
          throw badRequest("spec.resourceAttributes.namespace must match metadata.namespace");
        }
      }
      return answer(decisionOf(exchange, { name, groups, uid, extra }, spec));
    }
  }
}

function decisionOf(exchange: Exchange, user: User, spec: Json): Json {
  const { resourceAttributes: resource, nonResourceAttributes: path } = spec;
  if ((resource === undefined) === (path === undefined)) {
    throw badRequest("exactly one of nonResourceAttributes or resourceAttributes must be specified");
  }
  const attributes: Attributes = resource
    ? {
        verb: resource.verb ?? "",
        group: resource.group ?? "",
        resource: resource.resource ?? "",
        subresource: resource.subresource || undefined,
        namespace: resource.namespace || undefined,
        name: resource.name || undefined,
      }
    : { verb: path.verb ?? "", path: path.path ?? "" };
  const { allowed, reason } = exchange.serving.authorizer.decide(user, attributes);
  return { allowed, ...(reason ? { reason } : {}) };
}

function userInfo({ name, uid, groups, extra }: User): Json {
  return {
    username: name,
    ...(uid ? { uid } : {}),
    groups,
    ...(extra && Object.keys(extra).length > 0 ? { extra } : {}),
  };
}

/** POST …/serviceaccounts/NAME/token. */
export async function tokenRequest(exchange: Exchange): Promise<void> {
  const body = (await readObject(exchange.request)) ?? {};
  const { namespace, name } = exchange.info.resource as { namespace: string; name: string };
  const spec = body.spec ?? {};
  const bound = spec.boundObjectRef;
  if (bound && bound.kind !== "Pod") {
    throw badRequest(
      `cannot bind token for serviceaccount ${JSON.stringify(name)} to object of kind ${bound.kind}`,
    );
  }
  const { cluster } = exchange.serving;
  const status = cluster.tokens.issue(namespace, name, {
    audiences: spec.audiences,
    expirationSeconds: spec.expirationSeconds,
    pod: bound ? { name: bound.name, uid: bound.uid } : undefined,
  });
  sendJson(exchange, 201, {
    kind: "TokenRequest",
    apiVersion: "authentication.k8s.io/v1",
    metadata: { name, namespace, creationTimestamp: timestamp(cluster.clock.now()) },
    spec: {
      audiences: spec.audiences?.length ? spec.audiences : DEFAULT_AUDIENCES,
      expirationSeconds: spec.expirationSeconds ?? 3600,
      boundObjectRef: bound ?? null,
    },
    status,
  });
}

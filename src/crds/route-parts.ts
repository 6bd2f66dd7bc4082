// What routes of several kinds are made of: parents, hosts, matches of fields, changes of fields.
import { choice, type Infer, list, object, optional, ruled, text } from "../schema/index.ts";
import { backendReference, parentReference } from "./reference.ts";

export const GATEWAY_API = "gateway.networking.k8s.io";

export const hostname = text({
  expects: "a host name such as example.com or *.example.com",
  minLength: 1,
  maxLength: 253,
  pattern: /^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
});
export const hostnames = list(hostname, { maxItems: 16 });

export const fieldName = text({
  expects: "a header's name",
  minLength: 1,
  maxLength: 256,
  pattern: /^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$/,
});

/** How a header or a query parameter is compared. */
export const valueMatches = (maxValue: number) =>
  list(
    object({
      type: choice(["Exact", "RegularExpression"], { default: "Exact" }),
      name: fieldName,
      value: text({ minLength: 1, maxLength: maxValue }),
    }),
    { maxItems: 16, keys: ["name"] },
  );
export type ValueMatch = Infer<ReturnType<typeof valueMatches>>[number];

const fields = list(object({ name: fieldName, value: text({ minLength: 1, maxLength: 4_096 }) }), {
  maxItems: 16,
  keys: ["name"],
});
export const headerModifier = ruled(
  object({
    set: optional(fields),
    add: optional(fields),
    remove: optional(list(text(), { maxItems: 16 })),
  }),
  ({ remove = [] }, report) => {
    remove.forEach((name, index) => {
      if (!/^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/.test(name))
        report.problem(`remove[${index}]`, `expected a header's name, got ${JSON.stringify(name)}`);
    });
  },
);

export const gatewayParents = optional(list(parentReference(GATEWAY_API), { maxItems: 32 }));

/** Of routes that take whole connections: there is one, since nothing of a connection tells rules apart. */
export const connectionRules = ruled(
  list(
    object({
      name: optional(text({ minLength: 1, maxLength: 253 })),
      backendRefs: optional(list(backendReference, { maxItems: 16 })),
    }),
    { minItems: 1, maxItems: 16 },
  ),
  (rules, report) => {
    if (rules.length > 1) report.problem("", `expected one rule, got ${rules.length}`);
  },
);

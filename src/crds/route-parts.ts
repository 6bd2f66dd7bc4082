// What routes of several kinds are made of: hosts, matches of fields, changes of fields.
import { choice, type Infer, list, object, optional, ruled, text } from "../schema/index.ts";

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
export type HeaderModifier = Infer<typeof headerModifier>;

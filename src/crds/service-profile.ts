// ServiceProfile: the routes of a service by its full name, with retries, timeouts and overrides of the older kind.
import {
  decimal,
  flag,
  type Infer,
  integer,
  intOrString,
  list,
  nested,
  object,
  optional,
  parsed,
  ruled,
  type Schema,
  text,
} from "../schema/index.ts";
import { parsePortSet } from "../util/port-set.ts";
import { goDuration } from "./duration.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";

/** All of what is set must hold. */
export interface RequestMatch {
  readonly pathRegex?: string;
  readonly method?: string;
  readonly all?: readonly RequestMatch[];
  readonly any?: readonly RequestMatch[];
  readonly not?: RequestMatch;
}

const requestMatch: Schema<RequestMatch> = ruled(
  object(
    {
      pathRegex: optional(text()),
      method: optional(text()),
      all: optional(list(nested(() => requestMatch))),
      any: optional(list(nested(() => requestMatch))),
      not: optional(nested(() => requestMatch)),
    },
    { strict: true },
  ),
  (match, report) => {
    const { pathRegex = "", method = "", all, any, not } = match;
    if (pathRegex === "" && method === "" && !all && !any && !not)
      report.problem("", "expected at least one of pathRegex, method, all, any, not, got none");
  },
) as unknown as Schema<RequestMatch>;

export interface ResponseMatch {
  readonly status?: { readonly min?: number; readonly max?: number };
  readonly all?: readonly ResponseMatch[];
  readonly any?: readonly ResponseMatch[];
  readonly not?: ResponseMatch;
}

const statusRange = ruled(
  object({ min: optional(integer({ format: "int32" })), max: optional(integer({ format: "int32" })) }),
  ({ min = 0, max = 0 }, report) => {
    for (const [name, value] of [
      ["min", min],
      ["max", max],
    ] as const) {
      // 0 is as good as absent.
      if (value !== 0 && (value < 100 || value > 599))
        report.problem(name, `expected a status from 100 to 599, got ${value}`);
    }
    if (min !== 0 && max !== 0 && max < min)
      report.problem("max", `expected at least min (${min}), got ${max}`);
  },
);

const responseMatch: Schema<ResponseMatch> = ruled(
  object(
    {
      status: optional(statusRange),
      all: optional(list(nested(() => responseMatch))),
      any: optional(list(nested(() => responseMatch))),
      not: optional(nested(() => responseMatch)),
    },
    { strict: true },
  ),
  (match, report) => {
    if (!match.status && !match.all && !match.any && !match.not)
      report.problem("", "expected at least one of status, all, any, not, got none");
  },
) as unknown as Schema<ResponseMatch>;

const route = object({
  name: ruled(text(), (name, report) => {
    if (name === "") report.problem("", 'expected a name, got ""');
  }),
  condition: requestMatch,
  responseClasses: optional(list(object({ condition: responseMatch, isFailure: optional(flag()) }))),
  isRetryable: optional(flag()),
  timeout: optional(goDuration),
});

/** A Kubernetes quantity, for weights such as 500m. */
const QUANTITY =
  /^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$/;

const serviceProfileSpec = ruled(
  object(
    {
      routes: optional(list(route)),
      retryBudget: optional(
        object({
          retryRatio: decimal({ min: 0, format: "float" }),
          minRetriesPerSecond: integer({ min: 0, format: "int32" }),
          ttl: goDuration,
        }),
      ),
      dstOverrides: optional(
        list(
          object({
            authority: text({ minLength: 1 }),
            weight: optional(intOrString({ expects: "a weight such as 1 or 500m", pattern: QUANTITY })),
          }),
        ),
      ),
      opaquePorts: optional(list(parsed({ expects: "a port or a range of ports" }, parsePortSet))),
    },
    { default: {} },
  ),
  ({ routes = [] }, report) => {
    const seen = new Map<string, number>();
    routes.forEach(({ name }, index) => {
      const known = seen.get(name);
      if (known === undefined) seen.set(name, index);
      else
        report.warning(
          `routes[${index}].name`,
          `routes[${known}] has the same name, and their metrics become one`,
        );
    });
  },
);
export type ServiceProfile = Resource<Infer<typeof serviceProfileSpec>>;

export const SERVICE_PROFILE: Kind = {
  group: "linkerd.io",
  kind: "ServiceProfile",
  plural: "serviceprofiles",
  owner: "mesh",
  shortNames: ["sp"],
  versions: ["v1alpha1", "v1alpha2"].map((name) => ({ name, spec: serviceProfileSpec })),
};

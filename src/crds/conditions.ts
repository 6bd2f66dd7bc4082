// Status conditions, as controllers write them.
import { choice, type Infer, integer, list, object, optional, text } from "../schema/index.ts";
import { groupName, kindName, namespaceName, objectName, portNumber, sectionName } from "./reference.ts";

const TYPE =
  /^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$/;
const REASON = /^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/;

export const conditionFields = {
  type: text({ expects: "a condition's type", maxLength: 316, pattern: TYPE }),
  status: choice(["True", "False", "Unknown"]),
  reason: optional(
    text({ expects: "a reason in CamelCase", minLength: 1, maxLength: 1024, pattern: REASON }),
  ),
  message: optional(text({ maxLength: 32_768 })),
  lastTransitionTime: optional(text({ format: "date-time" })),
  observedGeneration: optional(integer({ min: 0, format: "int64" })),
};

export const conditions = list(object(conditionFields), { keys: ["type"] });
export type Condition = Infer<typeof conditions>[number];

/** Status of a route: what each parent says of it. */
export const routeStatus = object({
  parents: list(
    object({
      parentRef: object({
        group: optional(groupName()),
        kind: optional(kindName()),
        namespace: optional(namespaceName),
        name: objectName,
        sectionName: optional(sectionName),
        port: optional(portNumber),
      }),
      controllerName: text({ minLength: 1, maxLength: 253 }),
      conditions: optional(conditions),
    }),
    { maxItems: 32 },
  ),
});
export type RouteStatus = Infer<typeof routeStatus>;

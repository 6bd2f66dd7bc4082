// Label selectors, as Kubernetes objects hold them.
import { choice, type Infer, list, mapOf, object, optional, ruled, text } from "../schema/index.ts";

export const labelSelector = object({
  matchLabels: optional(mapOf(text())),
  matchExpressions: optional(
    list(
      ruled(
        object({
          key: text(),
          operator: choice(["In", "NotIn", "Exists", "DoesNotExist"]),
          values: optional(list(text())),
        }),
        ({ operator, values = [] }, report) => {
          const wants = operator === "In" || operator === "NotIn";
          if (wants && values.length === 0)
            report.warning("values", `expected at least one value for operator ${operator}, got none`);
          if (!wants && values.length > 0)
            report.warning("values", `operator ${operator} takes no values; they have no effect`);
        },
      ),
    ),
  ),
});
export type LabelSelector = Infer<typeof labelSelector>;

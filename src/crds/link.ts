// Link: another cluster whose services are mirrored here.
import { type Infer, list, object, optional, ruled, text } from "../schema/index.ts";
import { conditionFields } from "./conditions.ts";
import { goDuration } from "./duration.ts";
import type { Kind } from "./kind.ts";
import type { Resource } from "./object.ts";
import { groupName, kindName, namespaceName, objectName } from "./reference.ts";
import { labelSelector } from "./selector.ts";

const numeric = (max: number) =>
  ruled(text(), (value, report) => {
    if (!/^\d{1,10}$/.test(value) || Number(value) < 1 || Number(value) > max)
      report.problem("", `expected a number from 1 to ${max} as text, got ${JSON.stringify(value)}`);
  });

const fields = {
  targetClusterName: optional(text()),
  targetClusterDomain: optional(text()),
  targetClusterLinkerdNamespace: optional(text()),
  clusterCredentialsSecret: optional(text()),
  gatewayAddress: optional(text()),
  gatewayIdentity: optional(text()),
  gatewayPort: optional(numeric(65_535)),
  probeSpec: optional(
    object({
      path: optional(text()),
      port: optional(numeric(65_535)),
      period: optional(goDuration),
      timeout: text({ format: "duration", default: "30s" }),
      failureThreshold: text({ default: "3" }),
    }),
  ),
  selector: optional(labelSelector),
  remoteDiscoverySelector: optional(labelSelector),
};
const federated = { ...fields, federatedServiceSelector: optional(labelSelector) };

const linkSpec = object(
  {
    ...federated,
    excludedAnnotations: optional(list(text())),
    excludedLabels: optional(list(text())),
  },
  { default: {} },
);

const serviceReference = object({
  group: groupName("core"),
  kind: kindName("Service"),
  name: objectName,
  namespace: namespaceName,
});
const serviceStatus = object({
  conditions: optional(list(object({ ...conditionFields, localRef: optional(serviceReference) }))),
  controllerName: text({ minLength: 1, maxLength: 253 }),
  remoteRef: optional(serviceReference),
});
const status = object({
  mirrorServices: optional(list(serviceStatus)),
  federatedServices: optional(list(serviceStatus)),
});
export type Link = Resource<Infer<typeof linkSpec>, Infer<typeof status>>;

export const LINK: Kind = {
  group: "multicluster.linkerd.io",
  kind: "Link",
  plural: "links",
  owner: "multicluster",
  versions: [
    { name: "v1alpha1", spec: object(fields, { default: {} }) },
    { name: "v1alpha2", spec: object(federated, { default: {} }) },
    { name: "v1alpha3", spec: linkSpec },
  ],
  status,
};

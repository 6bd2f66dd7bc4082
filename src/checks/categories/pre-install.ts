// May the mesh be installed here by this user?
import type { Node } from "../../kube/types.ts";
import { customResourceDefinitions } from "../../manifests/crds.ts";
import { COMPONENTS, KEYS } from "../../manifests/names.ts";
import { rbacOf } from "../../manifests/rbac.ts";
import { DEFAULT_VALUES } from "../../manifests/values.ts";
import { type Category, type Check, type CheckContext, enumerate, type Skip } from "../check.ts";

export const preKubernetesSetup: Category = {
  id: "pre-kubernetes-setup",
  checks: [
    {
      description: "control plane namespace does not already exist",
      anchor: "pre-ns",
      run: async (context) => {
        if (await context.find("v1", "Namespace", context.mesh)) {
          throw new Error(`The "${context.mesh}" namespace already exists`);
        }
      },
    },
    {
      description: "can create non-namespaced resources",
      anchor: "pre-k8s-cluster-k8s",
      run: async (context) => {
        const client = await context.client();
        const refused: string[] = [];
        for (const object of clusterScoped(context)) {
          try {
            await client.apply(object, { dryRun: true });
          } catch (error) {
            refused.push(`${object.kind} ${object.metadata.name}: ${(error as Error).message}`);
          }
        }
        if (refused.length > 0) throw new Error(`the API server would refuse:\n${refused.join("\n")}`);
      },
    },
    can("create", "", "serviceaccounts", "ServiceAccounts"),
    can("create", "", "services", "Services"),
    can("create", "apps", "deployments", "Deployments"),
    can("create", "", "configmaps", "ConfigMaps"),
    can("create", "", "secrets", "Secrets"),
    can("get", "", "secrets", "Secrets"),
    {
      description: "no clock skew detected",
      anchor: "pre-k8s-clock-skew",
      warning: true,
      run: async (context) => {
        const nodes = await context.list<Node>("v1", "Node");
        const skewed = nodes.filter((node) => {
          const ready = node.status?.conditions?.find(({ type }) => type === "Ready");
          if (ready?.status !== "True" || ready.lastHeartbeatTime === undefined) return false;
          return Math.abs(context.options.now() - Date.parse(ready.lastHeartbeatTime)) > MAX_SKEW_MS;
        });
        if (skewed.length === 0) return undefined;
        throw new Error(
          `clock skew detected for node(s): ${enumerate(skewed.map((node) => node.metadata.name))}`,
        );
      },
    },
  ],
};

/** The kubelet tells the node's condition at least every five minutes. */
const MAX_SKEW_MS = 310_000;

function clusterScoped(context: CheckContext) {
  const keys = Object.keys(COMPONENTS) as (keyof typeof COMPONENTS)[];
  return [
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: context.mesh, labels: { [KEYS.isControlPlane]: "true" } },
    },
    ...customResourceDefinitions(context.mesh),
    ...keys
      .flatMap((key) => rbacOf(key, { ...DEFAULT_VALUES, namespace: context.mesh }))
      .filter(({ kind }) => kind?.startsWith("ClusterRole")),
  ];
}

function can(verb: string, group: string, resource: string, plural: string): Check {
  return {
    description: `can ${verb === "get" ? "read" : verb} ${plural}`,
    anchor: "pre-k8s",
    run: async (context): Promise<Skip | undefined> => {
      const review = await (await context.client()).create<AccessReview>(
        {
          apiVersion: "authorization.k8s.io/v1",
          kind: "SelfSubjectAccessReview",
          metadata: { name: "" },
          spec: { resourceAttributes: { namespace: context.mesh, verb, group, resource } },
        },
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
      );
      if (review.status?.allowed) return undefined;
      const why = review.status?.reason;
      throw new Error(
        `not authorized to ${verb} ${resource}${group === "" ? "" : `.${group}`}${why ? `: ${why}` : ""}`,
      );
    },
  };
}

interface AccessReview {
  apiVersion: string;
  kind: string;
  metadata: { name: string };
  spec: object;
  status?: { allowed?: boolean; reason?: string };
}

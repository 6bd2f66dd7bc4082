// Is the control plane there, whole and running?
import type { Deployment, KubeObject, Node, Pod, Service } from "../../kube/types.ts";
import { customResourceDefinitions } from "../../manifests/crds.ts";
import {
  COMPONENTS,
  CONFIG_MAP,
  INJECTOR_WEBHOOK_NAMES,
  KEYS,
  VALIDATOR_WEBHOOK_NAMES,
} from "../../manifests/names.ts";
import { cidrHas, parseCidr } from "../../util/ip.ts";
import { type Category, type Check, type CheckContext, expectNone, nameOf, Skip } from "../check.ts";

const components = Object.values(COMPONENTS);

interface Definition extends KubeObject {
  spec: { versions: { name: string; served: boolean }[] };
}

async function definitionsExist(context: CheckContext): Promise<void> {
  const live = await context.list<Definition>("apiextensions.k8s.io/v1", "CustomResourceDefinition");
  const served = new Set(
    live.flatMap((crd) =>
      crd.spec.versions.filter((version) => version.served).map(({ name }) => `${crd.metadata.name}/${name}`),
    ),
  );
  const wanted = customResourceDefinitions(context.mesh).flatMap((crd) =>
    crd.spec.versions.map(({ name }) => `${crd.metadata.name}/${name}`),
  );
  expectNone(
    wanted.filter((name) => !served.has(name)),
    "CustomResourceDefinitions are missing or do not serve a version",
  );
}

export const meshCrd: Category = {
  id: "mesh-crd",
  checks: [
    {
      description: "control plane CustomResourceDefinitions exist",
      anchor: "l5d-existence-crd",
      fatal: true,
      retry: true,
      run: definitionsExist,
    },
  ],
};

export const meshExistence: Category = {
  id: "mesh-existence",
  checks: [
    {
      description: `'${CONFIG_MAP}' config map exists`,
      anchor: "l5d-existence-linkerd-config",
      fatal: true,
      run: async (context) => {
        await context.values();
      },
    },
    {
      description: "control plane replica sets are ready",
      anchor: "l5d-existence-replicasets",
      fatal: true,
      retry: true,
      run: async (context) => {
        const deployments = await context.list<Deployment>("apps/v1", "Deployment", context.mesh);
        const notReady = components.flatMap(({ workload }) => {
          const found = deployments.find(({ metadata }) => metadata.name === workload);
          if (!found) return [`${workload} does not exist`];
          const wanted = found.spec.replicas ?? 1;
          const ready = found.status?.readyReplicas ?? 0;
          return ready < wanted ? [`${workload} has ${ready} of ${wanted} replicas ready`] : [];
        });
        expectNone(notReady, "replica sets are not ready");
      },
    },
    {
      description: "no unschedulable pods",
      anchor: "l5d-existence-unschedulable-pods",
      warning: true,
      retry: true,
      surface: true,
      run: async (context) => {
        const pods = await context.controlPlanePods();
        const stuck = pods.flatMap((pod) => {
          const why = pod.status?.conditions?.find(
            ({ type, status, reason }) =>
              type === "PodScheduled" && status === "False" && reason === "Unschedulable",
          );
          return why ? [`${pod.metadata.name} (${why.message ?? "no node fits"})`] : [];
        });
        expectNone(stuck, "unschedulable");
      },
    },
    {
      description: "control plane pods are ready",
      anchor: "l5d-api-control-ready",
      fatal: true,
      retry: true,
      surface: true,
      run: async (context) => {
        const pods = await context.controlPlanePods();
        for (const { name, workload } of components) {
          const own = pods.filter(({ metadata }) => metadata.labels?.[KEYS.controlPlaneComponent] === name);
          if (own.length === 0) throw new Error(`no running pods for "${workload}"`);
          const best = own.map(unreadyPart).sort((a, b) => (a === "" ? -1 : b === "" ? 1 : 0))[0]!;
          if (best !== "") throw new Error(best);
        }
      },
    },
    {
      description: "cluster networks contains all node podCIDRs",
      anchor: "l5d-cluster-networks-cidr",
      run: async (context) => {
        const cidrs = (await context.list<Node>("v1", "Node")).flatMap((node) =>
          node.spec?.podCIDR ? [{ ip: node.spec.podCIDR.split("/")[0]!, what: node.spec.podCIDR }] : [],
        );
        if (cidrs.length === 0) return new Skip("nodes have no podCIDR");
        return outside(context, cidrs, "node podCIDRs");
      },
    },
    {
      description: "cluster networks contains all pods",
      anchor: "l5d-cluster-networks-pods",
      run: async (context) => {
        const pods = (await context.list<Pod>("v1", "Pod")).flatMap((pod) =>
          pod.status?.podIP && !pod.spec.hostNetwork
            ? [{ ip: pod.status.podIP, what: `${nameOf(pod)} (${pod.status.podIP})` }]
            : [],
        );
        return outside(context, pods, "pods");
      },
    },
    {
      description: "cluster networks contains all services",
      anchor: "l5d-cluster-networks-pods",
      run: async (context) => {
        const services = (await context.list<Service>("v1", "Service")).flatMap((service) => {
          const ip = service.spec.clusterIP;
          return ip && ip !== "None" ? [{ ip, what: `${nameOf(service)} (${ip})` }] : [];
        });
        return outside(context, services, "services");
      },
    },
  ],
};

async function outside(
  context: CheckContext,
  items: readonly { ip: string; what: string }[],
  plural: string,
): Promise<undefined> {
  const { clusterNetworks } = await context.values();
  const networks = clusterNetworks.split(",").map((network) => parseCidr(network.trim()));
  expectNone(
    items.filter(({ ip }) => !networks.some((network) => cidrHas(network, ip))).map(({ what }) => what),
    `these ${plural} are outside clusterNetworks (${clusterNetworks})`,
  );
  return undefined;
}

/** What of a pod is not ready, or nothing. */
function unreadyPart(pod: Pod): string {
  const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  for (const { name, ready, state } of statuses) {
    if (ready || state?.terminated?.exitCode === 0) continue;
    const why = state?.waiting?.reason ?? state?.terminated?.reason;
    return `pod/${pod.metadata.name} container ${name} is not ready${why ? ` (${why})` : ""}`;
  }
  const ready = pod.status?.conditions?.find(({ type }) => type === "Ready");
  return ready?.status === "True"
    ? ""
    : `pod/${pod.metadata.name} is not ready (${pod.status?.phase ?? "unknown"})`;
}

function allExist(
  description: string,
  anchor: string,
  kind: { apiVersion: string; kind: string },
  names: (context: CheckContext) => readonly string[],
  namespaced = false,
): Check {
  return {
    description,
    anchor,
    fatal: true,
    run: async (context) => {
      const live = await context.list(kind.apiVersion, kind.kind, namespaced ? context.mesh : undefined);
      const present = new Set(live.map(({ metadata }) => metadata.name));
      expectNone(
        names(context).filter((name) => !present.has(name)),
        `missing ${kind.kind}s`,
      );
    },
  };
}

const RBAC = "rbac.authorization.k8s.io/v1";
const clusterRoles = (context: CheckContext) => components.map(({ name }) => `${context.mesh}-${name}`);

export const meshConfig: Category = {
  id: "mesh-config",
  checks: [
    allExist(
      "control plane Namespace exists",
      "l5d-existence-ns",
      { apiVersion: "v1", kind: "Namespace" },
      (context) => [context.mesh],
    ),
    allExist(
      "control plane ClusterRoles exist",
      "l5d-existence-cr",
      { apiVersion: RBAC, kind: "ClusterRole" },
      clusterRoles,
    ),
    allExist(
      "control plane ClusterRoleBindings exist",
      "l5d-existence-crb",
      { apiVersion: RBAC, kind: "ClusterRoleBinding" },
      clusterRoles,
    ),
    allExist(
      "control plane ServiceAccounts exist",
      "l5d-existence-sa",
      { apiVersion: "v1", kind: "ServiceAccount" },
      () => components.map(({ workload }) => workload),
      true,
    ),
    {
      description: "control plane CustomResourceDefinitions exist",
      anchor: "l5d-existence-crd",
      fatal: true,
      run: definitionsExist,
    },
    allExist(
      "control plane MutatingWebhookConfigurations exist",
      "l5d-existence-mwc",
      { apiVersion: "admissionregistration.k8s.io/v1", kind: "MutatingWebhookConfiguration" },
      () => [INJECTOR_WEBHOOK_NAMES.verifier.name],
    ),
    allExist(
      "control plane ValidatingWebhookConfigurations exist",
      "l5d-existence-vwc",
      { apiVersion: "admissionregistration.k8s.io/v1", kind: "ValidatingWebhookConfiguration" },
      () => [VALIDATOR_WEBHOOK_NAMES.verifier.name],
    ),
  ],
};

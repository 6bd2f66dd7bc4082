// Do proxies run, beside the control plane's controllers and beside applications, and do versions agree?
import { KINDS } from "../../crds/index.ts";
import { reviewAnnotations } from "../../inject/index.ts";
import { isNotFound } from "../../kube/error.ts";
import type { Deployment, KubeObject, Pod, Service } from "../../kube/types.ts";
import { COMPONENTS, KEYS, PROXY_CONTAINER } from "../../manifests/names.ts";
import { reviewObject } from "../../rules/admission.ts";
import { type Problem, problemText } from "../../schema/index.ts";
import { parsePortSet, portSetHas } from "../../util/port-set.ts";
import { type Category, type CheckContext, expectNone, nameOf, Skip } from "../check.ts";

/** Pods whose proxy is not ready, with why. */
function unreadyProxies(pods: readonly Pod[]): string[] {
  return pods.flatMap((pod) => {
    const statuses = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
    const proxy = statuses.find(({ name }) => name === PROXY_CONTAINER);
    if (proxy?.ready) return [];
    const why = proxy?.state?.waiting?.reason ?? proxy?.state?.terminated?.reason;
    return [`${nameOf(pod)}${why ? ` (${why})` : ""}`];
  });
}

/** Pods whose proxy was injected at another version than this CLI's. */
function otherVersions(pods: readonly Pod[], version: string): string[] {
  return pods.flatMap((pod) => {
    const found = pod.metadata.annotations?.[KEYS.proxyVersion];
    return found === version ? [] : [`${nameOf(pod)} (${found ?? "unknown"})`];
  });
}

async function controlPlaneVersion(context: CheckContext): Promise<string> {
  const deployment = await context.find<Deployment>(
    "apps/v1",
    "Deployment",
    COMPONENTS.destination.workload,
    context.mesh,
  );
  const version = deployment?.metadata.labels?.["app.kubernetes.io/version"];
  if (version === undefined)
    throw new Error(`Deployment ${COMPONENTS.destination.workload} tells no version`);
  return version;
}

export const controlPlaneVersions: Category = {
  id: "control-plane-version",
  checks: [
    {
      description: "can retrieve the control plane version",
      anchor: "l5d-version-control",
      fatal: true,
      retry: true,
      run: async (context) => {
        await controlPlaneVersion(context);
      },
    },
    {
      description: "control plane and cli versions match",
      anchor: "l5d-version-control",
      warning: true,
      run: async (context) => {
        const version = await controlPlaneVersion(context);
        if (version !== context.options.version) {
          throw new Error(`control plane running ${version} but cli running ${context.options.version}`);
        }
      },
    },
  ],
};

export const controlPlaneProxy: Category = {
  id: "mesh-control-plane-proxy",
  checks: [
    {
      description: "control plane proxies are healthy",
      anchor: "l5d-cp-proxy-healthy",
      fatal: true,
      retry: true,
      surface: true,
      run: async (context) =>
        expectNone(unreadyProxies(await context.controlPlanePods()), "these proxies are not ready"),
    },
    {
      description: "control plane proxies and cli versions match",
      anchor: "l5d-cp-proxy-cli-version",
      warning: true,
      run: async (context) =>
        expectNone(
          otherVersions(await context.controlPlanePods(), context.options.version),
          `these proxies are not of version ${context.options.version}`,
        ),
    },
  ],
};

/** Keys that are annotations but are often written as labels. */
const MISPLACED = (key: string): boolean => key === KEYS.inject || key.startsWith(KEYS.config);

const misplacedLabels = (objects: readonly KubeObject[]): string[] =>
  objects.flatMap((object) =>
    Object.keys(object.metadata.labels ?? {})
      .filter(MISPLACED)
      .map((key) => `${nameOf(object)} has ${key}`),
  );

const meshServices = (context: CheckContext): Promise<Service[]> =>
  context.list<Service>("v1", "Service", context.options.namespace);

export const meshDataPlane: Category = {
  id: "mesh-data-plane",
  checks: [
    {
      description: "data plane namespace exists",
      anchor: "l5d-data-plane-exists",
      fatal: true,
      run: async (context) => {
        const { namespace } = context.options;
        if (namespace === undefined) return new Skip("all namespaces");
        if (!(await context.find("v1", "Namespace", namespace))) {
          throw new Error(`The "${namespace}" namespace does not exist`);
        }
        return undefined;
      },
    },
    {
      description: "data plane proxies are ready",
      anchor: "l5d-data-plane-ready",
      fatal: true,
      retry: true,
      run: async (context) => {
        const pods = await context.dataPlanePods();
        if (pods.length === 0) throw new Error(`no pods with a proxy${scope(context)}`);
        expectNone(unreadyProxies(pods), "these proxies are not ready");
      },
    },
    {
      description: "data plane and cli versions match",
      anchor: "l5d-data-plane-cli-version",
      warning: true,
      run: async (context) =>
        expectNone(
          otherVersions(await context.dataPlanePods(), context.options.version),
          `these proxies are not of version ${context.options.version}`,
        ),
    },
    {
      description: "data plane pod labels are configured correctly",
      anchor: "l5d-data-plane-pod-labels",
      warning: true,
      run: async (context) =>
        expectNone(
          misplacedLabels(await context.dataPlanePods()),
          "these labels have no effect; they are annotations",
        ),
    },
    {
      description: "data plane service labels are configured correctly",
      anchor: "l5d-data-plane-services-labels",
      warning: true,
      run: async (context) =>
        expectNone(
          misplacedLabels(await meshServices(context)),
          "these labels have no effect; they are annotations",
        ),
    },
    {
      description: "data plane service annotations are configured correctly",
      anchor: "l5d-data-plane-services-annotations",
      warning: true,
      run: async (context) =>
        expectNone(
          (await meshServices(context)).flatMap((service) =>
            service.metadata.annotations?.[KEYS.inject] === undefined ? [] : [nameOf(service)],
          ),
          `the annotation ${KEYS.inject} has no effect on Services`,
        ),
    },
    {
      description: "annotations of the mesh have an effect",
      anchor: "mesh-annotations",
      warning: true,
      run: async (context) =>
        expectNone(
          (await annotatedObjects(context)).flatMap((object) => told(object, reviewAnnotations(object))),
          "these annotations have no effect",
        ),
    },
    {
      description: "policies and routes can be applied",
      anchor: "mesh-policies",
      run: async (context) =>
        expectNone(
          (await policies(context)).flatMap((object) => told(object, reviewObject(object).problems)),
          "these cannot be applied",
        ),
    },
    {
      description: "policies and routes say what is meant",
      anchor: "mesh-policies-strange",
      warning: true,
      run: async (context) =>
        expectNone(
          (await policies(context)).flatMap((object) => told(object, reviewObject(object).warnings)),
          "these say something else than is probably meant",
        ),
    },
    {
      description: "opaque ports are properly annotated",
      anchor: "linkerd-opaque-ports-definition",
      warning: true,
      run: async (context) => {
        const [services, pods] = await Promise.all([meshServices(context), context.dataPlanePods()]);
        expectNone(
          services.flatMap((service) => opaqueMismatches(service, pods)),
          "these Services and their pods disagree on opaque ports",
        );
      },
    },
  ],
};

/** Kubernetes' own kinds that take annotations of the mesh, beside Namespaces. */
const ANNOTATED = [
  ["v1", "Service"],
  ["v1", "Pod"],
  ["v1", "ReplicationController"],
  ["apps/v1", "Deployment"],
  ["apps/v1", "ReplicaSet"],
  ["apps/v1", "StatefulSet"],
  ["apps/v1", "DaemonSet"],
  ["batch/v1", "Job"],
  ["batch/v1", "CronJob"],
] as const;

/** What a workload made says what the workload says. */
const isMade = ({ metadata }: KubeObject): boolean =>
  (metadata.ownerReferences ?? []).some(({ controller }) => controller);

type Any = KubeObject & Readonly<Record<string, unknown>>;

/** Lists that name their kind in each item; none of a kind that the cluster does not have. */
async function objectsOf(
  context: CheckContext,
  apiVersion: string,
  kind: string,
  namespace = context.options.namespace,
): Promise<Any[]> {
  try {
    const items = await context.list<Any>(apiVersion, kind, namespace);
    return items.map((item) => ({ ...item, apiVersion, kind }));
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
}

/** Every policy, route and profile, outside of the mesh's own namespace. */
async function policies(context: CheckContext): Promise<Any[]> {
  const lists = await Promise.all(
    [...new Set(KINDS.map(({ group }) => group))].map(async (group) => {
      const served = await context.servedKinds(group);
      return Promise.all(
        KINDS.flatMap(({ group: of, kind }) => {
          const apiVersion = of === group ? served.get(kind) : undefined;
          return apiVersion === undefined ? [] : [objectsOf(context, apiVersion, kind)];
        }),
      );
    }),
  );
  return lists.flat(2).filter(({ metadata }) => metadata.namespace !== context.mesh);
}

async function annotatedObjects(context: CheckContext): Promise<Any[]> {
  const { namespace } = context.options;
  const lists = await Promise.all([
    objectsOf(context, "v1", "Namespace", undefined),
    ...ANNOTATED.map(([apiVersion, kind]) => objectsOf(context, apiVersion, kind)),
    policies(context),
  ]);
  return lists.flat().filter((object) => {
    const at = object.kind === "Namespace" ? object.metadata.name : object.metadata.namespace;
    return at !== context.mesh && (namespace === undefined || at === namespace) && !isMade(object);
  });
}

const told = (object: Any, problems: readonly Problem[]): string[] =>
  problems.map((problem) => `${object.kind} ${nameOf(object)}: ${problemText(problem)}`);

const scope = (context: CheckContext): string =>
  context.options.namespace === undefined ? "" : ` in namespace ${context.options.namespace}`;

/** Ports that a Service calls opaque and a pod behind it does not. */
function opaqueMismatches(service: Service, pods: readonly Pod[]): string[] {
  const annotation = service.metadata.annotations?.[KEYS.opaquePorts];
  const selector = Object.entries(service.spec.selector ?? {});
  if (annotation === undefined || selector.length === 0) return [];
  const opaque = readPorts(annotation);
  const behind = pods.filter(
    ({ metadata }) =>
      metadata.namespace === service.metadata.namespace &&
      selector.every(([key, value]) => metadata.labels?.[key] === value),
  );
  return (service.spec.ports ?? [])
    .filter(({ port }) => portSetHas(opaque, port))
    .flatMap(({ port, targetPort = port }) =>
      behind
        .filter((pod) => {
          const target = typeof targetPort === "number" ? targetPort : portNamed(pod, targetPort);
          return (
            target !== undefined &&
            !portSetHas(readPorts(pod.metadata.annotations?.[KEYS.opaquePorts]), target)
          );
        })
        .map((pod) => `${nameOf(service)} port ${port} and ${pod.metadata.name}`),
    );
}

const portNamed = (pod: Pod, name: string): number | undefined =>
  pod.spec.containers.flatMap(({ ports }) => ports ?? []).find((port) => port.name === name)?.containerPort;

function readPorts(text: string | undefined) {
  try {
    return parsePortSet(text ?? "");
  } catch {
    // Names of ports, which only the pod's own proxy resolves.
    return [];
  }
}

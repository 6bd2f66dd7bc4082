// What `install` decides before it renders: may it, with which values and with whose certificates.
import type { KubeClient } from "../kube/client.ts";
import { isNotFound } from "../kube/error.ts";
import { resourcePath } from "../kube/path.ts";
import type { EndpointSlice, Service } from "../kube/types.ts";
import { parseDuration } from "../util/duration.ts";
import { MeshError } from "../util/error.ts";
import { formatPortSet, mergePorts, parsePortSet } from "../util/port-set.ts";
import { controlPlane, type Manifest } from "./control-plane.ts";
import { customResourceDefinitions } from "./crds.ts";
import {
  checkIdentityCredentials,
  createAllWebhookCredentials,
  createIdentityCredentials,
  type IdentityCredentials,
} from "./credentials.ts";
import { CRDS_PATH, installedConfig } from "./installed.ts";
import { mergeTrees, readValues, type Values } from "./values.ts";

/** @throws MeshError when the cluster is not ready for an installation, or has one already */
export async function assertInstallable(client: KubeClient, namespace: string): Promise<void> {
  const existing = await installedConfig(client, namespace);
  if (existing) {
    throw new MeshError(`the mesh is installed already in namespace ${namespace}; nothing was changed`, {
      hints: [
        "see how it is: kubectl mesh check",
        "remove it first: kubectl mesh uninstall | kubectl delete -f -",
      ],
    });
  }
  const { items } = await client.list(CRDS_PATH);
  const present = new Set(items.map((item) => item.metadata.name));
  const missing = customResourceDefinitions(namespace).filter((crd) => !present.has(crd.metadata.name));
  if (missing.length > 0) {
    throw new MeshError(
      `the mesh's custom resource definitions are missing: ${missing.map((crd) => crd.metadata.name).join(", ")}`,
      {
        hints: ["kubectl mesh install --crds | kubectl apply -f -"],
      },
    );
  }
}

/** Ports on which the API server is reached, as a port set: those of its Service and of what is behind it. */
export async function apiServerPorts(client: KubeClient): Promise<string> {
  const at = (kind: string, apiVersion: string) =>
    resourcePath({ apiVersion, kind, namespace: "default", name: "kubernetes" });
  const found: number[] = [];
  try {
    const service = await client.get<Service>(at("Service", "v1"));
    found.push(...(service.spec.ports ?? []).map(({ port }) => port));
    const slice = await client.get<EndpointSlice>(at("EndpointSlice", "discovery.k8s.io/v1"));
    found.push(...(slice.ports ?? []).flatMap(({ port }) => (port === undefined ? [] : [port])));
  } catch (error) {
    // A user who may not read them gets the well-known ports.
    if (!isNotFound(error) && (error as { status?: number }).status !== 403) throw error;
  }
  return formatPortSet(mergePorts(found.map((port) => ({ from: port, to: port }))));
}

export interface InstallPlan {
  readonly values: Values;
  readonly objects: readonly Manifest[];
}

/**
 * The objects of an installation.
 * @param tree what the user set, over the defaults
 * @param given the user's own certificates; without, new ones are made
 * @param serverPorts API server ports besides the well-known ones, as a port set
 * @throws MeshError
 */
export function planInstall(options: {
  readonly tree: unknown;
  readonly given: IdentityCredentials | undefined;
  readonly serverPorts: string;
  readonly now: number;
}): InstallPlan {
  const { now } = options;
  const set = readValues(options.tree);
  const mesh = { namespace: set.namespace, trustDomain: set.identityTrustDomain };
  const identity = options.given
    ? checkIdentityCredentials(options.given, now)
    : createIdentityCredentials(mesh, now);
  const known = set.proxyInit.kubeAPIServerPorts;
  const values = readValues(
    mergeTrees(set, {
      identityTrustAnchorsPEM: identity.trustAnchors,
      proxyInit: { kubeAPIServerPorts: formatPortSet(parsePortSet(`${known},${options.serverPorts}`)) },
    }),
  );
  const lifetime = parseDuration(values.webhookCertificateLifetime);
  const webhooks = createAllWebhookCredentials(values.namespace, now, lifetime);
  return { values, objects: controlPlane({ values, identity, webhooks }) };
}

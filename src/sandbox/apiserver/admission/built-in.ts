// The admission rules that every API server has: namespaces must exist and live, pods get their ServiceAccount, its
// token volume and the usual tolerations.

import { randomBytes } from "node:crypto";
import type { Json } from "../../cluster.ts";
import type { Registry } from "../registry.ts";
import { ApiError, forbidden, notFound } from "../status.ts";
import type { AdmissionRequest, AdmissionStage } from "./admission.ts";

/** Refuses to create in a namespace that is absent or ending. */
export function namespaceLifecycle(registry: Registry): AdmissionStage {
  return {
    mutate({ operation, def, namespace, name }) {
      if (operation !== "CREATE" || !def.namespaced || !namespace) return;
      const found = registry.store.get("/namespaces", namespace);
      if (!found) throw notFound("", "namespaces", namespace);
      if (!found.metadata.deletionTimestamp || def.collection === "/events") return;
      throw new ApiError(
        403,
        "Forbidden",
        `${def.group ? `${def.resource}.${def.group}` : def.resource} ${JSON.stringify(name)} is forbidden: unable to create new content in namespace ${namespace} because it is being terminated`,
        {
          name,
          ...(def.group ? { group: def.group } : {}),
          kind: def.resource,
          causes: [
            {
              reason: "NamespaceTerminating",
              message: `namespace ${namespace} is being terminated`,
              field: "metadata.namespace",
            },
          ],
        },
      );
    },
  };
}

const MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** Gives each pod its ServiceAccount and the volume with its token. */
export function serviceAccounts(registry: Registry): AdmissionStage {
  return {
    mutate(request) {
      if (!createsPod(request)) return;
      const { spec, metadata } = request.object as Json;
      const { namespace } = request;
      spec.serviceAccountName ||= "default";
      spec.serviceAccount = spec.serviceAccountName;
      const account = registry.store.get("/serviceaccounts", `${namespace}/${spec.serviceAccountName}`);
      if (!account) {
        throw forbidden(
          "",
          "pods",
          metadata.name,
          `error looking up service account ${namespace}/${spec.serviceAccountName}: serviceaccount ${JSON.stringify(spec.serviceAccountName)} not found`,
        );
      }
      if (!spec.imagePullSecrets && account.imagePullSecrets)
        spec.imagePullSecrets = account.imagePullSecrets;
      const wanted = spec.automountServiceAccountToken ?? account.automountServiceAccountToken ?? true;
      if (wanted) mountToken(spec);
    },
  };
}

function mountToken(spec: Json): void {
  let volume = (spec.volumes ?? []).find((v: Json) => String(v.name).startsWith("kube-api-access-"))?.name;
  const targets = [...(spec.initContainers ?? []), ...(spec.containers ?? [])].filter(
    (c: Json) => !(c.volumeMounts ?? []).some((m: Json) => m.mountPath === MOUNT),
  );
  if (targets.length === 0) return;
  if (!volume) {
    volume = `kube-api-access-${randomBytes(4).toString("hex").slice(0, 5)}`;
    spec.volumes = [
      ...(spec.volumes ?? []),
      {
        name: volume,
        projected: {
          sources: [
            { serviceAccountToken: { expirationSeconds: 3607, path: "token" } },
            { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
            {
              downwardAPI: {
                items: [
                  { path: "namespace", fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" } },
                ],
              },
            },
          ],
          defaultMode: 420,
        },
      },
    ];
  }
  for (const container of targets) {
    container.volumeMounts = [
      ...(container.volumeMounts ?? []),
      { name: volume, readOnly: true, mountPath: MOUNT },
    ];
  }
}

/** Pods outlive a node's short absence, and carry their priority. */
export function podPlacement(registry: Registry): AdmissionStage {
  return {
    mutate(request) {
      if (!createsPod(request)) return;
      const { spec, metadata } = request.object as Json;
      spec.tolerations ??= [];
      for (const key of ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]) {
        if (spec.tolerations.some((t: Json) => !t.key || t.key === key)) continue;
        spec.tolerations.push({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 });
      }
      if (spec.priorityClassName) {
        const system: Record<string, number> = {
          "system-cluster-critical": 2000000000,
          "system-node-critical": 2000001000,
        };
        const found = registry.store.get("scheduling.k8s.io/priorityclasses", spec.priorityClassName);
        const value = found?.value ?? system[spec.priorityClassName];
        if (value === undefined) {
          throw forbidden(
            "",
            "pods",
            metadata.name,
            `no PriorityClass with name ${spec.priorityClassName} was found`,
          );
        }
        spec.priority = value;
      }
      spec.priority ??= 0;
      spec.preemptionPolicy ??= "PreemptLowerPriority";
    },
  };
}

const createsPod = ({ operation, def, subresource }: AdmissionRequest) =>
  operation === "CREATE" && def.collection === "/pods" && !subresource;

// Validation of pods and of the pod specs inside workloads, with Kubernetes' messages.

import type { Json, KubeObject } from "../../cluster.ts";
import { deepEqual } from "../resource.ts";
import {
  duplicate,
  type FieldError,
  forbiddenField,
  invalidValue,
  notSupported,
  required,
} from "../status.ts";
import { dnsLabel, dnsSubdomain } from "./names.ts";

export function podErrors(pod: KubeObject, old: KubeObject | undefined): FieldError[] {
  const errors = podSpecErrors(pod.spec, "spec");
  if (old && !deepEqual(mutablePodSpec(pod.spec), mutablePodSpec(old.spec))) {
    errors.push(
      forbiddenField(
        "spec",
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
      ),
    );
  }
  if (old?.spec.nodeName && pod.spec.nodeName !== old.spec.nodeName) {
    errors.push(forbiddenField("spec.nodeName", "a pod that is bound to a node stays there"));
  }
  return errors;
}

/** The spec without what a pod update may change. */
function mutablePodSpec(spec: Json): Json {
  const {
    activeDeadlineSeconds,
    tolerations,
    terminationGracePeriodSeconds,
    nodeName,
    ephemeralContainers,
    ...rest
  } = spec;
  const imageless = (list: Json[] | undefined) => list?.map(({ image, imagePullPolicy, ...c }) => c);
  return {
    ...rest,
    containers: imageless(spec.containers),
    initContainers: imageless(spec.initContainers),
    schedulingGates: undefined,
  };
}

export function podSpecErrors(spec: Json, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (!Array.isArray(spec?.containers) || spec.containers.length === 0) {
    return [required(`${path}.containers`)];
  }
  const volumes = new Set<string>();
  (spec.volumes ?? []).forEach((volume: Json, i: number) => {
    const at = `${path}.volumes[${i}]`;
    if (!volume.name) errors.push(required(`${at}.name`));
    else {
      const bad = dnsLabel(volume.name);
      if (bad) errors.push(invalidValue(`${at}.name`, volume.name, bad));
      if (volumes.has(volume.name)) errors.push(duplicate(`${at}.name`, volume.name));
      volumes.add(volume.name);
    }
    const sources = Object.keys(volume).filter((key) => key !== "name");
    if (sources.length > 1) {
      errors.push(forbiddenField(`${at}.${sources[1]}`, "may not specify more than 1 volume type"));
    }
  });
  const names = new Set<string>();
  for (const list of ["initContainers", "containers", "ephemeralContainers"]) {
    (spec[list] ?? []).forEach((container: Json, i: number) => {
      errors.push(...containerErrors(container, `${path}.${list}[${i}]`, names, volumes, list, spec));
    });
  }
  if (!["Always", "OnFailure", "Never"].includes(spec.restartPolicy)) {
    errors.push(notSupported(`${path}.restartPolicy`, spec.restartPolicy, ["Always", "OnFailure", "Never"]));
  }
  if (!["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"].includes(spec.dnsPolicy)) {
    errors.push(
      notSupported(`${path}.dnsPolicy`, spec.dnsPolicy, [
        "ClusterFirst",
        "ClusterFirstWithHostNet",
        "Default",
        "None",
      ]),
    );
  }
  if (!Number.isInteger(spec.terminationGracePeriodSeconds) || spec.terminationGracePeriodSeconds < 0) {
    errors.push(
      invalidValue(
        `${path}.terminationGracePeriodSeconds`,
        spec.terminationGracePeriodSeconds,
        "must be greater than or equal to 0",
      ),
    );
  }
  if (spec.serviceAccountName) {
    const bad = dnsSubdomain(spec.serviceAccountName);
    if (bad) errors.push(invalidValue(`${path}.serviceAccountName`, spec.serviceAccountName, bad));
  }
  return errors;
}

function containerErrors(
  container: Json,
  at: string,
  names: Set<string>,
  volumes: Set<string>,
  list: string,
  spec: Json,
): FieldError[] {
  if (typeof container !== "object" || container === null) return [required(at)];
  const errors: FieldError[] = [];
  if (!container.name) errors.push(required(`${at}.name`));
  else {
    const bad = dnsLabel(container.name);
    if (bad) errors.push(invalidValue(`${at}.name`, container.name, bad));
    if (names.has(container.name)) errors.push(duplicate(`${at}.name`, container.name));
    names.add(container.name);
  }
  if (!container.image) errors.push(required(`${at}.image`));
  else if (typeof container.image !== "string" || container.image.trim() !== container.image) {
    errors.push(invalidValue(`${at}.image`, container.image, "must not have leading or trailing whitespace"));
  }
  if (!["Always", "IfNotPresent", "Never"].includes(container.imagePullPolicy) && container.image) {
    errors.push(
      notSupported(`${at}.imagePullPolicy`, container.imagePullPolicy, ["Always", "IfNotPresent", "Never"]),
    );
  }
  if (container.restartPolicy !== undefined) {
    if (list !== "initContainers") {
      errors.push(forbiddenField(`${at}.restartPolicy`, "may not be set for non-init containers"));
    } else if (container.restartPolicy !== "Always") {
      errors.push(notSupported(`${at}.restartPolicy`, container.restartPolicy, ["Always"]));
    }
  }
  const portNames = new Set<string>();
  (container.ports ?? []).forEach((port: Json, i: number) => {
    if (!Number.isInteger(port.containerPort) || port.containerPort < 1 || port.containerPort > 65535) {
      errors.push(
        port.containerPort === undefined
          ? required(`${at}.ports[${i}].containerPort`)
          : invalidValue(
              `${at}.ports[${i}].containerPort`,
              port.containerPort,
              "must be between 1 and 65535, inclusive",
            ),
      );
    }
    if (port.name) {
      if (!/^(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$/.test(port.name)) {
        errors.push(
          invalidValue(
            `${at}.ports[${i}].name`,
            port.name,
            "must be no more than 15 characters, lower case alphanumeric or '-', with at least one letter (a-z)",
          ),
        );
      }
      if (portNames.has(port.name)) errors.push(duplicate(`${at}.ports[${i}].name`, port.name));
      portNames.add(port.name);
    }
    if (!["TCP", "UDP", "SCTP"].includes(port.protocol)) {
      errors.push(notSupported(`${at}.ports[${i}].protocol`, port.protocol, ["SCTP", "TCP", "UDP"]));
    }
  });
  (container.env ?? []).forEach((variable: Json, i: number) => {
    if (!variable?.name) errors.push(required(`${at}.env[${i}].name`));
    else if (variable.value !== undefined && typeof variable.value !== "string") {
      errors.push(invalidValue(`${at}.env[${i}].value`, variable.value, "must be a string"));
    } else if (variable.value && variable.valueFrom) {
      errors.push(
        invalidValue(`${at}.env[${i}].valueFrom`, "", "may not be specified when `value` is not empty"),
      );
    }
  });
  const mounts = new Set<string>();
  const claims = new Set((spec.volumeClaimTemplates ?? []).map((claim: Json) => claim?.metadata?.name));
  (container.volumeMounts ?? []).forEach((mount: Json, i: number) => {
    if (!mount.name) errors.push(required(`${at}.volumeMounts[${i}].name`));
    else if (!volumes.has(mount.name) && !claims.has(mount.name)) {
      errors.push({
        field: `${at}.volumeMounts[${i}].name`,
        reason: "FieldValueInvalid",
        message: `Not found: ${JSON.stringify(mount.name)}`,
      });
    }
    if (!mount.mountPath) errors.push(required(`${at}.volumeMounts[${i}].mountPath`));
    else if (mounts.has(mount.mountPath)) {
      errors.push(invalidValue(`${at}.volumeMounts[${i}].mountPath`, mount.mountPath, "must be unique"));
    }
    mounts.add(mount.mountPath);
  });
  for (const probe of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    if (!container[probe]) continue;
    const handlers = ["exec", "httpGet", "tcpSocket", "grpc"].filter((kind) => container[probe][kind]);
    if (handlers.length === 0) errors.push(required(`${at}.${probe}`, "must specify a handler type"));
    if (handlers.length > 1) {
      errors.push(
        forbiddenField(`${at}.${probe}.${handlers[1]}`, "may not specify more than 1 handler type"),
      );
    }
  }
  return errors;
}

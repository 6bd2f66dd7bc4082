// Validation of the built-in kinds: the mistakes that people make in manifests, with Kubernetes' messages.

import type { Json, KubeObject } from "../../cluster.ts";
import { deepEqual } from "../resource.ts";
import {
  badRequest,
  duplicate,
  type FieldError,
  forbiddenField,
  invalidValue,
  notSupported,
  required,
} from "../status.ts";
import { dns1035Label, dnsLabel, labelErrors, metadataErrors } from "./names.ts";
import { podSpecErrors } from "./pod-validation.ts";

export function templateErrors(object: KubeObject, old: KubeObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const { spec } = object;
  if (spec.replicas !== undefined && (!Number.isInteger(spec.replicas) || spec.replicas < 0)) {
    errors.push(invalidValue("spec.replicas", spec.replicas, "must be greater than or equal to 0"));
  }
  if (!spec.selector) errors.push(required("spec.selector"));
  else if (typeof spec.selector.matchLabels === "object" || spec.selector.matchExpressions) {
    errors.push(...labelErrors(spec.selector.matchLabels, "spec.selector.matchLabels"));
    const labels = spec.template?.metadata?.labels ?? {};
    const misses = Object.entries(spec.selector.matchLabels ?? {}).some(
      ([key, value]) => labels[key] !== value,
    );
    if (misses) {
      errors.push(
        invalidValue("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"),
      );
    }
  } else {
    errors.push(
      invalidValue(
        "spec.selector",
        spec.selector,
        `empty selector is invalid for ${String(object.kind).toLowerCase()}`,
      ),
    );
  }
  if (old && !deepEqual(spec.selector, old.spec.selector)) {
    errors.push(invalidValue("spec.selector", spec.selector, "field is immutable"));
  }
  errors.push(...metadataErrors(spec.template?.metadata ?? {}, "spec.template.metadata"));
  errors.push(
    ...podSpecErrors(
      { ...spec.template?.spec, volumeClaimTemplates: spec.volumeClaimTemplates },
      "spec.template.spec",
    ),
  );
  if (object.kind !== "Job" && spec.template?.spec?.restartPolicy !== "Always") {
    errors.push(
      notSupported("spec.template.spec.restartPolicy", spec.template?.spec?.restartPolicy, ["Always"]),
    );
  }
  return errors;
}

export function jobErrors(object: KubeObject, old: KubeObject | undefined): FieldError[] {
  const errors = templateErrors(object, old);
  if (object.spec.template?.spec?.restartPolicy === "Always") {
    errors.push(notSupported("spec.template.spec.restartPolicy", "Always", ["OnFailure", "Never"]));
  }
  if (old && !deepEqual(object.spec.template, old.spec.template)) {
    errors.push(invalidValue("spec.template", "…", "field is immutable"));
  }
  return errors;
}

export function cronJobErrors(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const schedule = object.spec.schedule;
  if (!schedule) errors.push(required("spec.schedule"));
  else if (!/^(@\w+|(\S+\s+){4}\S+)$/.test(String(schedule).trim())) {
    errors.push(
      invalidValue("spec.schedule", schedule, "expected exactly 5 fields, or a descriptor such as @hourly"),
    );
  }
  errors.push(
    ...podSpecErrors(object.spec.jobTemplate?.spec?.template?.spec, "spec.jobTemplate.spec.template.spec"),
  );
  return errors;
}

export function serviceErrors(object: KubeObject, old: KubeObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const { spec } = object;
  const types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
  if (!types.includes(spec.type)) errors.push(notSupported("spec.type", spec.type, types));
  const headless = spec.clusterIP === "None";
  if (spec.type !== "ExternalName" && !headless && !(spec.ports?.length > 0)) {
    errors.push(required("spec.ports"));
  }
  if (spec.type === "ExternalName" && !spec.externalName) errors.push(required("spec.externalName"));
  const names = new Set<string>();
  const seen = new Set<string>();
  (spec.ports ?? []).forEach((port: Json, i: number) => {
    const at = `spec.ports[${i}]`;
    if (spec.ports.length > 1 && !port.name) errors.push(required(`${at}.name`));
    if (port.name) {
      const bad = dnsLabel(port.name);
      if (bad) errors.push(invalidValue(`${at}.name`, port.name, bad));
      if (names.has(port.name)) errors.push(duplicate(`${at}.name`, port.name));
      names.add(port.name);
    }
    if (!Number.isInteger(port.port) || port.port < 1 || port.port > 65535) {
      errors.push(
        port.port === undefined
          ? required(`${at}.port`)
          : invalidValue(`${at}.port`, port.port, "must be between 1 and 65535, inclusive"),
      );
    }
    if (!["TCP", "UDP", "SCTP"].includes(port.protocol)) {
      errors.push(notSupported(`${at}.protocol`, port.protocol, ["SCTP", "TCP", "UDP"]));
    }
    const key = `${port.protocol}/${port.port}`;
    if (seen.has(key)) errors.push(duplicate(at, { protocol: port.protocol, port: port.port }));
    seen.add(key);
  });
  errors.push(...labelErrors(spec.selector, "spec.selector"));
  if (old?.spec.clusterIP && spec.type !== "ExternalName" && old.spec.type !== "ExternalName") {
    if (spec.clusterIP !== old.spec.clusterIP) {
      errors.push(invalidValue("spec.clusterIPs[0]", spec.clusterIPs?.[0] ?? "", "may not change once set"));
    }
  }
  return errors;
}

export function serviceName(name: string): string | undefined {
  return dns1035Label(name);
}

export function dataErrors(object: KubeObject, old: KubeObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ["data", "binaryData"]) {
    for (const [key, value] of Object.entries(object[field] ?? {})) {
      if (!/^[-._a-zA-Z0-9]+$/.test(key) || key.length > 253) {
        errors.push(
          invalidValue(
            `${field}[${key}]`,
            key,
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
          ),
        );
      }
      if (typeof value !== "string") errors.push(invalidValue(`${field}[${key}]`, value, "must be a string"));
      else if (
        (field === "binaryData" || object.kind === "Secret") &&
        !/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(value)
      ) {
        errors.push(invalidValue(`${field}[${key}]`, "…", "must be base64"));
      }
    }
  }
  if (old?.immutable) {
    if (!object.immutable)
      errors.push(forbiddenField("immutable", "field is immutable when `immutable` is set"));
    if (!deepEqual(object.data, old.data) || !deepEqual(object.binaryData, old.binaryData)) {
      errors.push(forbiddenField("data", "field is immutable when `immutable` is set"));
    }
  }
  if (object.kind === "Secret") {
    if (old && old.type !== object.type) errors.push(invalidValue("type", object.type, "field is immutable"));
    if (object.type === "kubernetes.io/tls") {
      for (const key of ["tls.crt", "tls.key"]) {
        if (object.data?.[key] === undefined) errors.push(required(`data[${key}]`));
      }
    }
  }
  return errors;
}

export function roleErrors(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  (object.rules ?? []).forEach((rule: Json, i: number) => {
    if (!(rule.verbs?.length > 0))
      errors.push(required(`rules[${i}].verbs`, "verbs must contain at least one value"));
    if (rule.nonResourceURLs?.length > 0) return;
    if (!(rule.apiGroups?.length > 0)) {
      errors.push(required(`rules[${i}].apiGroups`, "resource rules must supply at least one api group"));
    }
    if (!(rule.resources?.length > 0)) {
      errors.push(required(`rules[${i}].resources`, "resource rules must supply at least one resource"));
    }
  });
  return errors;
}

export function bindingErrors(object: KubeObject, old: KubeObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  if (!["Role", "ClusterRole"].includes(object.roleRef?.kind)) {
    errors.push(notSupported("roleRef.kind", object.roleRef?.kind ?? "", ["Role", "ClusterRole"]));
  }
  if (!object.roleRef?.name) errors.push(required("roleRef.name"));
  if (old && !deepEqual(old.roleRef, object.roleRef)) {
    errors.push(invalidValue("roleRef", object.roleRef, "cannot change roleRef"));
  }
  (object.subjects ?? []).forEach((subject: Json, i: number) => {
    if (!subject.name) errors.push(required(`subjects[${i}].name`));
    if (!["ServiceAccount", "User", "Group"].includes(subject.kind)) {
      errors.push(notSupported(`subjects[${i}].kind`, subject.kind, ["ServiceAccount", "User", "Group"]));
    }
    if (subject.kind === "ServiceAccount" && !subject.namespace && object.kind === "ClusterRoleBinding") {
      errors.push(required(`subjects[${i}].namespace`));
    }
  });
  return errors;
}

export function webhookErrors(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const names = new Set<string>();
  (object.webhooks ?? []).forEach((hook: Json, i: number) => {
    const at = `webhooks[${i}]`;
    if (!hook.name) errors.push(required(`${at}.name`));
    if (names.has(hook.name)) errors.push(duplicate(`${at}.name`, hook.name));
    names.add(hook.name);
    if (!["None", "NoneOnDryRun"].includes(hook.sideEffects)) {
      errors.push(
        hook.sideEffects === undefined
          ? required(`${at}.sideEffects`, "must specify one of None, NoneOnDryRun")
          : notSupported(`${at}.sideEffects`, hook.sideEffects, ["None", "NoneOnDryRun"]),
      );
    }
    if (!hook.admissionReviewVersions?.includes("v1")) {
      errors.push(
        invalidValue(
          `${at}.admissionReviewVersions`,
          hook.admissionReviewVersions ?? [],
          "must include at least one of v1, v1beta1",
        ),
      );
    }
    const { service, url } = hook.clientConfig ?? {};
    if ((service === undefined) === (url === undefined)) {
      errors.push(required(`${at}.clientConfig`, "exactly one of url or service is required"));
    }
    if (hook.matchConditions?.length > 0) {
      errors.push(
        forbiddenField(`${at}.matchConditions`, "CEL expressions are not supported by this API server"),
      );
    }
    if (!["Fail", "Ignore"].includes(hook.failurePolicy)) {
      errors.push(notSupported(`${at}.failurePolicy`, hook.failurePolicy, ["Fail", "Ignore"]));
    }
    if (!(hook.timeoutSeconds >= 1 && hook.timeoutSeconds <= 30)) {
      errors.push(
        invalidValue(
          `${at}.timeoutSeconds`,
          hook.timeoutSeconds,
          "the timeout value must be between 1 and 30 seconds",
        ),
      );
    }
  });
  return errors;
}

/** What a Lease's times must look like (metav1.MicroTime): six digits of a second, no more and no fewer. */
const MICRO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$/;

/** @throws ApiError 400 for a time that is none: an API server cannot decode it. */
export function leaseErrors(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const spec = object.spec ?? {};
  for (const time of [spec.acquireTime, spec.renewTime]) {
    if (time === undefined || time === null) continue;
    if (!MICRO_TIME.test(time) || Number.isNaN(Date.parse(time)))
      throw badRequest(`parsing time ${JSON.stringify(time)} as "2006-01-02T15:04:05.000000Z07:00"`);
  }
  if (spec.leaseDurationSeconds !== undefined && !(spec.leaseDurationSeconds > 0))
    errors.push(
      invalidValue("spec.leaseDurationSeconds", spec.leaseDurationSeconds, "must be greater than 0"),
    );
  if (spec.leaseTransitions !== undefined && !(spec.leaseTransitions >= 0))
    errors.push(
      invalidValue("spec.leaseTransitions", spec.leaseTransitions, "must be greater than or equal to 0"),
    );
  return errors;
}

// CustomResourceDefinitions: checks them, accepts their names, and serves their kinds as soon as they are stored.

import type { Json, KubeObject } from "../../cluster.ts";
import type { AdmissionStage } from "../admission/admission.ts";
import type { Registry } from "../registry.ts";
import { deepEqual, type ResourceDef, timestamp } from "../resource.ts";
import { type FieldError, invalid, invalidValue, notSupported, required } from "../status.ts";
import { customKinds } from "./kinds.ts";
import { structuralErrors } from "./structural.ts";

export const CRDS = "apiextensions.k8s.io/customresourcedefinitions";
export const CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io";

/** Follows stored definitions and, as an admission stage, fills in their status. */
export function customResources(registry: Registry): AdmissionStage {
  for (const [, crd] of registry.store.entries(CRDS)) {
    registry.replace(crd.spec.group, crd.spec.names.plural, established(crd));
  }
  registry.store.listen(({ collection, type, object }) => {
    if (collection !== CRDS) return;
    const { group, names } = object.spec;
    // A CRD may not take over a built-in kind.
    if (
      registry.preferred(group, names.plural)?.custom === undefined &&
      registry.preferred(group, names.plural)
    )
      return;
    registry.replace(group, names.plural, type === "DELETED" ? [] : established(object));
  });
  return {
    mutate({ operation, def, object, old, subresource }) {
      if (def.collection !== CRDS || !object || subresource) return;
      if (operation === "CREATE") {
        const finalizers = object.metadata.finalizers ?? [];
        if (!finalizers.includes(CLEANUP_FINALIZER))
          object.metadata.finalizers = [...finalizers, CLEANUP_FINALIZER];
      }
      // One that was stored before a rule was made must remain deletable.
      const errors = old && deepEqual(old.spec, object.spec) ? [] : definitionErrors(object);
      if (errors.length > 0) throw invalid(def.group, def.kind, object.metadata.name, errors);
      object.status = acceptedStatus(registry, object);
    },
  };
}

function established(crd: KubeObject): ResourceDef[] {
  const yes = crd.status?.conditions?.some((c: Json) => c.type === "Established" && c.status === "True");
  return yes ? customKinds(crd) : [];
}

function acceptedStatus(registry: Registry, crd: KubeObject): Json {
  const { group, names, versions } = crd.spec;
  const now = timestamp(registry.clock.now());
  const clash = registry
    .all()
    .find(
      (def) =>
        def.group === group &&
        def.resource !== names.plural &&
        (def.kind === names.kind ||
          def.singular === names.singular ||
          (names.shortNames ?? []).includes(def.resource)),
    );
  const builtIn = registry
    .all()
    .some((def) => def.group === group && def.resource === names.plural && !def.custom);
  const why = builtIn
    ? `${names.plural}.${group} is built in`
    : clash
      ? `${names.kind} is already in use`
      : "";
  const old = crd.status ?? {};
  const condition = (type: string, status: string, reason: string, message: string) => {
    const known = (old.conditions ?? []).find((c: Json) => c.type === type);
    const lastTransitionTime = known?.status === status ? known.lastTransitionTime : now;
    return { type, status, lastTransitionTime, reason, message };
  };
  const accepted = why
    ? condition("NamesAccepted", "False", "NameConflict", why)
    : condition("NamesAccepted", "True", "NoConflicts", "no conflicts found");
  const established = why
    ? condition("Established", "False", "NotAccepted", "not all names are accepted")
    : condition("Established", "True", "InitialNamesAccepted", "the initial names have been accepted");
  const storage = versions.find((v: Json) => v.storage)?.name;
  return {
    ...old,
    conditions: [
      ...(old.conditions ?? []).filter((c: Json) => c.type !== "NamesAccepted" && c.type !== "Established"),
      accepted,
      established,
    ],
    acceptedNames: why ? (old.acceptedNames ?? { plural: "", kind: "" }) : names,
    storedVersions: [...new Set([...(old.storedVersions ?? []), storage])],
  };
}

function definitionErrors(crd: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const { group, names = {}, scope, versions } = crd.spec ?? {};
  if (!group) errors.push(required("spec.group"));
  if (!names.plural) errors.push(required("spec.names.plural"));
  if (!names.kind) errors.push(required("spec.names.kind"));
  if (!["Cluster", "Namespaced"].includes(scope)) {
    errors.push(
      scope === undefined
        ? required("spec.scope")
        : notSupported("spec.scope", scope, ["Cluster", "Namespaced"]),
    );
  }
  const wanted = `${names.plural}.${group}`;
  if (errors.length === 0 && crd.metadata.name !== wanted) {
    errors.push(invalidValue("metadata.name", crd.metadata.name, `must be spec.names.plural+"."+spec.group`));
  }
  if (!Array.isArray(versions) || versions.length === 0) {
    errors.push(required("spec.versions", "must have at least one version"));
    return errors;
  }
  if (versions.filter((v: Json) => v.storage === true).length !== 1) {
    errors.push(
      invalidValue(
        "spec.versions",
        versions.map((v: Json) => v.name),
        "must have exactly one version marked as storage version",
      ),
    );
  }
  versions.forEach((version: Json, i: number) => {
    const schema = version.schema?.openAPIV3Schema;
    const at = `spec.versions[${i}].schema.openAPIV3Schema`;
    if (!version.name) errors.push(required(`spec.versions[${i}].name`));
    if (!schema) errors.push(required(at, "schemas are required"));
    else if (schema.type !== "object") {
      errors.push(
        schema.type === undefined
          ? required(`${at}.type`, "must not be empty at the root")
          : invalidValue(`${at}.type`, schema.type, "must be object at the root"),
      );
    } else errors.push(...structuralErrors(schema, at));
  });
  const strategy = crd.spec.conversion?.strategy;
  if (strategy !== undefined && strategy !== "None") {
    errors.push(notSupported("spec.conversion.strategy", strategy, ["None"]));
  }
  return errors;
}

// Deployments: one ReplicaSet per pod template, and the way from the old ones to the new one.
import type { Json, KubeObject } from "../cluster.ts";
import {
  type Condition,
  Controller,
  type ControllerContext,
  keyOf,
  splitKey,
  timestamp,
  withCondition,
} from "./controller.ts";
import {
  fenceposts,
  newReplicas,
  proportional,
  sameTemplate,
  shrinkOld,
  templateHash,
} from "./deployment-math.ts";
import { claim, concerned, controllerReference, isControlledBy } from "./ownership.ts";
import { isActive } from "./pods.ts";
import { nonZero } from "./replica-set.ts";

const TYPE = { apiVersion: "apps/v1", kind: "Deployment" };
const OWNER = { group: "apps", resource: "deployments", kind: "Deployment" };
const SETS = { group: "apps", resource: "replicasets" };
const REVISION = "deployment.kubernetes.io/revision";
const REVISION_HISTORY = "deployment.kubernetes.io/revision-history";
const DESIRED = "deployment.kubernetes.io/desired-replicas";
const MAX = "deployment.kubernetes.io/max-replicas";
const HASH = "pod-template-hash";
/** Annotations that stay with the Deployment or are each ReplicaSet's own. */
const NOT_COPIED = new Set([
  "kubectl.kubernetes.io/last-applied-configuration",
  REVISION,
  REVISION_HISTORY,
  DESIRED,
  MAX,
  "deprecated.deployment.rollback.to",
]);

export class DeploymentController extends Controller {
  constructor(context: ControllerContext) {
    super("deployment-controller", context);
  }

  start(): void {
    this.watch("apps", "deployments", (type, object) => {
      if (type !== "DELETED") this.queue.add(keyOf(object));
    });
    this.watch("apps", "replicasets", (_, set, previous) => {
      for (const key of concerned(this.cluster, set, OWNER)) this.queue.add(key);
      if (previous) for (const key of concerned(this.cluster, previous, OWNER)) this.queue.add(key);
    });
    // Recreate waits for the last old pod to be gone, which no ReplicaSet's status says.
    this.watch("", "pods", (type, pod) => {
      if (type !== "DELETED") return;
      for (const key of this.#recreatesOf(pod)) this.queue.add(key);
    });
  }

  #recreatesOf(pod: KubeObject): string[] {
    const { namespace } = pod.metadata;
    const owner = pod.metadata.ownerReferences?.find((reference) => reference.controller);
    const set = owner && this.cluster.get({ ...SETS, namespace, name: owner.name });
    return set ? concerned(this.cluster, set, OWNER) : [];
  }

  protected async sync(key: string): Promise<void> {
    const ref = { group: "apps", resource: "deployments", ...splitKey(key) };
    const deployment = this.cluster.get(ref);
    if (!deployment) return;
    const sets = byAge(await claim(this.cluster, deployment, TYPE, SETS));
    if (deployment.metadata.deletionTimestamp) return this.#status(key, deployment, sets);
    const fresh = sets.find((set) => sameTemplate(set["spec"].template, deployment["spec"].template));

    if (deployment["spec"].paused) {
      await this.#scaleEvenly(deployment, sets, fresh);
    } else if (isScaling(deployment, sets)) {
      await this.#adoptRevision(deployment, sets, fresh);
      await this.#scaleEvenly(deployment, sets, fresh);
    } else if (deployment["spec"].strategy?.type === "Recreate") {
      await this.#recreate(deployment, sets, fresh);
    } else {
      await this.#roll(deployment, sets, fresh);
    }
    const current = this.cluster.get(ref);
    if (!current) return;
    const after = byAge(await claim(this.cluster, current, TYPE, SETS));
    await this.#status(key, current, after);
    await this.#prune(current, after);
  }

  async #roll(
    deployment: KubeObject,
    sets: readonly KubeObject[],
    found: KubeObject | undefined,
  ): Promise<void> {
    const posts = fenceposts(deployment);
    const wanted: number = deployment["spec"].replicas;
    const old = sets.filter((set) => set !== found);
    const total = sets.reduce((sum, set) => sum + replicasOf(set), 0);
    let fresh = found;
    if (!fresh) {
      fresh = await this.#create(deployment, old, newReplicas(wanted, 0, total, posts));
    } else {
      fresh = (await this.#adoptRevision(deployment, sets, fresh)) ?? fresh;
      const size = newReplicas(wanted, replicasOf(fresh), total, posts);
      fresh = await this.#resize(deployment, fresh, size);
    }
    const sizes = shrinkOld(
      old.map((set) => ({
        name: set.metadata.name,
        replicas: replicasOf(set),
        available: set["status"]?.availableReplicas ?? 0,
      })),
      { replicas: replicasOf(fresh), available: fresh["status"]?.availableReplicas ?? 0 },
      wanted,
      posts,
    );
    for (const set of old) await this.#resize(deployment, set, sizes.get(set.metadata.name)!);
  }

  async #recreate(
    deployment: KubeObject,
    sets: readonly KubeObject[],
    found: KubeObject | undefined,
  ): Promise<void> {
    const old = sets.filter((set) => set !== found);
    for (const set of old) await this.#resize(deployment, set, 0);
    const alive = this.cluster
      .list("", "pods", deployment.metadata.namespace)
      .filter((pod) => old.some((set) => isControlledBy(pod, set)));
    // Ended pods may stay; those that still run or are ending hold the new ones back.
    if (alive.some((pod) => isActive(pod) || pod.metadata.deletionTimestamp)) return;
    if (!found) await this.#create(deployment, old, deployment["spec"].replicas);
    else {
      const fresh = (await this.#adoptRevision(deployment, sets, found)) ?? found;
      await this.#resize(deployment, fresh, deployment["spec"].replicas);
    }
  }

  /** Brings the sizes to a new total without moving a rollout on: in proportion when several sets are in use. */
  async #scaleEvenly(
    deployment: KubeObject,
    sets: readonly KubeObject[],
    fresh: KubeObject | undefined,
  ): Promise<void> {
    const wanted: number = deployment["spec"].replicas;
    const inUse = sets.filter((set) => replicasOf(set) > 0);
    if (inUse.length <= 1) {
      const only = inUse[0] ?? fresh ?? sets.at(-1);
      if (only) await this.#resize(deployment, only, wanted);
      return;
    }
    if (fresh && isComplete(fresh, wanted)) {
      for (const set of inUse) await this.#resize(deployment, set, set === fresh ? wanted : 0);
      return;
    }
    const allowed = wanted > 0 ? wanted + fenceposts(deployment).surge : 0;
    const sizes = proportional(
      inUse.map((set) => ({ name: set.metadata.name, replicas: replicasOf(set) })),
      allowed,
    );
    for (const set of inUse) await this.#resize(deployment, set, sizes.get(set.metadata.name)!);
  }

  async #create(deployment: KubeObject, old: readonly KubeObject[], replicas: number): Promise<KubeObject> {
    const { namespace, name } = deployment.metadata;
    const template = structuredClone(deployment["spec"].template);
    const revision = String(maxRevision(old) + 1);
    for (let collisions = deployment["status"]?.collisionCount ?? 0; ; collisions++) {
      const hash = templateHash(template, collisions);
      const setName = `${name}-${hash}`;
      if (this.cluster.get({ ...SETS, namespace, name: setName })) continue;
      template.metadata = { ...template.metadata, labels: { ...template.metadata?.labels, [HASH]: hash } };
      const set = await this.cluster.create("apps", "replicasets", namespace, {
        apiVersion: "apps/v1",
        kind: "ReplicaSet",
        metadata: {
          name: setName,
          namespace: namespace!,
          labels: template.metadata.labels,
          annotations: { ...copied(deployment), ...sizes(deployment), [REVISION]: revision },
          ownerReferences: [controllerReference(deployment, TYPE.apiVersion, TYPE.kind)],
        },
        spec: {
          replicas,
          ...(deployment["spec"].minReadySeconds
            ? { minReadySeconds: deployment["spec"].minReadySeconds }
            : {}),
          selector: withHash(deployment["spec"].selector, hash),
          template,
        },
      });
      if (replicas > 0) {
        this.event(
          deployment,
          "Normal",
          "ScalingReplicaSet",
          `Scaled up replica set ${setName} from 0 to ${replicas}`,
        );
      }
      await this.#setRevision(deployment, revision);
      return set;
    }
  }

  /** A template that was in use before becomes the newest revision again; annotations follow the Deployment's. */
  async #adoptRevision(
    deployment: KubeObject,
    sets: readonly KubeObject[],
    fresh: KubeObject | undefined,
  ): Promise<KubeObject | undefined> {
    if (!fresh) return undefined;
    const { namespace } = deployment.metadata;
    const revision = Math.max(revisionOf(fresh), maxRevision(sets.filter((set) => set !== fresh)) + 1);
    const updated = await this.cluster.modify({ ...SETS, namespace, name: fresh.metadata.name }, (set) => {
      const annotations: Record<string, string> = { ...set.metadata.annotations, ...copied(deployment) };
      const before = set.metadata.annotations?.[REVISION];
      if (before !== String(revision)) {
        annotations[REVISION] = String(revision);
        const history = set.metadata.annotations?.[REVISION_HISTORY];
        if (before) annotations[REVISION_HISTORY] = history ? `${history},${before}` : before;
      }
      const minReady = deployment["spec"].minReadySeconds ?? 0;
      if (
        same(annotations, set.metadata.annotations ?? {}) &&
        (set["spec"].minReadySeconds ?? 0) === minReady
      ) {
        return undefined;
      }
      return {
        ...set,
        metadata: { ...set.metadata, annotations },
        spec: { ...set["spec"], minReadySeconds: minReady },
      };
    });
    await this.#setRevision(deployment, String(revision));
    return updated;
  }

  async #setRevision(deployment: KubeObject, revision: string): Promise<void> {
    const { namespace, name } = deployment.metadata;
    await this.cluster.modify({ group: "apps", resource: "deployments", namespace, name }, (current) => {
      if (current.metadata.annotations?.[REVISION] === revision) return undefined;
      const annotations = { ...current.metadata.annotations, [REVISION]: revision };
      return { ...current, metadata: { ...current.metadata, annotations } };
    });
  }

  async #resize(deployment: KubeObject, set: KubeObject, replicas: number): Promise<KubeObject> {
    const { namespace } = deployment.metadata;
    const wanted = sizes(deployment);
    let from = replicas;
    const changed = await this.cluster.modify({ ...SETS, namespace, name: set.metadata.name }, (current) => {
      from = replicasOf(current);
      const annotations = { ...current.metadata.annotations, ...wanted };
      if (from === replicas && same(annotations, current.metadata.annotations ?? {})) return undefined;
      return {
        ...current,
        metadata: { ...current.metadata, annotations },
        spec: { ...current["spec"], replicas },
      };
    });
    if (changed && from !== replicas) {
      const direction = replicas > from ? "up" : "down";
      const message = `Scaled ${direction} replica set ${set.metadata.name} from ${from} to ${replicas}`;
      this.event(deployment, "Normal", "ScalingReplicaSet", message);
    }
    return changed ?? set;
  }

  /** Old, empty ReplicaSets beyond the history limit go, oldest revision first. */
  async #prune(deployment: KubeObject, sets: readonly KubeObject[]): Promise<void> {
    const limit: number = deployment["spec"].revisionHistoryLimit ?? 10;
    const template = deployment["spec"].template;
    const wanted: number = deployment["spec"].replicas;
    const fresh = sets.find((set) => sameTemplate(set["spec"].template, template));
    if (!fresh || !isComplete(fresh, wanted)) return;
    const old = sets
      .filter((set) => set !== fresh && !set.metadata.deletionTimestamp)
      .filter((set) => replicasOf(set) === 0 && (set["status"]?.replicas ?? 0) === 0)
      .filter((set) => (set["status"]?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0))
      .sort((a, b) => revisionOf(a) - revisionOf(b));
    for (const set of old.slice(0, Math.max(0, old.length - limit))) {
      const { namespace, name, uid } = set.metadata;
      await this.cluster.delete({ ...SETS, namespace, name }, { uid });
    }
  }

  async #status(key: string, deployment: KubeObject, sets: readonly KubeObject[]): Promise<void> {
    const spec = deployment["spec"];
    const fresh = sets.find((set) => sameTemplate(set["spec"].template, spec.template));
    const sum = (field: string) => sets.reduce((total, set) => total + (set["status"]?.[field] ?? 0), 0);
    const counts = {
      replicas: sum("replicas"),
      updatedReplicas: fresh?.["status"]?.replicas ?? 0,
      readyReplicas: sum("readyReplicas"),
      availableReplicas: sum("availableReplicas"),
    };
    const conditions = this.#conditions(key, deployment, sets, fresh, counts);
    await this.writeStatus(
      { group: "apps", resource: "deployments", ...splitKey(key) },
      {
        observedGeneration: deployment.metadata.generation,
        ...nonZero(counts),
        ...nonZero({ unavailableReplicas: Math.max(0, sum0(sets) - counts.availableReplicas) }),
        ...(deployment["status"]?.collisionCount
          ? { collisionCount: deployment["status"].collisionCount }
          : {}),
        ...(conditions.length > 0 ? { conditions } : {}),
      },
    );
  }

  #conditions(
    key: string,
    deployment: KubeObject,
    sets: readonly KubeObject[],
    fresh: KubeObject | undefined,
    counts: { replicas: number; updatedReplicas: number; readyReplicas: number; availableReplicas: number },
  ): Condition[] {
    const now = this.clock.now();
    const spec = deployment["spec"];
    const before = deployment["status"] ?? {};
    let conditions: Condition[] = before.conditions ?? [];
    const set = (condition: Condition) => {
      conditions = withCondition(conditions, condition, now, { updateTime: true });
    };
    const enough = counts.availableReplicas >= spec.replicas - fenceposts(deployment).unavailable;
    set(
      enough
        ? {
            type: "Available",
            status: "True",
            reason: "MinimumReplicasAvailable",
            message: "Deployment has minimum availability.",
          }
        : {
            type: "Available",
            status: "False",
            reason: "MinimumReplicasUnavailable",
            message: "Deployment does not have minimum availability.",
          },
    );

    const failing = sets.flatMap((each): Condition[] => each["status"]?.conditions ?? []);
    const failure = failing.find(
      (condition) => condition.type === "ReplicaFailure" && condition.status === "True",
    );
    if (failure) set({ ...pick(failure), type: "ReplicaFailure", status: "True" });
    else conditions = conditions.filter((condition) => condition.type !== "ReplicaFailure");

    const deadline: number | undefined = spec.progressDeadlineSeconds;
    if (deadline === undefined || deadline === 2 ** 31 - 1) {
      return conditions.filter((condition) => condition.type !== "Progressing");
    }
    const subject = fresh
      ? `ReplicaSet "${fresh.metadata.name}"`
      : `Deployment "${deployment.metadata.name}"`;
    const progressing = conditions.find((condition) => condition.type === "Progressing");
    const observed = before.observedGeneration === deployment.metadata.generation;
    const complete =
      observed &&
      counts.updatedReplicas === spec.replicas &&
      counts.replicas === spec.replicas &&
      counts.availableReplicas === spec.replicas;
    const moved =
      counts.updatedReplicas > (before.updatedReplicas ?? 0) ||
      counts.readyReplicas > (before.readyReplicas ?? 0) ||
      counts.availableReplicas > (before.availableReplicas ?? 0) ||
      counts.replicas - counts.updatedReplicas < (before.replicas ?? 0) - (before.updatedReplicas ?? 0) ||
      !observed;
    if (spec.paused) {
      if (progressing?.reason === "ProgressDeadlineExceeded") return conditions;
      set({
        type: "Progressing",
        status: "Unknown",
        reason: "DeploymentPaused",
        message: "Deployment is paused",
      });
    } else if (complete || (progressing?.reason === "NewReplicaSetAvailable" && observed && !moved)) {
      set({
        type: "Progressing",
        status: "True",
        reason: "NewReplicaSetAvailable",
        message: `${subject} has successfully progressed.`,
      });
    } else if (moved || !progressing || progressing.status === "Unknown") {
      const next: Condition = {
        type: "Progressing",
        status: "True",
        reason: "ReplicaSetUpdated",
        message: `${subject} is progressing.`,
        lastTransitionTime: progressing?.status === "True" ? progressing.lastTransitionTime! : timestamp(now),
        lastUpdateTime: timestamp(now),
      };
      conditions = [...conditions.filter((condition) => condition.type !== "Progressing"), next];
      this.queue.addAfter(key, deadline * 1000 + 1_000);
    } else if (progressing.reason !== "ProgressDeadlineExceeded") {
      const since = Date.parse(progressing.lastUpdateTime ?? progressing.lastTransitionTime ?? "");
      const left = since + deadline * 1000 - now;
      if (left > 0) this.queue.addAfter(key, left + 1_000);
      else {
        set({
          type: "Progressing",
          status: "False",
          reason: "ProgressDeadlineExceeded",
          message: `${subject} has timed out progressing.`,
        });
      }
    }
    return conditions;
  }
}

function pick(condition: Condition): Pick<Condition, "reason" | "message"> {
  return {
    ...(condition.reason === undefined ? {} : { reason: condition.reason }),
    ...(condition.message === undefined ? {} : { message: condition.message }),
  };
}

/** Pods that the ReplicaSets should have, together. */
function sum0(sets: readonly KubeObject[]): number {
  return sets.reduce((total, set) => total + replicasOf(set), 0);
}

function replicasOf(set: KubeObject): number {
  return set["spec"].replicas ?? 1;
}

function revisionOf(set: KubeObject): number {
  return Number(set.metadata.annotations?.[REVISION] ?? 0) || 0;
}

function maxRevision(sets: readonly KubeObject[]): number {
  return sets.reduce((max, set) => Math.max(max, revisionOf(set)), 0);
}

function byAge(sets: readonly KubeObject[]): KubeObject[] {
  return [...sets].sort(
    (a, b) =>
      (a.metadata.creationTimestamp ?? "").localeCompare(b.metadata.creationTimestamp ?? "") ||
      revisionOf(a) - revisionOf(b) ||
      a.metadata.name.localeCompare(b.metadata.name),
  );
}

/** The wanted total changed since the sets in use were last sized. */
function isScaling(deployment: KubeObject, sets: readonly KubeObject[]): boolean {
  return sets.some((set) => {
    const desired = set.metadata.annotations?.[DESIRED];
    return replicasOf(set) > 0 && desired !== undefined && Number(desired) !== deployment["spec"].replicas;
  });
}

function isComplete(set: KubeObject, wanted: number): boolean {
  return replicasOf(set) === wanted && (set["status"]?.availableReplicas ?? 0) === wanted;
}

function sizes(deployment: KubeObject): Record<string, string> {
  const wanted: number = deployment["spec"].replicas;
  return { [DESIRED]: String(wanted), [MAX]: String(wanted + fenceposts(deployment).surge) };
}

function copied(deployment: KubeObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(deployment.metadata.annotations ?? {}).filter(([name]) => !NOT_COPIED.has(name)),
  );
}

function withHash(selector: Json, hash: string): Json {
  return { ...selector, matchLabels: { ...selector.matchLabels, [HASH]: hash } };
}

function same(a: Record<string, string>, b: Record<string, string>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

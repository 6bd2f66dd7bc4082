// What a check is, and what all checks may ask. Categories are data; the runner knows nothing of their content.
import type { KubeClient } from "../kube/client.ts";
import { isNotFound } from "../kube/error.ts";
import { resourcePath } from "../kube/path.ts";
import type { KubeObject, Pod } from "../kube/types.ts";
import { valuesOf } from "../manifests/installed.ts";
import { COMPONENTS, CONFIG_MAP, KEYS, TRUST_ROOTS_CONFIG_MAP, TRUST_ROOTS_KEY } from "../manifests/names.ts";
import type { Values } from "../manifests/values.ts";

/** A check that does not apply here: it counts as passed and is not shown. */
export class Skip {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}

export interface Check {
  /** What holds when it passes, e.g. `can query the Kubernetes API`. */
  readonly description: string;
  /** Section of docs/checks.md with the remedy; Linkerd's anchor where Linkerd has the check. */
  readonly anchor: string;
  /** A failure makes everything after it pointless. */
  readonly fatal?: boolean;
  /** A failure is worth telling but not an error. */
  readonly warning?: boolean;
  /** Tried again until it passes or the time of --wait is over. */
  readonly retry?: boolean;
  /** Its own message is shown while it is tried again. */
  readonly surface?: boolean;
  /** Throws what is wrong, in words for the operator. A Skip says that it does not apply here. */
  readonly run: (context: CheckContext) => Promise<unknown>;
}

export interface Category {
  readonly id: string;
  readonly checks: readonly Check[];
}

export interface CheckOptions {
  /** Namespace of the control plane. */
  readonly meshNamespace: string;
  /** Namespace whose data plane is checked; all when absent. */
  readonly namespace?: string | undefined;
  /** Version of this CLI, which the others are compared with. */
  readonly version: string;
  readonly now: () => number;
  readonly connect: () => Promise<KubeClient>;
}

interface ServedDocument {
  readonly versions?: readonly { readonly groupVersion: string }[];
  readonly resources?: readonly { readonly kind: string }[];
}

/** What checks may ask the cluster, each time anew: a check that is tried again must not see what was. */
export class CheckContext {
  readonly options: CheckOptions;
  #client: Promise<KubeClient> | undefined;

  constructor(options: CheckOptions) {
    this.options = options;
  }

  client(): Promise<KubeClient> {
    this.#client ??= this.options.connect();
    return this.#client;
  }

  get mesh(): string {
    return this.options.meshNamespace;
  }

  async list<T extends KubeObject>(
    apiVersion: string,
    kind: string,
    namespace?: string,
    labelSelector?: string,
  ): Promise<T[]> {
    const path = resourcePath({ apiVersion, kind, namespace });
    return (await (await this.client()).list<T>(path, labelSelector ? { labelSelector } : {})).items;
  }

  /** The kinds of a group that the cluster serves, each with its API version, of several the preferred one. */
  async servedKinds(group: string): Promise<ReadonlyMap<string, string>> {
    const { versions = [] } = await this.#served(`/apis/${group}`);
    const documents = await Promise.all(
      versions.map(({ groupVersion }) => this.#served(`/apis/${groupVersion}`)),
    );
    const kinds = new Map<string, string>();
    for (const [at, { resources = [] }] of documents.entries())
      for (const { kind } of resources) if (!kinds.has(kind)) kinds.set(kind, versions[at]!.groupVersion);
    return kinds;
  }

  /** What the API server says of a group, or of a version of one; nothing of what it does not serve. */
  async #served(path: string): Promise<ServedDocument> {
    try {
      return await (await this.client()).get<KubeObject & ServedDocument>(path);
    } catch (error) {
      if (isNotFound(error)) return {};
      throw error;
    }
  }

  /** The object, or undefined when it does not exist. */
  async find<T extends KubeObject>(
    apiVersion: string,
    kind: string,
    name: string,
    namespace?: string,
  ): Promise<T | undefined> {
    try {
      return await (await this.client()).get<T>(resourcePath({ apiVersion, kind, name, namespace }));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** @throws MeshError when there is no installation or its values cannot be read */
  async values(): Promise<Values> {
    const config = await this.find<KubeObject & { data?: Record<string, string> }>(
      "v1",
      "ConfigMap",
      CONFIG_MAP,
      this.mesh,
    );
    if (!config) throw new Error(`ConfigMap ${this.mesh}/${CONFIG_MAP} does not exist`);
    return valuesOf(config);
  }

  /** PEM of the trust anchors in force. */
  async trustAnchors(): Promise<string> {
    const roots = await this.find<KubeObject & { data?: Record<string, string> }>(
      "v1",
      "ConfigMap",
      TRUST_ROOTS_CONFIG_MAP,
      this.mesh,
    );
    const pem = roots?.data?.[TRUST_ROOTS_KEY];
    if (pem === undefined) {
      throw new Error(`ConfigMap ${this.mesh}/${TRUST_ROOTS_CONFIG_MAP} has no key ${TRUST_ROOTS_KEY}`);
    }
    return pem;
  }

  /** Pods of the control plane's components. */
  async controlPlanePods(): Promise<Pod[]> {
    const names: string[] = Object.values(COMPONENTS).map(({ name }) => name);
    const pods = await this.list<Pod>("v1", "Pod", this.mesh, KEYS.controlPlaneComponent);
    return pods.filter(
      (pod) => names.includes(pod.metadata.labels?.[KEYS.controlPlaneComponent] ?? "") && isLive(pod),
    );
  }

  /** Pods with a proxy of this mesh, the control plane's own left out; in the namespace asked for, or in all. */
  async dataPlanePods(): Promise<Pod[]> {
    const selector = `${KEYS.controlPlaneNs}=${this.mesh}`;
    const pods = await this.list<Pod>("v1", "Pod", this.options.namespace, selector);
    return pods.filter((pod) => pod.metadata.namespace !== this.mesh && isLive(pod));
  }
}

/** Neither ended nor on its way out. */
const isLive = (pod: Pod): boolean =>
  pod.metadata.deletionTimestamp === undefined &&
  pod.status?.phase !== "Succeeded" &&
  pod.status?.phase !== "Failed";

/** At most this many names are listed in a message. */
const LISTED = 5;

/** `a, b, c and 4 more` */
export function enumerate(items: readonly string[]): string {
  const shown = items.slice(0, LISTED).join(", ");
  return items.length > LISTED ? `${shown} and ${items.length - LISTED} more` : shown;
}

/** Fails with `message` and the names of what is wrong, if anything is. */
export function expectNone(items: readonly string[], message: string): void {
  if (items.length > 0) throw new Error(`${message}: ${enumerate(items)}`);
}

export const nameOf = (object: KubeObject): string =>
  object.metadata.namespace === undefined
    ? object.metadata.name
    : `${object.metadata.namespace}/${object.metadata.name}`;

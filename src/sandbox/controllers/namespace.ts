// Namespaces: what each gets at birth (default ServiceAccount, root certificates), and its emptying at death.
import type { KubeObject } from "../cluster.ts";
import { Controller, type ControllerContext } from "./controller.ts";

/** How soon to look again while something in a dying namespace still ends. */
const EMPTYING_MS = 250;
const ROOT_CA = "kube-root-ca.crt";

/** Empties namespaces that are being deleted, then lets them go. */
export class NamespaceController extends Controller {
  constructor(context: ControllerContext) {
    super("namespace-controller", context);
  }

  start(): void {
    this.watch("", "namespaces", (type, namespace) => {
      if (type !== "DELETED" && namespace.metadata.deletionTimestamp) this.queue.add(namespace.metadata.name);
    });
  }

  protected async sync(name: string): Promise<void> {
    const ref = { group: "", resource: "namespaces", name };
    const namespace = this.cluster.get(ref);
    if (!namespace?.metadata.deletionTimestamp) return;
    let left = 0;
    for (const { group, resource, namespaced } of this.cluster.resources()) {
      if (!namespaced) continue;
      for (const object of this.cluster.list(group, resource, name)) {
        if (!object.metadata.deletionTimestamp) {
          await this.cluster.delete({ group, resource, namespace: name, name: object.metadata.name });
        }
        if (this.cluster.get({ group, resource, namespace: name, name: object.metadata.name })) left += 1;
      }
    }
    if (left > 0) {
      this.queue.addAfter(name, EMPTYING_MS);
      return;
    }
    await this.cluster.modify(
      ref,
      (current) => ({
        ...current,
        spec: {
          ...current["spec"],
          finalizers: (current["spec"]?.finalizers ?? []).filter(
            (finalizer: string) => finalizer !== "kubernetes",
          ),
        },
      }),
      { subresource: "finalize" },
    );
  }
}

/** Gives every namespace its `default` ServiceAccount and the CA that pods verify the API server with. */
export class NamespaceContentController extends Controller {
  readonly #rootCa: string;

  constructor(context: ControllerContext, rootCa: string) {
    super("root-ca-certificate-publisher", context);
    this.#rootCa = rootCa;
  }

  start(): void {
    this.watch("", "namespaces", (type, namespace) => {
      if (type !== "DELETED") this.queue.add(namespace.metadata.name);
    });
    const lost = (name: string) => (type: string, object: KubeObject) => {
      if (type !== "ADDED" && object.metadata.name === name) this.queue.add(object.metadata.namespace!);
    };
    this.watch("", "serviceaccounts", lost("default"));
    this.watch("", "configmaps", lost(ROOT_CA));
  }

  protected async sync(name: string): Promise<void> {
    const namespace = this.cluster.get({ group: "", resource: "namespaces", name });
    if (!namespace || namespace.metadata.deletionTimestamp) return;
    if (!this.cluster.get({ group: "", resource: "serviceaccounts", namespace: name, name: "default" })) {
      await this.cluster.create("", "serviceaccounts", name, {
        apiVersion: "v1",
        kind: "ServiceAccount",
        metadata: { name: "default", namespace: name },
      });
    }
    const ref = { group: "", resource: "configmaps", namespace: name, name: ROOT_CA };
    const data = { "ca.crt": this.#rootCa };
    if (!this.cluster.get(ref)) {
      const annotations = {
        "kubernetes.io/description":
          "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc.",
      };
      await this.cluster.create("", "configmaps", name, {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: ROOT_CA, namespace: name, annotations },
        data,
      });
    } else {
      await this.cluster.modify(ref, (current) =>
        current["data"]?.["ca.crt"] === this.#rootCa ? undefined : { ...current, data },
      );
    }
  }
}

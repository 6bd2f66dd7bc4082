// The kinds that destination reads beside the core's, in whichever versions are served.
import type { ExternalWorkload } from "../../crds/external-workload.ts";
import type { ServiceProfile } from "../../crds/service-profile.ts";
import { essentialMetadata } from "../../kube/reflector.ts";
import type { KubeObject } from "../../kube/types.ts";
import { serverRecord, trafficSplitRecord } from "../policy/records.ts";
import type { ServedKind } from "../served-kinds.ts";
import type { ExternalSliceWriter } from "./external-slice-writer.ts";
import { workloadRecord } from "./external-workload.ts";
import type { DestinationIndex } from "./index.ts";
import { profileRecord } from "./service-profile.ts";

/** An object of which only the record is kept. */
interface Kept<R> extends KubeObject {
  readonly record: R;
}

interface KindOptions<R> extends Pick<ServedKind, "group" | "resource" | "versions"> {
  record(object: KubeObject): R;
  put(record: R): void;
  remove(namespace: string, name: string): void;
}

const servedKind = <R>({ record, put, remove, ...kind }: KindOptions<R>): ServedKind<Kept<R>> => ({
  ...kind,
  keep: (object) => ({ metadata: essentialMetadata(object), record: record(object) }),
  put: (kept) => put(kept.record),
  remove: ({ metadata }) => remove(metadata.namespace ?? "", metadata.name),
});

export function destinationKinds(index: DestinationIndex, writer: ExternalSliceWriter): ServedKind[] {
  return [
    servedKind({
      group: "linkerd.io",
      resource: "serviceprofiles",
      versions: ["v1alpha2", "v1alpha1"],
      record: (object) => profileRecord(object as ServiceProfile),
      put: (profile) => index.putProfile(profile),
      remove: (namespace, name) => index.removeProfile(namespace, name),
    }),
    servedKind({
      group: "split.smi-spec.io",
      resource: "trafficsplits",
      versions: ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"],
      record: trafficSplitRecord,
      put: (split) => index.putSplit(split),
      remove: (namespace, name) => index.removeSplit(namespace, name),
    }),
    servedKind({
      group: "policy.linkerd.io",
      resource: "servers",
      versions: ["v1beta3", "v1beta2", "v1beta1"],
      record: serverRecord,
      put: (server) => index.putServer(server),
      remove: (namespace, name) => index.removeServer(namespace, name),
    }),
    servedKind({
      group: "workload.linkerd.io",
      resource: "externalworkloads",
      versions: ["v1beta1", "v1alpha1"],
      record: (object) => workloadRecord(object as ExternalWorkload),
      put(workload) {
        index.putWorkload(workload);
        writer.putWorkload(workload);
      },
      remove(namespace, name) {
        index.removeWorkload(namespace, name);
        writer.removeWorkload(namespace, name);
      },
    }),
  ] as ServedKind[];
}

// Takes out of a pod template what injection put in, by name; what it emptied goes too.
import {
  DEBUG_CONTAINER,
  INIT_CONTAINER,
  KEYS,
  NETWORK_VALIDATOR_CONTAINER,
  PROXY_CONTAINER,
} from "../manifests/names.ts";
import { VOLUMES } from "./containers.ts";
import { type Operation, segment } from "./patch.ts";
import type { Metadata, PodTemplate } from "./workload.ts";

const CONTAINERS: readonly string[] = [
  PROXY_CONTAINER,
  INIT_CONTAINER,
  NETWORK_VALIDATOR_CONTAINER,
  DEBUG_CONTAINER,
];
const VOLUME_NAMES: readonly string[] = Object.values(VOLUMES);

const LABELS: readonly string[] = [KEYS.controlPlaneNs, KEYS.workloadNs];

/** Operations that remove containers, volumes, labels and annotations of injection from the template at `path`. */
export function uninjectPod(template: PodTemplate, path: string): Operation[] {
  const spec = template.spec ?? {};
  return [
    ...removeNamed(`${path}/spec/containers`, spec.containers, CONTAINERS),
    ...removeNamed(`${path}/spec/initContainers`, spec.initContainers, CONTAINERS),
    ...removeNamed(`${path}/spec/volumes`, spec.volumes, VOLUME_NAMES),
    ...uninjectMetadata(template.metadata, `${path}/metadata`),
  ];
}

/**
 * Operations that remove the labels of injection, the annotations of its domain, `linkerd.io/`, and others that it
 * says it added. Other settings under `config.linkerd.io/` are the user's and stay, as does the wish not to be injected.
 */
function uninjectMetadata(metadata: Metadata | null | undefined, path: string): Operation[] {
  if (!metadata) return [];
  const added = metadata.annotations?.[KEYS.addedAnnotations]?.split(",") ?? [];
  const operations = [
    ...removeKeys(
      `${path}/labels`,
      metadata.labels,
      (key) => LABELS.includes(key) || key.startsWith(KEYS.proxyLabelPrefix),
    ),
    ...removeKeys(
      `${path}/annotations`,
      metadata.annotations,
      (key, value) =>
        added.includes(key) ||
        (key.startsWith(KEYS.domain) && !(key === KEYS.inject && value === "disabled")),
    ),
  ];
  const emptied = operations.filter(
    ({ path: at }) => at === `${path}/labels` || at === `${path}/annotations`,
  );
  return emptied.length > 0 && emptied.length === Object.keys(metadata).length
    ? [{ op: "remove", path }]
    : operations;
}

/** Operations that take back the wish for injection from an object that has no pods. */
export function uninjectAnnotation(metadata: Metadata | null | undefined): Operation[] {
  return removeKeys(
    "/metadata/annotations",
    metadata?.annotations,
    (key, value) => key === KEYS.inject && value !== "disabled",
  );
}

function removeKeys(
  path: string,
  entries: Readonly<Record<string, string>> | null | undefined,
  goes: (key: string, value: string) => boolean,
): Operation[] {
  const all = Object.entries(entries ?? {});
  const gone = all.filter(([key, value]) => goes(key, value));
  if (gone.length === 0) return [];
  if (gone.length === all.length) return [{ op: "remove", path }];
  return gone.map(([key]) => ({ op: "remove", path: `${path}/${segment(key)}` }));
}

function removeNamed(
  path: string,
  items: readonly { readonly name: string }[] | null | undefined,
  names: readonly string[],
): Operation[] {
  const gone = (items ?? []).flatMap((item, index) => (names.includes(item.name) ? [index] : []));
  if (gone.length === 0) return [];
  if (gone.length === items!.length) return [{ op: "remove", path }];
  // From the end, so that earlier indices stay true.
  return gone.reverse().map((index) => ({ op: "remove", path: `${path}/${index}` }));
}

// The mesh's custom resource definitions: Linkerd's groups, versions and names, made of what src/crds describes.
import { type CustomResourceDefinition, definitionOf, KINDS } from "../crds/index.ts";
import { KEYS } from "./names.ts";

export type { CustomResourceDefinition };

/** All that are the mesh's own, in the order of installation. */
export const customResourceDefinitions = (namespace: string): CustomResourceDefinition[] =>
  KINDS.filter(({ owner }) => owner === "mesh").map((kind) =>
    definitionOf(kind, { [KEYS.controlPlaneNs]: namespace }),
  );

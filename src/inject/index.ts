// The room's door: workload in, meshed workload out.
export { reviewAnnotations } from "./annotation-review.ts";
export { SETTING_KEYS, valuePathOf } from "./annotations.ts";
export { type Transformed, type TransformedResource, transformStream } from "./documents.ts";
export type { LocalComponent } from "./env.ts";
export { applyPatch, type Operation } from "./patch.ts";
export { defaultOpaquePorts, injectPod, type PodInjected, type PodInjection } from "./pod.ts";
export { failure, renderReport } from "./report.ts";
export { type InjectOptions, injectResource, type ResourceResult, uninjectResource } from "./resource.ts";
export { ownerOf, type PodTemplate, type Resource, templateOf } from "./workload.ts";

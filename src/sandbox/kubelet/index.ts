// The node agent: pods as processes.
export { Kubelet, type KubeletOptions } from "./kubelet.ts";
export { installLauncher } from "./process.ts";
export { planRoot, type RootPlan } from "./root-plan.ts";
export type { NodeRuntime } from "./runtime.ts";

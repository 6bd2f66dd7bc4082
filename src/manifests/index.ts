// The room's door: names, values and the objects of an installation.
export { controlPlane, type Manifest } from "./control-plane.ts";
export {
  type CustomResourceDefinition,
  customResourceDefinitions,
  foreignDefinitions,
  type OptionalApi,
} from "./crds.ts";
export {
  checkIdentityCredentials,
  createAllWebhookCredentials,
  createIdentityCredentials,
  createWebhookCredentials,
  type IdentityCredentials,
} from "./credentials.ts";
export { apiServerPorts, assertInstallable, type InstallPlan, planInstall } from "./install.ts";
export {
  clusterObjects,
  installedConfig,
  installedValues,
  meshedPods,
  valuesOf,
} from "./installed.ts";
export * from "./names.ts";
export { DEFAULT_VALUES, HA_VALUES, mergeTrees, readValues, treeOfSets, type Values } from "./values.ts";

// The room's door: which categories a run has, and how it goes.
import { controlPlaneProxy, controlPlaneVersions, meshDataPlane } from "./categories/data-plane.ts";
import { meshConfig, meshCrd, meshExistence } from "./categories/existence.ts";
import { meshIdentity, meshIdentityDataPlane, meshWebhooks } from "./categories/identity.ts";
import { gatewayApiCrd, kubernetesApi, kubernetesVersion } from "./categories/kubernetes-api.ts";
import { preKubernetesSetup } from "./categories/pre-install.ts";
import type { Category } from "./check.ts";

export { CheckContext } from "./check.ts";
export { jsonReport, junitReport, tableObserver, verdictLine } from "./render.ts";
export { type CheckResult, type Observer, runChecks, succeeded } from "./runner.ts";

/** before: may it be installed; crds: are its kinds there; control-plane: does it run; data-plane: that and its proxies. */
export type Stage = "before" | "crds" | "control-plane" | "data-plane";

const ALWAYS = [kubernetesApi, kubernetesVersion, gatewayApiCrd];
const INSTALLED = [meshExistence, meshConfig, meshIdentity, meshWebhooks];

/** The categories of each kind of run, in Linkerd's order. */
export const STAGES: Readonly<Record<Stage, readonly Category[]>> = {
  before: [...ALWAYS, preKubernetesSetup],
  crds: [...ALWAYS, meshCrd],
  "control-plane": [...ALWAYS, ...INSTALLED, controlPlaneVersions, controlPlaneProxy],
  "data-plane": [...ALWAYS, ...INSTALLED, meshIdentityDataPlane, controlPlaneProxy, meshDataPlane],
};

// What stands between a decoded request and the store: built-in rules first, then webhooks.

import type { Json, KubeObject } from "../../cluster.ts";
import type { User } from "../auth/user.ts";
import type { ResourceDef } from "../resource.ts";

export type Operation = "CREATE" | "UPDATE" | "DELETE" | "CONNECT";

export interface AdmissionRequest {
  operation: Operation;
  def: ResourceDef;
  subresource?: string | undefined;
  namespace: string | undefined;
  name: string;
  /** Absent for DELETE. Stages may replace it. */
  object?: KubeObject | undefined;
  old?: KubeObject | undefined;
  user: User;
  dryRun: boolean;
  options?: Json;
  /** Collects `Warning` headers. */
  warnings: string[];
}

export interface AdmissionStage {
  /** Changes `request.object`, or throws ApiError to refuse. */
  mutate?(request: AdmissionRequest): void | Promise<void>;
  /** Throws ApiError to refuse; sees the final object. */
  validate?(request: AdmissionRequest): void | Promise<void>;
}

export class AdmissionChain {
  readonly #stages: AdmissionStage[] = [];

  add(stage: AdmissionStage): void {
    this.#stages.push(stage);
  }

  async mutate(request: AdmissionRequest): Promise<void> {
    for (const stage of this.#stages) await stage.mutate?.(request);
  }

  async validate(request: AdmissionRequest): Promise<void> {
    for (const stage of this.#stages) await stage.validate?.(request);
  }
}

// Who makes a request.

export interface User {
  readonly name: string;
  readonly uid?: string | undefined;
  readonly groups: readonly string[];
  readonly extra?: Record<string, string[]> | undefined;
}

/** The cluster's own parts. */
export const SYSTEM: User = { name: "system:apiserver", groups: ["system:masters", "system:authenticated"] };

export const ANONYMOUS: User = { name: "system:anonymous", groups: ["system:unauthenticated"] };

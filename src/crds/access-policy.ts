// Who may call a port for which nothing else was said: one vocabulary for Servers, annotations and values.

export const ACCESS_POLICIES = [
  "all-unauthenticated",
  "all-authenticated",
  "cluster-unauthenticated",
  "cluster-authenticated",
  "deny",
  "audit",
] as const;
export type AccessPolicy = (typeof ACCESS_POLICIES)[number];

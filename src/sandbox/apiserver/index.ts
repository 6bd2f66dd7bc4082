// The sandbox's API server: `createCluster` for the cluster in this process, `startApiServer` for its HTTPS face.

export { API_ADDRESS, advertise } from "./bootstrap.ts";
export type { FrontProxy } from "./http/aggregation.ts";
export { type ApiServer, type ApiServerOptions, type ListenAddress, startApiServer } from "./http/server.ts";
export { type ClusterOptions, createCluster, type LocalCluster } from "./local-cluster.ts";
export { ApiError, badRequest, conflict, notFound } from "./status.ts";

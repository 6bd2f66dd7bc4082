// The room's door: reaching an API server.
export * from "./apply.ts";
export * from "./client.ts";
export * from "./config.ts";
export * from "./error.ts";
export * from "./lease.ts";
export * from "./path.ts";
export * from "./reflector.ts";
export type * from "./types.ts";

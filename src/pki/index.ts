// The room's door: keys, requests, certificates and chains.
export * from "./certificate.ts";
export * from "./chain.ts";
export * from "./csr.ts";
export * from "./key.ts";
export * from "./pem.ts";

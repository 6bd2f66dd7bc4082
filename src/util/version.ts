// The package's version, fixed into bundles at build time.
declare const __MESH_VERSION__: string | undefined;

export const VERSION: string = typeof __MESH_VERSION__ === "string" ? __MESH_VERSION__ : "0.0.0-dev";

// The paths that are no resources: discovery, health, version, OpenAPI and the token issuer's documents.

import { ISSUER } from "../auth/tokens.ts";
import { methodNotAllowed, noSuchPath } from "../status.ts";
import {
  coreVersions,
  groupList,
  groupObject,
  groupVersions,
  openApiDocument,
  openApiIndex,
  resourceList,
  swagger,
  swaggerProtobuf,
  versionInfo,
} from "./discovery.ts";
import { type Exchange, sendJson, sendText } from "./exchange.ts";

/** Answers a GET; `remote` are the groups of aggregated servers. */
export function servePath(exchange: Exchange, remote: ReadonlyMap<string, string[]>): void {
  const { info, request, response } = exchange;
  if (request.method !== "GET" && request.method !== "HEAD") throw methodNotAllowed();
  const path = info.path.replace(/(.)\/+$/, "$1");
  if (HEALTH.has(path.replace(/^(\/(?:healthz|livez|readyz))\/.*/, "$1"))) {
    sendText(exchange, 200, "ok");
  } else if (path === "/openapi/v2" && (request.headers.accept ?? "").includes("protobuf")) {
    response.writeHead(200, { "content-type": "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" });
    response.end(swaggerProtobuf(exchange.serving.cluster.registry));
  } else {
    const document = documentAt(exchange, path, remote);
    if (document === undefined) throw noSuchPath();
    sendJson(exchange, 200, document);
  }
}

const HEALTH = new Set(["/healthz", "/livez", "/readyz"]);

function documentAt(exchange: Exchange, path: string, remote: ReadonlyMap<string, string[]>): unknown {
  const { registry, tokens } = exchange.serving.cluster;
  const [, root, first, second, ...more] = path.split("/");
  if (root === "apis" && first && !second) {
    const versions = groupVersions(registry).get(first) ?? remote.get(first);
    return versions && { kind: "APIGroup", apiVersion: "v1", ...groupObject(first, versions) };
  }
  if (root === "apis" && first && second && more.length === 0) return resourceList(registry, first, second);
  if (root === "openapi" && first === "v3" && second) {
    return openApiDocument(registry, [second, ...more].join("/"));
  }
  switch (path) {
    case "/":
      return { paths: ["/api", "/api/v1", "/apis", ...HEALTH, "/openapi/v2", "/openapi/v3", "/version"] };
    case "/api":
      return coreVersions();
    case "/api/v1":
      return resourceList(registry, "", "v1");
    case "/apis":
      return groupList(registry, remote);
    case "/version":
      return versionInfo();
    case "/openapi/v3":
      return openApiIndex(registry);
    case "/openapi/v2":
      return swagger();
    case "/.well-known/openid-configuration":
      return {
        issuer: ISSUER,
        jwks_uri: `${ISSUER}/openid/v1/jwks`,
        response_types_supported: ["id_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["ES256"],
      };
    case "/openid/v1/jwks":
      return tokens.jwks();
    default:
      return undefined;
  }
}

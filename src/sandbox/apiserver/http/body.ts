// Reading request bodies: bounded, as JSON or YAML.

import type { IncomingMessage } from "node:http";
import { createGunzip } from "node:zlib";
import { parse as parseYaml } from "yaml";
import type { Json } from "../../cluster.ts";
import { badRequest, tooLarge, unsupportedMedia } from "../status.ts";
import { decodeProtobuf, PROTOBUF } from "./protobuf.ts";

/** Kubernetes' own limit. */
export const MAX_BODY = 3 * 1024 * 1024;

/** The whole body. Throws 413. */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  const zipped = request.headers["content-encoding"] === "gzip";
  const source = zipped ? request.pipe(createGunzip()) : request;
  for await (const chunk of source) {
    size += (chunk as Buffer).length;
    if (size > MAX_BODY) throw tooLarge(MAX_BODY);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

export function mediaType(request: IncomingMessage): string {
  return (request.headers["content-type"] ?? "application/json").split(";")[0]?.trim().toLowerCase() ?? "";
}

/** The body as an object; undefined when empty. Throws 400 and 415. */
export async function readObject(request: IncomingMessage): Promise<Json> {
  const type = mediaType(request);
  const bytes = await readBody(request);
  if (bytes.length === 0) return undefined;
  if (type === PROTOBUF) return decodeProtobuf(bytes);
  if (type === "application/yaml" || type === "application/apply-patch+yaml") return yaml(bytes);
  if (
    type.endsWith("json") ||
    type === "" ||
    type === "text/plain" ||
    type === "application/x-www-form-urlencoded"
  ) {
    return json(bytes);
  }
  throw unsupportedMedia(
    `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml`,
  );
}

export function json(bytes: Buffer): Json {
  try {
    return JSON.parse(bytes.toString());
  } catch (error) {
    throw badRequest(`couldn't parse the body as JSON: ${(error as Error).message}`);
  }
}

export function yaml(bytes: Buffer): Json {
  try {
    return parseYaml(bytes.toString(), { maxAliasCount: 100 });
  } catch (error) {
    throw badRequest(`error decoding YAML: ${(error as Error).message}`);
  }
}

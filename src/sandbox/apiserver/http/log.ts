// GET …/pods/NAME/log.

import type { ServerResponse } from "node:http";
import type { LogOptions } from "../../node-api.ts";
import type { ResourceDef } from "../resource.ts";
import { badRequest } from "../status.ts";
import { containerOf } from "../streams/container.ts";
import type { Exchange } from "./exchange.ts";
import { isTrue } from "./request.ts";

/** When following, headers go out after this long even if there is no line yet. */
const FIRST_LINE_WAIT = 500;

export async function serveLog(exchange: Exchange): Promise<void> {
  const { info, serving, response } = exchange;
  const { query } = info;
  const { registry, clock } = serving.cluster;
  const { namespace, name } = info.resource as { namespace: string; name: string };
  const pod = registry.get(registry.preferred("", "pods") as ResourceDef, namespace, name);
  const number = (key: string) => {
    const text = query.get(key);
    if (text === null) return undefined;
    if (!/^\d+$/.test(text))
      throw badRequest(`${key}: Invalid value: ${JSON.stringify(text)}: must be a number`);
    return Number(text);
  };
  const options: LogOptions = {
    container: containerOf(pod, query.get("container")),
    follow: isTrue(query.get("follow")),
    previous: isTrue(query.get("previous")),
    timestamps: isTrue(query.get("timestamps")),
    tailLines: number("tailLines"),
    sinceSeconds: number("sinceSeconds"),
    sinceTime: query.get("sinceTime") ?? undefined,
    limitBytes: number("limitBytes"),
  };
  const lines = serving.nodeApi.logs(namespace, name, options)[Symbol.asyncIterator]();
  const stop = () => {
    response.end();
    lines.return?.()?.then(undefined, () => {});
  };
  const start = () => {
    if (response.headersSent) return;
    response.writeHead(200, { "content-type": "text/plain" });
    response.flushHeaders();
  };
  const timer = options.follow ? clock.after(FIRST_LINE_WAIT, start) : undefined;
  response.once("close", stop);
  serving.closing.addEventListener("abort", stop, { once: true });
  try {
    for (let next = await lines.next(); !next.done; next = await lines.next()) {
      start();
      if (response.destroyed || response.writableEnded) return;
      if (!response.write(next.value)) await writable(response);
    }
    start();
    response.end();
  } finally {
    clock.clear(timer);
    serving.closing.removeEventListener("abort", stop);
    // Not the response: an error has yet to be written to it.
    lines.return?.()?.then(undefined, () => {});
  }
}

function writable(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

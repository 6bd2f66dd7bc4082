// One question to the admin port of the proxy in this pod.
import { request } from "node:http";
import { errorMessage } from "../util/error.ts";

/** A proxy that does not answer its admin port this long is stuck, ms. */
const TIMEOUT = 5_000;

/** `ok` for a 2xx answer, else what came instead. @param left ms that are left for it */
export function ask(method: string, port: number, path: string, left: number): Promise<string> {
  return new Promise((resolve) => {
    const asked = request(
      { host: "127.0.0.1", port, path, method, agent: false, signal: deadline(left) },
      (response) => {
        const { statusCode = 0 } = response;
        response.resume();
        response.on("error", () => {});
        resolve(statusCode >= 200 && statusCode < 300 ? "ok" : `${method} ${path} answered ${statusCode}`);
      },
    );
    asked.on("error", (error) => resolve(errorMessage(error)));
    asked.end();
  });
}

const deadline = (left: number) => AbortSignal.timeout(Math.max(1, Math.min(TIMEOUT, Math.ceil(left))));

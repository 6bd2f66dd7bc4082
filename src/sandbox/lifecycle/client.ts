// The launcher's own look at the API server, with the credentials that the daemon wrote.
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { kubeconfigPath } from "./state-directory.ts";

const TIMEOUT_MS = 3_000;
const MAX_ANSWER = 64 * 1024 * 1024;

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Whether the API server says that it is ready. Never rejects. */
export async function fetchReady(directory: string, port: number): Promise<boolean> {
  try {
    return (await get(directory, port, "/readyz")).status === 200;
  } catch {
    return false;
  }
}

/** The items of a list. @throws when the API server does not answer with one */
export async function fetchList(
  directory: string,
  port: number,
  path: string,
  // biome-ignore lint/suspicious/noExplicitAny: Kubernetes objects are open JSON.
): Promise<any[]> {
  const { status, body } = await get(directory, port, path);
  if (status !== 200) throw new Error(`GET ${path}: status ${status}`);
  return JSON.parse(body).items;
}

function get(directory: string, port: number, path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const credentials = readCredentials(directory);
    const call = request(
      { host: "127.0.0.1", port, path, ...credentials, agent: false, timeout: TIMEOUT_MS },
      (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (text: string) => {
          body += text;
          if (body.length > MAX_ANSWER) call.destroy(new Error("the answer is too long"));
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
        response.on("error", reject);
      },
    );
    call.on("timeout", () => call.destroy(new Error("timeout")));
    call.on("error", reject);
    call.end();
  });
}

/** Our own kubeconfig has a known form: no YAML library for three fields. */
function readCredentials(directory: string): { ca: Buffer; cert: Buffer; key: Buffer } {
  const text = readFileSync(kubeconfigPath(directory), "utf8");
  const field = (name: string) =>
    Buffer.from(new RegExp(`^ *${name}: (\\S+)$`, "m").exec(text)?.[1] ?? "", "base64");
  return {
    ca: field("certificate-authority-data"),
    cert: field("client-certificate-data"),
    key: field("client-key-data"),
  };
}

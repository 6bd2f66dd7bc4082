// nghttpd as a back end: files over HTTP/2 by prior knowledge, which neither nginx's releases of old nor HAProxy serve.
import { type Bench, LOAD_CORE } from "../harness.ts";

/** Windows that never hold a response up: what is measured is the proxies before it. */
const WINDOW_BITS = "20";

/** Serves the files of a directory. @returns its port */
export async function nghttpd(bench: Bench, directory: string): Promise<number> {
  const port = await bench.port();
  const child = bench.start("nghttpd", LOAD_CORE, "nghttpd", [
    ...["--no-tls", "--address", "127.0.0.1", "--htdocs", directory],
    ...["--window-bits", WINDOW_BITS, "--connection-window-bits", WINDOW_BITS],
    String(port),
  ]);
  await bench.listening(child, port);
  return port;
}

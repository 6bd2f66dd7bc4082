// HAProxy as a peer and as the back end: one thread, in the foreground, connections to servers shared and kept.
import { type Bench, type Child, PROXY_CORE, type Running } from "../harness.ts";
import type { PeerCertificates } from "../mesh.ts";

const GLOBAL = `global
  nbthread 1
  maxconn 8000
defaults
  timeout client 120s
  timeout server 120s
  timeout connect 5s
`;

export type Mode = "http" | "tcp";

/** Starts HAProxy with these sections behind the common ones. */
export async function haproxy(
  bench: Bench,
  name: string,
  core: number,
  port: number,
  sections: string,
): Promise<Child> {
  const file = bench.write(`haproxy-${name}-${port}.cfg`, GLOBAL + sections);
  const child = bench.start(`HAProxy ${name}`, core, "haproxy", ["-db", "-f", file]);
  await bench.listening(child, port);
  return child;
}

/** Answers every request by itself: HTTP/1, and HTTP/2 by prior knowledge, on one port. */
export const haproxyBackEnd = (port: number): string => `
frontend back-end
  mode http
  bind 127.0.0.1:${port}
  http-request return status 200 content-type text/plain string "hello from the back end\\n"
`;

const common = (mode: Mode) => (mode === "http" ? "  mode http\n  http-reuse always\n" : "  mode tcp\n");

/** One proxy without TLS. @param h2 HTTP/2 on both sides */
export async function haproxyPlain(
  bench: Bench,
  app: number,
  { mode = "http", h2 = false }: { mode?: Mode; h2?: boolean } = {},
): Promise<Running> {
  const port = await bench.port();
  const protocol = h2 ? " proto h2" : "";
  const child = await haproxy(
    bench,
    "plain",
    PROXY_CORE,
    port,
    `listen proxy\n${common(mode)}  bind 127.0.0.1:${port}${protocol}\n  server app 127.0.0.1:${app}${protocol}\n`,
  );
  return { port, processes: [child] };
}

/** One proxy that ends mTLS and goes on without. */
export async function haproxyServer(
  bench: Bench,
  app: number,
  tls: PeerCertificates,
  { mode = "http", h2 = false }: { mode?: Mode; h2?: boolean } = {},
): Promise<Running> {
  const port = await bench.port();
  const child = await haproxy(
    bench,
    "server",
    PROXY_CORE,
    port,
    `listen proxy\n${common(mode)}  bind 127.0.0.1:${port} ssl crt ${tls.both} ca-file ${tls.anchors} verify required ssl-min-ver TLSv1.3${h2 ? " alpn h2" : ""}\n  server app 127.0.0.1:${app}${h2 ? " proto h2" : ""}\n`,
  );
  return { port, processes: [child] };
}

/** Two proxies with mTLS between them. @param h2 HTTP/2 all the way */
export async function haproxyPair(
  bench: Bench,
  app: number,
  tls: PeerCertificates,
  { mode = "http", h2 = false }: { mode?: Mode; h2?: boolean } = {},
): Promise<Running> {
  const server = await haproxyServer(bench, app, tls, { mode, h2 });
  const port = await bench.port();
  const client = await haproxy(
    bench,
    "client",
    PROXY_CORE,
    port,
    `listen proxy\n${common(mode)}  bind 127.0.0.1:${port}${h2 ? " proto h2" : ""}\n  server app 127.0.0.1:${server.port} ssl crt ${tls.both} ca-file ${tls.anchors} verify required verifyhost ${tls.name} sni str(${tls.name}) ssl-min-ver TLSv1.3${h2 ? " alpn h2" : ""}\n`,
  );
  return { port, processes: [client, ...server.processes] };
}

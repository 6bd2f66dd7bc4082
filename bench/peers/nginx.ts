// nginx as a peer and as a back end: one process, in the foreground, connections to servers kept.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Bench, type Child, PROXY_CORE, type Running } from "../harness.ts";
import type { PeerCertificates } from "../mesh.ts";

/** Connections are never ended for having served long. */
const FOREVER = 1_000_000_000;
/** Idle connections to the application that are kept. */
const KEPT = 1_000;

/** Starts nginx with these parts of its `http` block. */
export async function nginx(
  bench: Bench,
  name: string,
  core: number,
  port: number,
  http: string,
): Promise<Child> {
  const directory = join(bench.directory, `nginx-${name}-${port}`);
  mkdirSync(directory, { recursive: true });
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `  ${kind}_temp_path ${directory}/${kind};\n`)
    .join("");
  const file = bench.write(
    `nginx-${name}-${port}/nginx.conf`,
    `daemon off; master_process off; pid ${directory}/pid; error_log stderr error;
events { worker_connections 16000; }
http {
  access_log off; keepalive_requests ${FOREVER}; keepalive_timeout 120s; tcp_nodelay on;
${temporary}${http}}
`,
  );
  const child = bench.start(`nginx ${name}`, core, "nginx", ["-p", directory, "-c", file, "-e", "stderr"]);
  await bench.listening(child, port);
  return child;
}

const upstream = (port: number) =>
  `  upstream app { server 127.0.0.1:${port}; keepalive ${KEPT}; keepalive_requests ${FOREVER}; }\n`;
const PASS = `proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;`;

/** One proxy without TLS. @param front the protocol that clients speak; the application is spoken to by HTTP/1 */
export async function nginxPlain(bench: Bench, app: number, front: "http1" | "http2"): Promise<Running> {
  const port = await bench.port();
  const child = await nginx(
    bench,
    "plain",
    PROXY_CORE,
    port,
    `${upstream(app)}  server {\n    listen 127.0.0.1:${port}${front === "http2" ? " http2" : ""};\n    location / { ${PASS} proxy_pass http://app; }\n  }\n`,
  );
  return { port, processes: [child] };
}

/** One proxy of gRPC, which speaks HTTP/2 on both sides. */
export async function nginxGrpc(bench: Bench, app: number): Promise<Running> {
  const port = await bench.port();
  const child = await nginx(
    bench,
    "grpc",
    PROXY_CORE,
    port,
    `${upstream(app)}  server {\n    listen 127.0.0.1:${port} http2;\n    location / { grpc_pass grpc://app; }\n  }\n`,
  );
  return { port, processes: [child] };
}

/** Two proxies with mTLS between them, HTTP/1 all the way. */
export async function nginxPair(bench: Bench, app: number, tls: PeerCertificates): Promise<Running> {
  const [front, back] = [await bench.port(), await bench.port()];
  const server = await nginx(
    bench,
    "server",
    PROXY_CORE,
    back,
    `${upstream(app)}  server {
    listen 127.0.0.1:${back} ssl;
    ssl_protocols TLSv1.3; ssl_certificate ${tls.chain}; ssl_certificate_key ${tls.key};
    ssl_client_certificate ${tls.anchors}; ssl_verify_client on; ssl_verify_depth 3;
    location / { ${PASS} proxy_pass http://app; }
  }\n`,
  );
  const client = await nginx(
    bench,
    "client",
    PROXY_CORE,
    front,
    `${upstream(back)}  server {
    listen 127.0.0.1:${front};
    proxy_ssl_protocols TLSv1.3; proxy_ssl_certificate ${tls.chain}; proxy_ssl_certificate_key ${tls.key};
    proxy_ssl_trusted_certificate ${tls.anchors}; proxy_ssl_verify on; proxy_ssl_verify_depth 3;
    proxy_ssl_name ${tls.name}; proxy_ssl_server_name on;
    location / { ${PASS} proxy_pass https://app; }
  }\n`,
  );
  return { port: front, processes: [client, server] };
}

/** Answers unary gRPC calls with a few bytes and trailers: HTTP/2 in C, so that the load stays ahead of proxies. */
export const nginxGrpcBackEnd = (port: number): string => `  server {
    listen 127.0.0.1:${port} http2;
    location / {
      default_type application/grpc; add_trailer grpc-status 0;
      return 200 "sixty bytes that stand for a message, which no proxy looks into";
    }
  }
`;

/** Serves the files of a directory. */
export const nginxFiles = (port: number, directory: string): string => `  server {
    listen 127.0.0.1:${port}; root ${directory}; sendfile on; open_file_cache max=100;
  }
`;

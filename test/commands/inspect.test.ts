// version and identity against a real HTTP server that answers like an API server, and a real TLS proxy.
import { X509Certificate } from "node:crypto";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  certificateJson,
  certificateText,
  podIdentity,
  readCertificate,
} from "../../src/cli/pod-certificate.ts";
import { proxyVersions, serverVersion } from "../../src/cli/versions.ts";
import { KubeClient } from "../../src/kube/client.ts";
import type { Pod } from "../../src/kube/types.ts";
import { createIssuer, createRoot, generateKey, type IssuedWithKey, issueLeaf } from "../../src/pki/index.ts";
import { runCommand } from "../support/run-command.ts";

const test = suite("inspect");
const authority = (issued: IssuedWithKey) => ({
  certificate: new X509Certificate(issued.der),
  privateKey: issued.key.privateKey,
});
const NAME = "web.demo.serviceaccount.identity.mesh-system.cluster.local";

const pod = (name: string, image: string): Pod => ({
  metadata: { name, namespace: "demo", labels: { "linkerd.io/control-plane-ns": "mesh-system" } },
  spec: {
    serviceAccountName: "web",
    initContainers: [
      {
        name: "linkerd-proxy",
        image,
        env: [
          {
            name: "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
            value: "$(_pod_sa).$(_pod_ns).serviceaccount.identity.mesh-system.cluster.local",
          },
        ],
      },
    ],
    containers: [{ name: "web" }],
  },
});

let server: Server;
let client: KubeClient;
let asked: string[] = [];

test.before(async () => {
  server = createServer((request, response) => {
    const url = new URL(request.url!, "http://x");
    asked.push(decodeURIComponent(request.url!));
    const body =
      url.pathname === "/api/v1/namespaces/mesh-system/configmaps/mesh-config"
        ? { metadata: {}, data: { values: '{"image":{"version":"1.2.3"},"unknown":1}' } }
        : url.pathname.endsWith("/pods")
          ? {
              metadata: {},
              items: [
                pod("a", "kubectl-mesh:1.2.3"),
                pod("b", "kubectl-mesh:1.2.2"),
                pod("c", "reg.example:5000/kubectl-mesh:1.2.3"),
                { metadata: { name: "none" }, spec: { containers: [] } },
              ],
            }
          : undefined;
    response.statusCode = body ? 200 : 404;
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify(body ?? { kind: "Status", reason: "NotFound", message: "not found", code: 404 }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  client = new KubeClient({
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    basePath: "",
    tls: {},
    context: "test",
    namespace: "default",
    headers: async () => ({}),
  });
});

test.after(() => {
  client.close();
  server.closeAllConnections();
  server.close();
});

test("the control plane's version comes from its configuration, absent when not installed", async () => {
  assert.is(await serverVersion(client, "mesh-system"), "1.2.3");
  assert.is(await serverVersion(client, "elsewhere"), undefined);
});

test("proxies are counted by version", async () => {
  asked = [];
  assert.equal(await proxyVersions(client, "mesh-system", undefined), [
    { version: "1.2.3", pods: 2 },
    { version: "1.2.2", pods: 1 },
  ]);
  await proxyVersions(client, "mesh-system", "demo");
  assert.match(asked[0]!, "labelSelector=linkerd.io/control-plane-ns=mesh-system");
  assert.match(asked[1]!, "/api/v1/namespaces/demo/pods");
});

test("a pod's identity is its service account's name in the mesh", () => {
  assert.is(podIdentity(pod("a", "x")), NAME);
  assert.throws(() => podIdentity({ metadata: { name: "x" }, spec: { containers: [] } }), /has no proxy/);
});

test("the leaf certificate is read by TLS and shown", async () => {
  const now = Date.now();
  const root = createRoot({ commonName: "root.mesh", lifetimeMs: 3_600_000, now });
  const issuer = createIssuer({
    root: authority(root),
    commonName: "issuer.mesh",
    lifetimeMs: 3_600_000,
    now,
  });
  const key = generateKey();
  const leaf = issueLeaf({
    issuer: authority(issuer),
    spki: key.publicKey.export({ type: "spki", format: "der" }),
    dnsName: NAME,
    lifetimeMs: 1_800_000,
    skewMs: 20_000,
    now,
  });
  let seenName: string | undefined;
  const proxy = createTlsServer(
    {
      cert: leaf.pem,
      key: key.privateKey.export({ type: "pkcs8", format: "pem" }),
      // A proxy asks for the peer's certificate and ends without one; the certificate is seen all the same.
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
      SNICallback: (name, done) => {
        seenName = name;
        done(null);
      },
    },
    (socket) => socket.on("error", () => {}),
  );
  proxy.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const certificate = await readCertificate(
    connect((proxy.address() as AddressInfo).port, "127.0.0.1"),
    NAME,
  );
  proxy.close();
  assert.is(seenName, NAME);
  const json = certificateJson(pod("a", "x"), certificate);
  assert.equal(json.subjectAltNames, [`DNS:${NAME}`]);
  assert.match(json.issuer, "issuer.mesh");
  assert.is(json.publicKey, "ec prime256v1");
  const text = certificateText(json, now);
  assert.match(text, /Not after: +\S+ \((29|30)m left\)/);
  assert.match(certificateText(json, now + 7_200_000), "(expired)");
});

test("a port without TLS is an error that says so", async () => {
  const plain = createServer((_, response) => void response.end());
  await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  const error = await readCertificate(
    connect((plain.address() as AddressInfo).port, "127.0.0.1"),
    NAME,
  ).catch((e) => e);
  plain.closeAllConnections();
  plain.close();
  assert.match(error.message, `no certificate for ${NAME}`);
});

test("identity needs to know which pods", async () => {
  const { code, stderr } = await runCommand("identity");
  assert.is(code, 2);
  assert.match(stderr, "which pods?");
});

test("version --client needs no cluster", async () => {
  const { code, stdout } = await runCommand("version", "--client", "-o", "json");
  assert.is(code, 0);
  assert.equal(Object.keys(JSON.parse(stdout)), ["client"]);
});

test("version without a cluster still tells the client's, and why there is no other", async () => {
  const { code, stdout, stderr } = await runCommand("version", "--kubeconfig", "/nonexistent/config");
  assert.is(code, 0);
  assert.match(stdout, "Server version: unavailable");
  assert.match(stderr, "kubeconfig");
});

test.run();

// Certificates and requests, judged by OpenSSL.
import { execFileSync } from "node:child_process";
import { createPublicKey, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer } from "node:tls";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  createClientCertificate,
  createCsr,
  createIssuer,
  createRoot,
  createServerCertificate,
  generateKey,
  issueLeaf,
  parseCertificates,
  parseCsr,
  privateKeyPem,
  spkiOf,
  verifyChain,
} from "../../src/pki/index.ts";

const test = suite("pki");
const YEAR = 365 * 86_400_000;
const now = Date.now();
const root = createRoot({ commonName: "root.linkerd.cluster.local", lifetimeMs: YEAR, now });
const rootAuthority = { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey };
const issuer = createIssuer({ root: rootAuthority, commonName: "identity", lifetimeMs: YEAR, now });
const issuerAuthority = { certificate: new X509Certificate(issuer.der), privateKey: issuer.key.privateKey };
const NAME = "web.demo.serviceaccount.identity.mesh-system.cluster.local";

function leafFor(dnsName: string, at = now) {
  const key = generateKey();
  const request = parseCsr(createCsr({ key, dnsName }));
  const leaf = issueLeaf({
    issuer: issuerAuthority,
    spki: request.spki,
    dnsName,
    lifetimeMs: 86_400_000,
    skewMs: 20_000,
    now: at,
  });
  return { key, leaf };
}

test("OpenSSL verifies root, issuer and leaf strictly", () => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-pki-"));
  try {
    const write = (name: string, text: string) => {
      writeFileSync(join(directory, name), text);
      return join(directory, name);
    };
    const output = execFileSync("openssl", [
      "verify",
      "-x509_strict",
      "-purpose",
      "sslserver",
      "-CAfile",
      write("root.pem", root.pem),
      "-untrusted",
      write("issuer.pem", issuer.pem),
      write("leaf.pem", leafFor(NAME).leaf.pem),
    ]).toString();
    assert.match(output, /leaf\.pem: OK/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a request survives the round trip for any plausible name", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{1,20}){1,6}$/), (dnsName) => {
      const key = generateKey();
      const request = parseCsr(createCsr({ key, dnsName }));
      assert.equal(request.dnsNames, [dnsName]);
      assert.equal(request.otherNames, []);
      assert.equal(request.commonNames, []);
      assert.ok(request.spki.equals(spkiOf(key.publicKey)));
    }),
    { numRuns: 25 },
  );
});

test("a request with any byte changed is refused", () => {
  const der = createCsr({ key: generateKey(), dnsName: NAME });
  for (let at = 0; at < der.length; at += 1) {
    const bad = Buffer.from(der);
    bad[at] = bad[at]! ^ 0x01;
    assert.throws(
      () => parseCsr(bad),
      (error: unknown) => error instanceof Error,
      `byte ${at}`,
    );
  }
  assert.throws(() => parseCsr(Buffer.alloc(20_000)), /at most/);
});

test("OpenSSL's requests are read, and what they ask for beyond DNS is seen", () => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-pki-"));
  try {
    const key = join(directory, "k.pem");
    writeFileSync(key, privateKeyPem(generateKey().privateKey));
    const der = execFileSync("openssl", [
      "req",
      "-new",
      "-key",
      key,
      "-outform",
      "DER",
      "-subj",
      "/CN=a.b",
      "-addext",
      "subjectAltName=DNS:a.b,URI:spiffe://x/y,IP:10.0.0.1,email:x@y.z",
    ]);
    const request = parseCsr(der);
    assert.equal(request.commonNames, ["a.b"]);
    assert.equal(request.dnsNames, ["a.b"]);
    assert.equal(request.otherNames, ["a URI", "an IP address", "an e-mail address"]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a leaf never outlives its issuer", () => {
  const { leaf } = leafFor(NAME, now + YEAR - 3_600_000);
  assert.is(leaf.notAfter, issuer.notAfter);
});

test("chains are walked and refusals say why", () => {
  const leaf = new X509Certificate(leafFor(NAME).leaf.der);
  const ok = verifyChain(leaf, [issuerAuthority.certificate], [rootAuthority.certificate], now);
  assert.ok(ok.ok && ok.path.length === 3);
  const other = createRoot({ commonName: "root.linkerd.cluster.local", lifetimeMs: YEAR, now });
  const wrong = verifyChain(leaf, [issuerAuthority.certificate], [new X509Certificate(other.der)], now);
  assert.not(wrong.ok);
  const late = verifyChain(leaf, [issuerAuthority.certificate], [rootAuthority.certificate], now + 2 * YEAR);
  assert.ok(!late.ok && /expired/.test(late.reason));
});

test("two leaves shake hands over TLS 1.3, each seeing the other's name", async () => {
  const [a, b] = [leafFor(NAME), leafFor(`other.${NAME}`)];
  const side = (x: typeof a) => ({
    key: privateKeyPem(x.key.privateKey),
    cert: x.leaf.pem + issuer.pem,
    ca: root.pem,
    minVersion: "TLSv1.3" as const,
  });
  const server = createServer({ ...side(a), requestCert: true });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const seen = new Promise<string>((resolve, reject) => {
      server.on("secureConnection", (socket) =>
        resolve(String(socket.getPeerX509Certificate()?.subjectAltName)),
      );
      server.on("tlsClientError", reject);
    });
    const client = connect({
      ...side(b),
      port: (server.address() as { port: number }).port,
      host: "127.0.0.1",
      servername: NAME,
    });
    await new Promise<void>((resolve, reject) => client.once("secureConnect", resolve).once("error", reject));
    assert.is(client.getPeerX509Certificate()?.subjectAltName, `DNS:${NAME}`);
    assert.is(await seen, `DNS:other.${NAME}`);
    client.destroy();
  } finally {
    server.close();
  }
});

test("server and client certificates carry names, addresses, user and groups", () => {
  const server = createServerCertificate({
    authority: rootAuthority,
    commonName: "kube-apiserver",
    names: { dns: ["localhost"], ip: ["127.0.0.1", "::1"] },
    lifetimeMs: YEAR,
    now,
  });
  assert.is(
    new X509Certificate(server.der).subjectAltName,
    "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1",
  );
  const client = createClientCertificate({
    authority: rootAuthority,
    user: "admin",
    groups: ["system:masters"],
    lifetimeMs: YEAR,
    now,
  });
  assert.is(new X509Certificate(client.der).subject, "O=system:masters\nCN=admin");
  assert.ok(createPublicKey(client.keyPem).equals(new X509Certificate(client.der).publicKey));
});

test("a bundle is read whole, and a broken block is named", () => {
  assert.is(parseCertificates(root.pem + issuer.pem).length, 2);
  assert.throws(() => parseCertificates("nothing"), /at least one/);
  assert.throws(
    () => parseCertificates(`${root.pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----`),
    /block 2/,
  );
});

test.run();

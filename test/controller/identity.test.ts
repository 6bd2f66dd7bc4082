// The identity controller: who gets a leaf, for which name, and who does not.
import { execFileSync } from "node:child_process";
import { createPublicKey, X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { STATUS } from "../../src/api/grpc-status.ts";
import { Certify } from "../../src/api/identity.ts";
import { timestampMs } from "../../src/api/time.ts";
import { EventRecorder } from "../../src/controller/event-recorder.ts";
import { GrpcServer } from "../../src/controller/grpc-server.ts";
import { readIssuer } from "../../src/controller/identity/certifier.ts";
import { serveIdentity } from "../../src/controller/identity/service.ts";
import { reviewToken } from "../../src/controller/identity/token-review.ts";
import { watchFiles } from "../../src/controller/watched-file.ts";
import { KubeClient } from "../../src/kube/client.ts";
import { createLogger } from "../../src/log/logger.ts";
import { Registry } from "../../src/metrics/registry.ts";
import {
  createCsr,
  createIssuer,
  createRoot,
  generateKey,
  parseCertificates,
  verifyChain,
} from "../../src/pki/index.ts";
import { systemClock } from "../../src/util/clock.ts";
import { ApiServer } from "../support/api-server.ts";
import { TestGrpcClient } from "../support/grpc-client.ts";
import { until } from "../support/until.ts";

const test = suite("identity");
const DAY = 86_400_000;
const now = Date.now();
const NAME = "web.emoji.serviceaccount.identity.mesh-system.cluster.local";
const OTHER = "admin.emoji.serviceaccount.identity.mesh-system.cluster.local";

const root = createRoot({ commonName: "root", lifetimeMs: 365 * DAY, now });
const authority = { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey };
const issuerFor = (lifetimeMs: number) =>
  createIssuer({ root: authority, commonName: "issuer", lifetimeMs, now });
const issuer = issuerFor(10 * DAY);

interface Rig {
  readonly client: TestGrpcClient;
  readonly api: ApiServer;
  /** Posted TokenReviews and Events. */
  posted(path: string): Record<string, unknown>[];
  clock: { now: number };
}

/** The real service against an API server that knows one token, `good`, of ServiceAccount emoji/web. */
async function withIdentity(run: (rig: Rig) => Promise<void>, used = issuer, status?: object): Promise<void> {
  const api = new ApiServer();
  api.answer = (seen, response) => {
    response.setHeader("content-type", "application/json");
    if (!seen.url.pathname.endsWith("/tokenreviews")) {
      response.end("{}");
      return true;
    }
    const { token } = JSON.parse(seen.body).spec;
    if (token === "down") response.statusCode = 500;
    const answer =
      token === "good"
        ? {
            authenticated: true,
            audiences: ["identity.l5d.io"],
            user: { username: "system:serviceaccount:emoji:web", uid: "sa-uid" },
            ...status,
          }
        : { authenticated: false, error: "token is expired" };
    response.end(JSON.stringify({ status: answer }));
    return true;
  };
  const kube = new KubeClient(await api.listen());
  const log = createLogger({ level: "off" });
  const registry = new Registry();
  const clock = { now };
  const server = new GrpcServer({ log, registry });
  serveIdentity(server, {
    review: (token) => reviewToken(kube, token),
    issuer: () => readIssuer(used.pem, used.keyPem, root.pem, now),
    policy: { trustDomain: "cluster.local", meshNamespace: "mesh-system", lifetimeMs: DAY, skewMs: 20_000 },
    events: new EventRecorder(kube, "linkerd-identity", log),
    registry,
    log,
    clock: { ...systemClock, now: () => clock.now },
  });
  const client = new TestGrpcClient(await server.listen(0, "127.0.0.1"));
  try {
    await run({
      client,
      api,
      clock,
      posted: (path) => api.seen.filter((s) => s.url.pathname.endsWith(path)).map((s) => JSON.parse(s.body)),
    });
  } finally {
    client.close();
    await server.close();
    kube.close();
    await api.close();
  }
}

const request = (change: { identity?: string; token?: string; csr?: Buffer } = {}) => ({
  identity: change.identity ?? NAME,
  token: Buffer.from(change.token ?? "good"),
  certificateSigningRequest: change.csr ?? createCsr({ key: generateKey(), dnsName: NAME }),
});

test("a ServiceAccount's token and a request for its name give a leaf that chains to the anchor", () =>
  withIdentity(async ({ client, posted }) => {
    const key = generateKey();
    const call = client.call(Certify, request({ csr: createCsr({ key, dnsName: NAME }) }));
    const answer = await call.message(0);
    const leaf = new X509Certificate(answer.leafCertificate);
    assert.is(leaf.subjectAltName, `DNS:${NAME}`);
    assert.ok(leaf.publicKey.equals(createPublicKey(key.privateKey)));
    const chain = answer.intermediateCertificates.map((der) => new X509Certificate(der));
    assert.is(chain.length, 1, "the issuer, and not the anchor");
    assert.ok(verifyChain(leaf, chain, parseCertificates(root.pem), now).ok);
    const validUntil = timestampMs(answer.validUntil!);
    assert.is(validUntil, Date.parse(leaf.validTo));
    assert.ok(Math.abs(validUntil - (now + DAY + 20_000)) <= 1_000, "a day and the skew");
    assert.equal(posted("/tokenreviews")[0]!["spec"], { token: "good", audiences: ["identity.l5d.io"] });
    await until(() => posted("/events").length > 0);
    const event = posted("/events")[0] as { reason: string; involvedObject: object };
    assert.is(event.reason, "IssuedLeafCertificate");
    assert.equal(event.involvedObject, {
      apiVersion: "v1",
      kind: "ServiceAccount",
      name: "web",
      namespace: "emoji",
      uid: "sa-uid",
    });
  }));

test("a leaf never outlives its issuer, and an issuer that has ended signs nothing", () =>
  withIdentity(
    async ({ client, clock }) => {
      const answer = await client.call(Certify, request()).message(0);
      assert.is(timestampMs(answer.validUntil!), Math.floor((now + DAY / 2) / 1000) * 1000);
      clock.now = now + DAY;
      assert.is(await client.call(Certify, request()).end(), STATUS.FAILED_PRECONDITION);
    },
    issuerFor(DAY / 2),
  ));

test("wrong tokens and names are refused, each with its status", () =>
  withIdentity(async ({ client }) => {
    const cases: [object, number, RegExp][] = [
      [request({ token: "" }), STATUS.INVALID_ARGUMENT, /expected a token/],
      [request({ token: "bad" }), STATUS.UNAUTHENTICATED, /token is expired/],
      [request({ token: "down" }), STATUS.UNAVAILABLE, /could not review/],
      [request({ identity: OTHER }), STATUS.PERMISSION_DENIED, /the token is for web\.emoji/],
      [request({ identity: "" }), STATUS.PERMISSION_DENIED, /the token is for/],
      [request({ csr: Buffer.from("nonsense") }), STATUS.INVALID_ARGUMENT, /DER certification request/],
      [
        request({ csr: createCsr({ key: generateKey(), dnsName: OTHER }) }),
        STATUS.INVALID_ARGUMENT,
        /exactly/,
      ],
    ];
    for (const [body, status, text] of cases) {
      const call = client.call(Certify, body as ReturnType<typeof request>);
      assert.is(await call.end(), status, String(text));
      assert.match(call.text, text);
      assert.not.match(call.text, /good|BEGIN/);
    }
  }));

test("a token for another audience, or of a person, is nobody's", async () => {
  await withIdentity(
    async ({ client }) => {
      const call = client.call(Certify, request());
      assert.is(await call.end(), STATUS.UNAUTHENTICATED);
      assert.match(call.text, /audience/);
    },
    issuer,
    { audiences: ["https://kubernetes.default.svc"] },
  );
  await withIdentity(
    async ({ client }) => assert.is(await client.call(Certify, request()).end(), STATUS.UNAUTHENTICATED),
    issuer,
    { user: { username: "kubernetes-admin" } },
  );
});

test("a request that asks for more than its name is refused", () =>
  withIdentity(async ({ client }) => {
    const directory = mkdtempSync(join(tmpdir(), "mesh-identity-"));
    const csrOf = (subject: string, names: string, ...key: string[]) => {
      const args = ["req", "-new", "-nodes", "-outform", "DER", "-subj", subject, "-keyout", "/dev/null"];
      const options = { stdio: ["ignore", "pipe", "ignore"] as ["ignore", "pipe", "ignore"], cwd: directory };
      const type = key.length > 0 ? key : ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
      return execFileSync("openssl", [...args, ...type, "-addext", `subjectAltName=${names}`], options);
    };
    try {
      const good = csrOf("/", `DNS:${NAME}`);
      assert.is(await client.call(Certify, request({ csr: good })).end(), STATUS.OK);
      const bad = [
        csrOf("/", `DNS:${NAME},DNS:${OTHER}`),
        csrOf("/", `DNS:${NAME},DNS:${NAME}`),
        csrOf("/", `DNS:${NAME},IP:10.0.0.1`),
        csrOf("/", `DNS:${NAME},URI:spiffe://x/y`),
        csrOf("/", `DNS:${NAME},email:a@example.com`),
        csrOf("/", `DNS:*.emoji.serviceaccount.identity.mesh-system.cluster.local`),
        csrOf("/CN=kubernetes-admin", `DNS:${NAME}`),
        csrOf("/", `DNS:${NAME}`, "-newkey", "rsa:2048"),
        csrOf("/", `DNS:${NAME}`, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
      ];
      for (const csr of bad)
        assert.is(await client.call(Certify, request({ csr })).end(), STATUS.INVALID_ARGUMENT);
      const forged = Buffer.from(good);
      forged[forged.length - 1]! ^= 1;
      assert.is(await client.call(Certify, request({ csr: forged })).end(), STATUS.INVALID_ARGUMENT);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }));

test("an issuer is taken only when it is a CA, has its key, and chains to an anchor", () => {
  const stranger = createRoot({ commonName: "stranger", lifetimeMs: DAY, now });
  const taken = readIssuer(issuer.pem, issuer.keyPem, root.pem + stranger.pem, now);
  assert.is(taken.chain.length, 1);
  assert.is(readIssuer(root.pem, root.keyPem, root.pem, now).chain.length, 0, "a root that signs by itself");
  assert.throws(() => readIssuer(issuer.pem, root.keyPem, root.pem, now), /key does not belong/);
  assert.throws(() => readIssuer(issuer.pem, issuer.keyPem, stranger.pem, now), /does not chain/);
  assert.throws(() => readIssuer(issuer.pem, issuer.keyPem, root.pem, now + 20 * DAY), /expired/);
  assert.throws(() => readIssuer("", issuer.keyPem, root.pem, now), /PEM/);
});

test("files are taken again when they change; what is refused is told once", async () => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-watched-"));
  const file = join(directory, "a");
  const taken: string[] = [];
  const errors: string[] = [];
  writeFileSync(file, "1");
  const watched = watchFiles(
    [file],
    ([text = ""]) => {
      if (text === "bad") throw new Error("refused");
      taken.push(text);
    },
    (error) => errors.push((error as Error).message),
    5,
  );
  try {
    writeFileSync(file, "2");
    await until(() => taken.length === 2);
    writeFileSync(file, "bad");
    await until(() => errors.length > 0);
    writeFileSync(file, "3");
    await until(() => taken.includes("3"));
    assert.equal(taken, ["1", "2", "3"]);
    assert.equal(errors, ["refused"]);
    assert.throws(
      () =>
        watchFiles(
          [join(directory, "none")],
          () => {},
          () => {},
        ),
      /ENOENT/,
    );
  } finally {
    watched.stop();
    rmSync(directory, { recursive: true });
  }
});

test.run();

// The identity controller: who gets a leaf, for which name, and who does not.
import { execFileSync } from "node:child_process";
import { createPublicKey, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { STATUS } from "../../src/api/grpc-status.ts";
import { Certify } from "../../src/api/identity.ts";
import { timestampMs } from "../../src/api/time.ts";
import { EventRecorder } from "../../src/controller/event-recorder.ts";
import { GrpcServer } from "../../src/controller/grpc-server.ts";
import { certify, readIssuer } from "../../src/controller/identity/certifier.ts";
import { IssuerSource } from "../../src/controller/identity/issuer-source.ts";
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
import { type Clock, systemClock } from "../../src/util/clock.ts";
import { ApiServer } from "../support/api-server.ts";
import { ManualClock } from "../support/clock.ts";
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
  /** Both kinds of time, ms. */
  clock: { now: number; monotonic: number };
  /** Lines of the log, as JSON. */
  readonly lines: string[];
  readonly registry: Registry;
  /** How often the issuer was said to have ended. */
  ended(): number;
}

/** The real service against an API server that knows one token, `good`, of ServiceAccount emoji/web. */
async function withIdentity(
  run: (rig: Rig) => Promise<void>,
  used: typeof issuer | undefined = issuer,
  status?: object,
): Promise<void> {
  let ended = 0;
  const lines: string[] = [];
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
  const log = createLogger({ level: "info", format: "json", write: (line) => lines.push(line) });
  const registry = new Registry();
  const clock = { now, monotonic: 0 };
  const server = new GrpcServer({ log, registry });
  serveIdentity(server, {
    review: (token) => reviewToken(kube, token),
    issuer: {
      current: used && readIssuer(used.pem, used.keyPem, root.pem, now),
      ended() {
        ended += 1;
      },
    },
    policy: { trustDomain: "cluster.local", meshNamespace: "mesh-system", lifetimeMs: DAY, skewMs: 20_000 },
    events: new EventRecorder(kube, "linkerd-identity", log),
    registry,
    log,
    clock: { ...systemClock, now: () => clock.now, monotonic: () => clock.monotonic },
  });
  const client = new TestGrpcClient(await server.listen(0, "127.0.0.1"));
  try {
    await run({
      client,
      api,
      clock,
      lines,
      registry,
      ended: () => ended,
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

test("a leaf never outlives its issuer, and an issuer that has ended signs nothing, which is told", () =>
  withIdentity(
    async ({ client, clock, ended }) => {
      const answer = await client.call(Certify, request()).message(0);
      assert.is(timestampMs(answer.validUntil!), Math.floor((now + DAY / 2) / 1000) * 1000);
      clock.now = now + DAY;
      assert.is(ended(), 0);
      const call = client.call(Certify, request());
      assert.is(await call.end(), STATUS.FAILED_PRECONDITION);
      assert.match(call.text, /issuer certificate expired at/);
      assert.is(ended(), 1);
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

test("an issuer of another curve is not taken; roots may be RSA's", () => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-issuer-"));
  const file = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { stdio: "ignore", cwd: directory });
  const ca = (name: string, ...key: string[]) =>
    openssl(
      ...["req", "-x509", "-nodes", "-days", "30", "-subj", `/CN=${name}`, "-newkey", ...key],
      ...["-keyout", `${name}.key`, "-out", `${name}.crt`],
    );
  const text = (name: string) => readFileSync(file(name), "utf8");
  try {
    for (const bits of ["2048", "4096"]) {
      ca("rsa", `rsa:${bits}`);
      openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "issuer.key");
      openssl("req", "-new", "-key", "issuer.key", "-subj", "/CN=issuer", "-out", "issuer.csr");
      writeFileSync(file("ext"), "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign\n");
      openssl(
        ...["x509", "-req", "-in", "issuer.csr", "-CA", "rsa.crt", "-CAkey", "rsa.key", "-days", "10"],
        ...["-set_serial", "7", "-extfile", "ext", "-out", "issuer.crt"],
      );
      const taken = readIssuer(text("issuer.crt"), text("issuer.key"), text("rsa.crt"), Date.now());
      const name = "web.emoji.serviceaccount.identity.mesh-system.cluster.local";
      const leaf = certify(
        { identity: name, csr: createCsr({ key: generateKey(), dnsName: name }) },
        { namespace: "emoji", serviceAccount: "web" },
        taken,
        { trustDomain: "cluster.local", meshNamespace: "mesh-system", lifetimeMs: DAY, skewMs: 20_000 },
        Date.now(),
      );
      writeFileSync(
        file("leaf.crt"),
        execFileSync("openssl", ["x509", "-inform", "DER"], { input: leaf.der, encoding: "utf8" }),
      );
      openssl("verify", "-CAfile", "rsa.crt", "-untrusted", "issuer.crt", "leaf.crt");
    }
    ca("p384", "ec", "-pkeyopt", "ec_paramgen_curve:P-384");
    assert.throws(
      () => readIssuer(text("p384.crt"), text("p384.key"), text("p384.crt"), Date.now()),
      /expected an issuer key of ECDSA P-256/,
    );
    assert.throws(
      () => readIssuer(text("rsa.crt"), text("rsa.key"), text("rsa.crt"), Date.now()),
      /expected an issuer key of ECDSA P-256/,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("each certificate leaves a line that says who got what, and no secret", () =>
  withIdentity(
    async ({ client, lines, registry }) => {
      const csr = createCsr({ key: generateKey(), dnsName: NAME });
      const answer = await client.call(Certify, request({ csr })).message(0);
      await client.call(Certify, request({ token: "stolen-token" })).end();
      const [granted, refused] = lines.map((line) => JSON.parse(line));
      const leaf = new X509Certificate(answer.leafCertificate);
      assert.is(granted.message, "a certificate was issued");
      assert.is(granted.identity, NAME);
      assert.is(granted.serial, leaf.serialNumber.toLowerCase());
      assert.is(granted.issuer, new X509Certificate(issuer.pem).serialNumber.toLowerCase());
      assert.is(granted.expires, new Date(leaf.validTo).toISOString());
      assert.is(granted.uid, "sa-uid");
      assert.is(granted.pod, "web-1");
      assert.is(refused.message, "a certificate was refused");
      assert.is(refused.code, STATUS.UNAUTHENTICATED);
      const all = lines.join("");
      for (const secret of ["good", "stolen-token", "BEGIN", csr.toString("base64")])
        assert.not.ok(all.includes(`"${secret}`) || all.includes(`${secret}"`), secret);
      const metrics = registry.expose();
      assert.ok(metrics.includes(`identity_cert_issued_total{issuer="${granted.issuer}"} 1`));
      assert.ok(metrics.includes(`identity_cert_refused_total{code="${STATUS.UNAUTHENTICATED}"} 1`));
    },
    issuer,
    {
      user: {
        username: "system:serviceaccount:emoji:web",
        uid: "sa-uid",
        extra: { "authentication.kubernetes.io/pod-name": ["web-1"] },
      },
    },
  ));

test("without an issuer it says so, and asks nothing of the proxy", () =>
  withIdentity(async ({ client }) => {
    const call = client.call(Certify, request());
    assert.is(await call.end(), STATUS.FAILED_PRECONDITION);
    assert.match(call.text, /no issuer that can be used/);
  }, null as never));

test("requests for one name beyond 200 a second are refused before the API server is asked, others are not", () =>
  withIdentity(async ({ client, clock, posted }) => {
    const csr = createCsr({ key: generateKey(), dnsName: NAME });
    const ask = (identity: string) => client.call(Certify, request({ identity, csr })).end();
    const first = await Promise.all(Array.from({ length: 220 }, () => ask(NAME)));
    assert.is(first.filter((status) => status === STATUS.OK).length, 200);
    assert.is(first.filter((status) => status === STATUS.RESOURCE_EXHAUSTED).length, 20);
    assert.is(posted("/tokenreviews").length, 200);
    assert.is(await ask(OTHER), STATUS.PERMISSION_DENIED, "another name is another's");
    clock.monotonic += 100;
    const next = await Promise.all(Array.from({ length: 30 }, () => ask(NAME)));
    assert.is(next.filter((status) => status === STATUS.OK).length, 20, "a tenth of a second later, a tenth");
    assert.is(await ask("x".repeat(254)), STATUS.INVALID_ARGUMENT);
  }));

test("all requests together are bounded too", () =>
  withIdentity(async ({ client, posted }) => {
    const all = Array.from({ length: 450 }, (_, index) =>
      client.call(Certify, request({ identity: `n${index}` })).end(),
    );
    await Promise.all(all);
    assert.is(posted("/tokenreviews").length, 400);
  }));

interface Source {
  readonly source: IssuerSource;
  readonly clock: { now: number };
  readonly told: string[];
  readonly registry: Registry;
}

function issuerSource(timers: Pick<Clock, "after" | "clear"> = systemClock): Source {
  const told: string[] = [];
  const registry = new Registry();
  const clock = { now };
  const source = new IssuerSource({
    events: { record: (_, type, reason, message) => void told.push(`${type} ${reason}: ${message}`) },
    owner: { apiVersion: "apps/v1", kind: "Deployment", name: "mesh-identity", namespace: "mesh-system" },
    registry,
    log: createLogger({ level: "off" }),
    clock: {
      ...systemClock,
      now: () => clock.now,
      after: (ms, fn) => timers.after(ms, fn),
      clear: (timer) => timers.clear(timer),
    },
  });
  return { source, clock, told, registry };
}

test("the issuer is taken, replaced, refused and kept as its files change, and events say which", () => {
  const { source, told, clock, registry } = issuerSource();
  const next = issuerFor(20 * DAY);
  const stranger = createRoot({ commonName: "stranger", lifetimeMs: 100 * DAY, now });
  const steps: [string, () => void, RegExp | undefined, string | undefined][] = [
    [
      "broken at first",
      () => source.take("", "", ""),
      /^Warning IssuerUpdateSkipped: .*none in use/,
      undefined,
    ],
    ["the first", () => source.take(issuer.pem, issuer.keyPem, root.pem), undefined, issuer.pem],
    ["renewed", () => source.take(next.pem, next.keyPem, root.pem), /^Normal IssuerUpdated/, next.pem],
    [
      "half written",
      () => source.take(next.pem.slice(0, 200), next.keyPem, root.pem),
      /^Warning IssuerUpdateSkipped: .*in use stays/,
      next.pem,
    ],
    [
      "with the key of another",
      () => source.take(next.pem, issuer.keyPem, root.pem),
      /^Warning IssuerValidationFailed: .*does not belong/,
      next.pem,
    ],
    [
      "of another root",
      () => source.take(next.pem, next.keyPem, stranger.pem),
      /^Warning IssuerValidationFailed: .*does not chain/,
      next.pem,
    ],
    [
      "anchors that grow",
      () => source.take(next.pem, next.keyPem, root.pem + stranger.pem),
      /^Normal IssuerUpdated/,
      next.pem,
    ],
    [
      "that has ended",
      () => {
        clock.now = now + 15 * DAY;
        source.take(issuer.pem, issuer.keyPem, root.pem);
      },
      /^Warning IssuerValidationFailed: .*expired/,
      next.pem,
    ],
  ];
  for (const [what, step, event, pem] of steps) {
    told.length = 0;
    step();
    assert.is(told.length, event ? 1 : 0, what);
    if (event) assert.match(told[0]!, event, what);
    assert.is(
      source.current?.certificate.fingerprint256,
      pem && new X509Certificate(pem).fingerprint256,
      what,
    );
    assert.not.match(told.join(), /PRIVATE/);
  }
  const metrics = registry.expose();
  const serial = (pem: string) => new X509Certificate(pem).serialNumber.toLowerCase();
  assert.match(metrics, /issuer_cert_ttl_seconds 4(31|32)\d{3}/);
  for (const anchor of [root.pem, stranger.pem])
    assert.match(metrics, new RegExp(`trust_anchor_cert_ttl_seconds\\{anchor="${serial(anchor)}"\\} [1-9]`));
  assert.match(metrics, /issuer_updates_total\{result="updated"\} 3/);
  assert.match(metrics, /issuer_updates_total\{result="invalid"\} 3/);
  assert.match(metrics, /issuer_updates_total\{result="skipped"\} 2/);
});

test("an issuer that begins later, by our clock, is taken when its time comes, unless another came", async () => {
  const timers = new ManualClock();
  const { source, told, clock } = issuerSource(timers);
  const later = createIssuer({ root: authority, commonName: "later", lifetimeMs: DAY, now: now + 30_000 });
  const pass = (ms: number) => {
    clock.now += ms;
    return timers.advance(ms);
  };
  source.take(issuer.pem, issuer.keyPem, root.pem);
  source.take(later.pem, later.keyPem, root.pem);
  await pass(5_000);
  assert.is(source.current!.certificate.toString(), issuer.pem);
  await pass(10_000);
  assert.is(source.current!.certificate.toString(), later.pem);
  assert.match(told.join(), /^Warning IssuerValidationFailed: .*not valid before.*,Normal IssuerUpdated/);
  const muchLater = createIssuer({ root: authority, commonName: "x", lifetimeMs: DAY, now: now + 60_000 });
  source.take(muchLater.pem, muchLater.keyPem, root.pem);
  source.take(issuer.pem, issuer.keyPem, root.pem);
  await pass(60_000);
  assert.is(source.current!.certificate.toString(), issuer.pem);
});

test("that the issuer has ended is told once in ten minutes", () => {
  const { source, told, clock } = issuerSource();
  source.ended();
  assert.equal(told, [], "there was none");
  source.take(issuer.pem, issuer.keyPem, root.pem);
  clock.now = now + 11 * DAY;
  for (let at = 0; at < 3; at += 1) source.ended();
  assert.is(told.length, 1);
  assert.match(told[0]!, /^Warning IssuerValidationFailed: The issuer expired at .* until the Secret holds/);
  clock.now += 600_001;
  source.ended();
  assert.is(told.length, 2);
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
    { interval: 5 },
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

test("files that are not there at first are waited for where that is wanted, and told once", async () => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-watched-"));
  const file = join(directory, "late");
  const taken: string[] = [];
  const errors: string[] = [];
  const watched = watchFiles(
    [file],
    ([text = ""]) => taken.push(text),
    (error) => errors.push((error as Error).message),
    { interval: 5, patient: true },
  );
  try {
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.is(errors.length, 1);
    writeFileSync(file, "here");
    await until(() => taken.length > 0);
    assert.equal(taken, ["here"]);
  } finally {
    watched.stop();
    rmSync(directory, { recursive: true });
  }
});

test.run();

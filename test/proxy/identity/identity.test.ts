// The proxy's identity against an identity service over mesh TLS: certification, renewal, rotation, refusal.
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createLogger } from "../../../src/log/logger.ts";
import { Registry } from "../../../src/metrics/registry.ts";
import { generateKey, spkiOf } from "../../../src/pki/index.ts";
import { connectControl } from "../../../src/proxy/control/connector.ts";
import { GrpcClient } from "../../../src/proxy/control/grpc-client.ts";
import { Identity } from "../../../src/proxy/identity/index.ts";
import { TrustAnchors } from "../../../src/proxy/identity/trust-anchors.ts";
import type { Credentials } from "../../../src/proxy/ports.ts";
import type { Clock } from "../../../src/util/clock.ts";
import { withWaits } from "../../support/clock.ts";
import { Authority, IdentityService } from "../../support/identity-service.ts";
import { until } from "../../support/until.ts";

const test = suite("proxy identity");
const NAME = "web.emoji.serviceaccount.identity.mesh-system.cluster.local";
const SERVICE = "mesh-identity.mesh-system.serviceaccount.identity.mesh-system.cluster.local";
const HOUR = 3_600_000;

/** Delays as they were asked for; long ones wait until the test lets them pass, short ones are cut. */
class TestClock implements Clock {
  readonly long: { ms: number; fn: () => void }[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  now = Date.now;
  monotonic = () => performance.now();
  random = () => 0;
  after(ms: number, fn: () => void) {
    const entry = { ms, fn };
    if (ms >= 10_000) this.long.push(entry);
    const timer = ms >= 10_000 ? undefined : setTimeout(fn, Math.min(ms, 2_000));
    if (timer) this.#timers.add(timer);
    return { id: { timer, entry } };
  }
  clear(timer: { readonly id: unknown } | undefined) {
    const { timer: one, entry } = (timer?.id ?? {}) as { timer?: NodeJS.Timeout; entry?: never };
    clearTimeout(one);
    const at = this.long.indexOf(entry as never);
    if (at >= 0) this.long.splice(at, 1);
  }
  /** Lets the long timers that satisfy `which` pass. */
  pass(which: (ms: number) => boolean): void {
    for (const entry of this.long.filter(({ ms }) => which(ms))) {
      this.long.splice(this.long.indexOf(entry), 1);
      entry.fn();
    }
  }
  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

interface Setup {
  readonly service: IdentityService;
  readonly authority: Authority;
  readonly identity: Identity;
  readonly anchors: TrustAnchors;
  readonly clock: TestClock;
  readonly registry: Registry;
  readonly dir: string;
  readonly swaps: Credentials[];
  readonly lines: string[];
}

async function withIdentity(
  run: (setup: Setup) => Promise<void>,
  options: { lifetime?: number; serviceName?: string; anchorsFile?: boolean; environment?: string } = {},
): Promise<void> {
  const authority = new Authority();
  const service = await IdentityService.start(authority, SERVICE, options.lifetime ?? HOUR);
  const dir = mkdtempSync(join(tmpdir(), "mesh-identity-"));
  writeFileSync(join(dir, "token"), "token-1");
  const file = join(dir, "ca-bundle.crt");
  if (options.anchorsFile) writeFileSync(file, authority.root.pem);
  const clock = new TestClock();
  const registry = new Registry();
  const lines: string[] = [];
  const log = createLogger({ level: "info", write: (line) => lines.push(line) });
  const swaps: Credentials[] = [];
  const anchors = await TrustAnchors.start({
    fallback: options.environment ?? authority.root.pem,
    file: options.anchorsFile === undefined ? undefined : file,
    clock: withWaits(() => 5),
    log,
    onChange: () => identity.rebuild(),
  });
  const client = new GrpcClient({
    authority: "identity",
    clock,
    log,
    registry,
    connect: () =>
      connectControl(
        { host: "127.0.0.1", port: service.port, name: options.serviceName ?? SERVICE },
        createSecureContext({ ca: anchors.pem, minVersion: "TLSv1.3" }),
        clock,
      ),
  });
  const identity = new Identity({
    localName: NAME,
    tokenFile: join(dir, "token"),
    client,
    anchors,
    clock,
    log,
    registry,
    minRefresh: 30_000,
    maxRefresh: 24 * HOUR,
  });
  identity.subscribe((credentials) => swaps.push(credentials));
  try {
    await run({ service, authority, identity, anchors, clock, registry, dir, swaps, lines });
  } finally {
    identity.stop();
    anchors.stop();
    client.close();
    clock.stop();
    await service.stop();
    rmSync(dir, { recursive: true });
  }
}

const isRenewal = (ms: number) => ms > 60_000 || ms === 30_000;

test("certifies with the token, without a certificate of its own, and says until when", () =>
  withIdentity(async ({ service, identity, registry, swaps, clock }) => {
    assert.is(identity.current, undefined);
    identity.start();
    await identity.ready;
    assert.is(service.asked.length, 1);
    assert.is(service.asked[0]!.token, "token-1");
    assert.is(service.asked[0]!.identity, NAME);
    assert.equal(service.clients, [undefined]);
    assert.is(swaps.length, 1);
    assert.is(identity.current, swaps[0]);
    const text = registry.expose();
    const expires = Math.floor(identity.current!.expiresAt / 1000);
    assert.match(text, new RegExp(`identity_cert_expiration_timestamp_seconds ${expires}\n`));
    assert.match(text, /identity_cert_refreshes_total 1\n/);
    assert.match(text, /identity_cert_refresh_timestamp_seconds \d{10}\n/);
    const renewal = clock.long.find(({ ms }) => isRenewal(ms))!;
    assert.ok(Math.abs(renewal.ms - 0.7 * HOUR) < 60_000, `renewed after ${renewal.ms} ms`);
  }));

test("renews with a new key and the token as it is by then, live", () =>
  withIdentity(async ({ service, identity, clock, dir, swaps }) => {
    identity.start();
    await identity.ready;
    writeFileSync(join(dir, "token"), "token-2");
    clock.pass(isRenewal);
    await until(() => swaps.length === 2);
    assert.is(service.asked[1]!.token, "token-2");
    assert.not(service.asked[0]!.spki.equals(service.asked[1]!.spki), "a new key");
    assert.is(identity.current, swaps[1]);
  }));

test("keeps no connection to the identity service between renewals", () =>
  withIdentity(async ({ identity, clock, registry, swaps }) => {
    const closed = () => /control_connected\{addr="identity"\} 0/.test(registry.expose());
    identity.start();
    await identity.ready;
    await until(closed);
    clock.pass(isRenewal);
    await until(() => swaps.length === 2);
    await until(closed);
  }));

test("a certificate of a second is not renewed more often than the bound says", () =>
  withIdentity(
    async ({ identity, clock }) => {
      identity.start();
      await identity.ready;
      assert.ok(clock.long.some(({ ms }) => ms === 30_000));
    },
    { lifetime: 1_000 },
  ));

test("while renewal fails the old certificate stays, and it is tried again", () =>
  withIdentity(async ({ service, identity, clock, swaps, lines }) => {
    identity.start();
    await identity.ready;
    const good = service.answer;
    service.answer = () => {
      throw new Error("the database is down");
    };
    clock.pass(isRenewal);
    await until(() => service.asked.length >= 3);
    assert.is(identity.current, swaps[0]);
    assert.ok(lines.some((line) => line.includes("no new certificate")));
    service.answer = good;
    await until(() => swaps.length === 2);
  }));

const other = new Authority("other.test");
const refusals: [string, (setup: Setup) => void, RegExp][] = [
  [
    "for another key",
    ({ service, authority }) => {
      service.answer = () => ({
        leafCertificate: authority.leaf(spkiOf(generateKey().publicKey), NAME).der,
        intermediateCertificates: [authority.issuerDer],
      });
    },
    /for another key/,
  ],
  [
    "for another name",
    ({ service, authority }) => {
      service.answer = () => ({
        leafCertificate: authority.leaf(service.asked.at(-1)!.spki, "db.emoji.test").der,
        intermediateCertificates: [authority.issuerDer],
      });
    },
    /for DNS:db.emoji.test/,
  ],
  [
    "of a root that is not trusted",
    ({ service }) => {
      service.answer = () => ({
        leafCertificate: other.leaf(service.asked.at(-1)!.spki, NAME).der,
        intermediateCertificates: [other.issuerDer],
      });
    },
    /not trusted/,
  ],
  [
    "that is none",
    ({ service }) => {
      service.answer = () => ({ leafCertificate: Buffer.from("nonsense") });
    },
    /no new certificate/,
  ],
];
for (const [name, misbehave, reason] of refusals) {
  test(`a certificate ${name} is refused`, () =>
    withIdentity(async (setup) => {
      misbehave(setup);
      setup.identity.start();
      await until(() => setup.lines.some((line) => reason.test(line)));
      assert.is(setup.identity.current, undefined);
    }));
}

test("the token goes to nobody but the identity service", () =>
  withIdentity(
    async ({ service, identity, lines }) => {
      identity.start();
      await until(() => lines.some((line) => /expected the identity nobody/.test(line)));
      assert.is(service.asked.length, 0);
    },
    { serviceName: "nobody.mesh-system.test" },
  ));

test("without a token file it says so and tries again", () =>
  withIdentity(async ({ service, identity, dir, lines }) => {
    unlinkSync(join(dir, "token"));
    identity.start();
    await until(() => lines.some((line) => /ENOENT.*token/.test(line)));
    writeFileSync(join(dir, "token"), "late");
    await identity.ready;
    assert.is(service.asked[0]!.token, "late");
  }));

test("the file's trust anchors win over the environment's, are followed, and rebuild the contexts", () =>
  withIdentity(
    async ({ identity, anchors, authority, dir, swaps, lines }) => {
      assert.is(anchors.pem, authority.root.pem);
      assert.is(swaps.length, 0);
      identity.start();
      await identity.ready;
      const both = `${authority.root.pem}${other.root.pem}`;
      writeFileSync(join(dir, "ca-bundle.crt"), both);
      await until(() => swaps.length === 2);
      assert.is(anchors.pem, both);
      writeFileSync(join(dir, "ca-bundle.crt"), "garbage");
      await until(() => lines.some((line) => /file is refused/.test(line)));
      assert.is(anchors.pem, both, "what cannot be read changes nothing");
      unlinkSync(join(dir, "ca-bundle.crt"));
      assert.is(anchors.pem, both);
    },
    { anchorsFile: true, environment: other.root.pem },
  ));

test("when the file is not there the environment's anchors hold", () =>
  withIdentity(
    async ({ identity, anchors, authority }) => {
      identity.start();
      await identity.ready;
      assert.is(anchors.pem, authority.root.pem);
      assert.ok(new X509Certificate(anchors.pem).ca);
    },
    { anchorsFile: false },
  ));

test.run();

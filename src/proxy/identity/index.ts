// The proxy's identity: a key made here, a certificate from the identity controller, both new at each renewal.
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { MessageOf } from "../../api/codec.ts";
import { Certify, type CertifyResponse } from "../../api/identity.ts";
import { timestampMs } from "../../api/time.ts";
import type { Logger } from "../../log/logger.ts";
import type { CounterSeries, GaugeSeries, Registry } from "../../metrics/registry.ts";
import { verifyChain } from "../../pki/chain.ts";
import { createCsr } from "../../pki/csr.ts";
import { generateKey, type KeyPair, privateKeyPem, spkiOf } from "../../pki/key.ts";
import { parseCertificates, pemOf } from "../../pki/pem.ts";
import { Backoff } from "../../util/backoff.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { GrpcClient } from "../control/grpc-client.ts";
import type { Credentials, IdentitySource } from "../ports.ts";
import { createCredentials } from "../transport/credentials.ts";
import type { TrustAnchors } from "./trust-anchors.ts";

export interface IdentityOptions {
  readonly localName: string;
  readonly tokenFile: string;
  /** Default: from the file system. */
  readonly readFile?: (file: string) => Promise<Buffer>;
  readonly client: GrpcClient;
  readonly anchors: TrustAnchors;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  /** Bounds of the wait between renewals, ms. */
  readonly minRefresh: number;
  readonly maxRefresh: number;
}

/** Share of the remaining life after which a certificate is renewed (Linkerd's). */
const REFRESH_AT = 0.7;
const CALL_TIMEOUT = 5_000;
/** Failed requests are made again between these, ms. */
const BACKOFF = { min: 200, max: 10_000, jitter: 0.5 };
/** A token larger than this is none, bytes. */
const MAX_TOKEN = 16 * 1024;

interface Leaf {
  readonly key: KeyPair;
  /** PEM, leaf first. */
  readonly chain: string;
  readonly expiresAt: number;
}

export class Identity implements IdentitySource {
  readonly localName: string;
  readonly ready: Promise<void>;
  readonly #options: IdentityOptions;
  readonly #backoff: Backoff;
  readonly #listeners = new Set<(credentials: Credentials) => void>();
  readonly #refreshes: CounterSeries;
  readonly #refreshed: GaugeSeries;
  #resolveReady: () => void = () => {};
  #leaf: Leaf | undefined;
  #credentials: Credentials | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: IdentityOptions) {
    this.#options = options;
    this.localName = options.localName;
    this.#backoff = new Backoff(BACKOFF, options.clock.random);
    this.ready = new Promise((resolve) => {
      this.#resolveReady = resolve;
    });
    const { registry } = options;
    const expiration = registry
      .gauge(
        "identity_cert_expiration_timestamp_seconds",
        "When the proxy's certificate expires, in seconds since the epoch.",
      )
      .labels();
    registry.onCollect(() => expiration.set(this.#leaf ? Math.floor(this.#leaf.expiresAt / 1000) : 0));
    this.#refreshes = registry
      .counter("identity_cert_refreshes_total", "Certificates that the proxy obtained.")
      .labels();
    this.#refreshed = registry
      .gauge(
        "identity_cert_refresh_timestamp_seconds",
        "When the proxy last obtained a certificate, in seconds since the epoch.",
      )
      .labels();
  }

  get current(): Credentials | undefined {
    return this.#credentials;
  }

  subscribe(fn: (credentials: Credentials) => void): () => void {
    this.#listeners.add(fn);
    return () => this.#listeners.delete(fn);
  }

  start(): void {
    void this.#refresh();
  }

  stop(): void {
    this.#stopped = true;
    this.#options.clock.clear(this.#timer);
  }

  /** New contexts from the certificate at hand: after the trust anchors have changed. */
  rebuild(): void {
    if (!this.#leaf) return;
    const { key, chain, expiresAt } = this.#leaf;
    this.#credentials = createCredentials({
      key: privateKeyPem(key.privateKey),
      chain,
      anchors: this.#options.anchors.pem,
      expiresAt,
    });
    for (const listener of [...this.#listeners]) listener(this.#credentials);
  }

  async #refresh(): Promise<void> {
    const { clock, log, localName, minRefresh, maxRefresh } = this.#options;
    if (this.#stopped) return;
    let delay: number;
    try {
      this.#leaf = await this.#certify();
      this.rebuild();
      this.#backoff.reset();
      this.#refreshes.inc();
      this.#refreshed.set(Math.floor(clock.now() / 1000));
      const life = this.#leaf.expiresAt - clock.now();
      delay = Math.min(Math.max(life * REFRESH_AT, minRefresh), maxRefresh);
      log.info("certified", { identity: localName, expires: new Date(this.#leaf.expiresAt).toISOString() });
      this.#resolveReady();
    } catch (error) {
      delay = this.#backoff.next();
      const left = this.#leaf ? `${Math.round((this.#leaf.expiresAt - clock.now()) / 1000)}s` : "none";
      log.warn("no new certificate, trying again", {
        error: errorMessage(error),
        left,
        delay_ms: Math.round(delay),
      });
    }
    if (!this.#stopped) this.#timer = clock.after(delay, () => void this.#refresh());
  }

  async #certify(): Promise<Leaf> {
    const { client, localName, tokenFile, readFile: read = readFile } = this.#options;
    const token = await read(tokenFile);
    if (token.length > MAX_TOKEN) throw new Error(`the token in ${tokenFile} has ${token.length} bytes`);
    const key = generateKey();
    const answer = await client
      .unary(
        Certify,
        { identity: localName, token, certificateSigningRequest: createCsr({ key, dnsName: localName }) },
        CALL_TIMEOUT,
      )
      // It is asked once a day: no connection is kept, and none that did not answer is asked again.
      .finally(() => client.disconnect());
    return this.#verified(key, answer);
  }

  /** What comes back must be for our key and name, and be trusted by those whom we trust. */
  #verified(key: KeyPair, answer: MessageOf<typeof CertifyResponse>): Leaf {
    const { anchors, clock, localName } = this.#options;
    const leaf = new X509Certificate(answer.leafCertificate);
    const intermediates = answer.intermediateCertificates.map((der) => new X509Certificate(der));
    if (!spkiOf(leaf.publicKey).equals(spkiOf(key.publicKey)))
      throw new Error("the certificate is for another key");
    if (leaf.subjectAltName !== `DNS:${localName}`)
      throw new Error(`the certificate is for ${leaf.subjectAltName}`);
    const chain = verifyChain(leaf, intermediates, parseCertificates(anchors.pem), clock.now());
    if (!chain.ok) throw new Error(`the certificate is not trusted: ${chain.reason}`);
    const notAfter = Date.parse(leaf.validTo);
    const announced = answer.validUntil ? timestampMs(answer.validUntil) : notAfter;
    return {
      key,
      chain: [leaf, ...intermediates].map((certificate) => pemOf(certificate.raw, "CERTIFICATE")).join(""),
      expiresAt: Math.min(notAfter, announced),
    };
  }
}

// The issuer in use, as its files change under us: a new one is taken when it can sign for the anchors of now; else the old
// one stays, and an event says why.
import type { X509Certificate } from "node:crypto";
import type { Logger } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import { notAfterOf, parseCertificates } from "../../pki/index.ts";
import type { Clock, Timer } from "../../util/clock.ts";
import { errorMessage } from "../../util/error.ts";
import type { EventRecorder, InvolvedObject } from "../event-recorder.ts";
import { type Issuer, IssuerError, readIssuer } from "./certifier.ts";

export interface IssuerSourceOptions {
  readonly events: Pick<EventRecorder, "record">;
  /** What events are told of: the Deployment. */
  readonly owner: InvolvedObject;
  readonly registry: Registry;
  readonly log: Logger;
  readonly clock: Clock;
}

/** An event about an issuer that has ended is written so often, ms. */
const ENDED_INTERVAL = 600_000;
/** One that is not valid yet is looked at again after this at the latest, ms. */
const LONGEST_WAIT = 3_600_000;

/** How metrics and log name a certificate: its serial number, as OpenSSL prints it. */
export const serialOf = (certificate: X509Certificate): string => certificate.serialNumber.toLowerCase();

export class IssuerSource {
  readonly #options: IssuerSourceOptions;
  readonly #updates: (result: string) => void;
  #current: Issuer | undefined;
  #anchors: readonly X509Certificate[] = [];
  #endedAgain = 0;
  /** Until one that came is valid. */
  #early: Timer | undefined;

  constructor(options: IssuerSourceOptions) {
    this.#options = options;
    const { registry, clock } = options;
    const updates = registry.counter("issuer_updates_total", "Issuers and trust anchors that were read.");
    this.#updates = (result) => updates.labels({ result }).inc();
    const ttl = registry
      .gauge("issuer_cert_ttl_seconds", "How long the issuer certificate is still valid.")
      .labels();
    const anchorTtl = registry.gauge(
      "trust_anchor_cert_ttl_seconds",
      "How long each trust anchor is still valid.",
    );
    registry.onCollect(() => {
      const left = (certificate: X509Certificate) => (notAfterOf(certificate) - clock.now()) / 1_000;
      ttl.set(this.#current ? left(this.#current.certificate) : 0);
      for (const anchor of this.#anchors) anchorTtl.labels({ anchor: serialOf(anchor) }).set(left(anchor));
    });
  }

  /** undefined until there was one that could be used. */
  get current(): Issuer | undefined {
    return this.#current;
  }

  /** PEM texts as they are now. Never throws. */
  take(certificate: string, key: string, anchors: string): void {
    const { clock, log } = this.#options;
    const before = this.#current;
    clock.clear(this.#early);
    try {
      const issuer = readIssuer(certificate, key, anchors, clock.now());
      for (const gone of this.#anchors) this.#forget(gone);
      this.#anchors = parseCertificates(anchors);
      this.#current = issuer;
    } catch (error) {
      this.refuse(error);
      // Whoever made it may have a clock that is ahead of ours: its files do not change again when its time comes.
      const from = error instanceof IssuerError ? error.validFrom : undefined;
      if (from !== undefined)
        this.#early = clock.after(Math.min(from - clock.now(), LONGEST_WAIT), () =>
          this.take(certificate, key, anchors),
        );
      return;
    }
    const { certificate: now } = this.#current;
    log.info("the issuer is in use", {
      serial: serialOf(now),
      expires: now.validTo,
      anchors: this.#anchors.map(serialOf).join(","),
    });
    this.#updates("updated");
    if (before) this.#tell("Normal", "IssuerUpdated", `Updated identity issuer, valid until ${now.validTo}`);
  }

  /** What came cannot be used: told, and the old one stays. */
  refuse(error: unknown): void {
    const stays = this.#current ? "; the issuer in use stays" : "; there is none in use";
    const message = errorMessage(error) + stays;
    const invalid = error instanceof IssuerError && error.readable;
    this.#options.log.error("the issuer is refused", { error: message });
    this.#updates(invalid ? "invalid" : "skipped");
    if (invalid) this.#tell("Warning", "IssuerValidationFailed", `Invalid issuer: ${message}`);
    else this.#tell("Warning", "IssuerUpdateSkipped", `Skipping issuer update: ${message}`);
  }

  /** A request could not be granted since the issuer in use has ended; told now and then. */
  ended(): void {
    const now = this.#options.clock.now();
    if (now < this.#endedAgain || !this.#current) return;
    this.#endedAgain = now + ENDED_INTERVAL;
    const { validTo } = this.#current.certificate;
    this.#options.log.error("no certificate can be issued: the issuer has ended", { expired: validTo });
    this.#tell(
      "Warning",
      "IssuerValidationFailed",
      `The issuer expired at ${validTo}: no certificate can be issued until the Secret holds a new one`,
    );
  }

  /** Its series goes once it is idle. */
  #forget(anchor: X509Certificate): void {
    this.#options.registry
      .gauge("trust_anchor_cert_ttl_seconds", "")
      .labels({ anchor: serialOf(anchor) })
      .set(0);
  }

  #tell(type: "Normal" | "Warning", reason: string, message: string): void {
    this.#options.events.record(this.#options.owner, type, reason, message);
  }
}

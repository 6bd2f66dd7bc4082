// The rules about names: no proxy is told that an address has an identity which, as the replica that tells it knew, it has
// no more; and no certificate is for another name, or longer, than it may be.
import { X509Certificate } from "node:crypto";
import { addressText } from "../../src/api/address.ts";
import type { MessageOf } from "../../src/api/codec.ts";
import {
  type DestinationProfile,
  Get,
  GetProfile,
  type Update,
  type WeightedAddr,
} from "../../src/api/destination.ts";
import { Certify, type CertifyResponse } from "../../src/api/identity.ts";
import type { Pod } from "../../src/kube/types.ts";
import { notAfterOf } from "../../src/pki/index.ts";
import type { Change } from "./api-server.ts";
import { COLLECTION, identityOf, isLive } from "./cluster.ts";
import { MAKING } from "./network.ts";
import { LIFETIME, SKEW } from "./replica.ts";
import { EPOCH } from "./time.ts";
import type { Answer, World } from "./world.ts";

/** An issuer that was replaced may sign for so long, ms: its files are looked at every few seconds, and answers take time. */
const REPLACED = 30_000;
/** Clocks are wrong by less, ms. */
const WRONG = 10_000;

/** A call for one takes at most so long, ms. */
const CALLING = 10_000;

/** A pod that had an address, and the version at which it had it no more. */
interface Tenure {
  readonly uid: string;
  readonly identity: string;
  until: number;
}

export class Identities {
  readonly #world: World;
  readonly #tenures = new Map<string, Tenure[]>();

  constructor(world: World) {
    this.#world = world;
    for (const change of world.api.changesOf(COLLECTION.pods)) this.follow(change);
  }

  follow({ collection, type, object, version }: Change): void {
    if (collection !== COLLECTION.pods) return;
    const { metadata, spec, status } = object as Pod;
    const tenures = this.#tenures.get(status!.podIP!) ?? [];
    this.#tenures.set(status!.podIP!, tenures);
    const { uid } = metadata;
    const known = tenures.find((each) => each.uid === uid);
    const has = type !== "DELETED" && isLive(object as Pod);
    if (known && !has) known.until = Math.min(known.until, version);
    if (!known && has)
      tenures.push({
        uid: uid!,
        identity: identityOf(metadata.namespace!, spec.serviceAccountName!),
        until: Number.POSITIVE_INFINITY,
      });
  }

  hear(answer: Answer): void {
    const { method, message } = answer;
    if (method === Certify.path) this.#certificate(answer, message as MessageOf<typeof CertifyResponse>);
    else if (method === Get.path)
      for (const endpoint of (message as MessageOf<typeof Update>).add?.addrs ?? [])
        this.#endpoint(answer, endpoint);
    else if (method === GetProfile.path)
      this.#endpoint(answer, (message as MessageOf<typeof DestinationProfile>).endpoint);
  }

  #endpoint({ proxy, heard }: Answer, endpoint: MessageOf<typeof WeightedAddr> | undefined): void {
    const identity = endpoint?.tlsIdentity?.dnsLikeIdentity?.name;
    const address = endpoint && addressText(endpoint.addr);
    if (identity === undefined || !address || !heard) return;
    const since = this.#world.api.knownBy(heard.replica, COLLECTION.pods, heard.madeAt - MAKING);
    const tenures = this.#tenures.get(address.ip) ?? [];
    if (tenures.some((each) => each.identity === identity && (each.until > since || each.until === Infinity)))
      return;
    this.#world.break(
      "identities",
      `${heard.replica} tells ${proxy.name} that ${address.ip} is ${identity}, which it is not since before version ${since}`,
    );
  }

  #certificate({ proxy, heard }: Answer, answer: MessageOf<typeof CertifyResponse>): void {
    const { authority, scheduler } = this.#world;
    const leaf = new X509Certificate(answer.leafCertificate);
    const refuse = (what: string) =>
      this.#world.break("certificates", `${heard?.replica} gave ${proxy.name} a certificate ${what}`);
    if (leaf.subjectAltName !== `DNS:${proxy.localName}`) refuse(`for ${leaf.subjectAltName}`);
    const issuer = authority.history.find(
      ({ certificate, until }) => until >= scheduler.now - REPLACED && leaf.verify(certificate.publicKey),
    );
    if (!issuer) refuse("by an issuer that is not in use");
    else if (notAfterOf(leaf) > notAfterOf(issuer.certificate)) refuse("that outlives its issuer");
    const left = notAfterOf(leaf) - EPOCH - scheduler.now;
    if (left > LIFETIME + SKEW + WRONG) refuse(`for ${left} ms`);
    if (left <= -WRONG - CALLING) refuse("that has expired");
  }
}

// ServiceAccount tokens: ES256 JWTs signed by a key in the state directory, bound to an audience and optionally to a
// pod, and judged against the objects they name: a token dies with its account and its pod.

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
  sign,
  verify,
} from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../../util/clock.ts";
import type { Json, TokenOptions } from "../../cluster.ts";
import type { Store } from "../../store/store.ts";
import { timestamp } from "../resource.ts";
import { badRequest, notFound } from "../status.ts";
import type { User } from "./user.ts";

export const ISSUER = "https://kubernetes.default.svc.cluster.local";
export const DEFAULT_AUDIENCES: readonly string[] = [ISSUER];
const DEFAULT_LIFETIME = 3600;
const MIN_LIFETIME = 600;
const MAX_LIFETIME = 2 ** 32;
/** JWTs longer than this are not looked at. */
const MAX_TOKEN = 16 * 1024;

export interface Verified {
  user: User;
  /** Audiences that both the token and the asker named. */
  audiences: string[];
}

export class TokenAuthority {
  readonly #key: KeyObject;
  readonly #public: KeyObject;
  readonly #keyId: string;
  readonly #store: Store;
  readonly #clock: Clock;

  constructor(store: Store, clock: Clock, key: KeyObject) {
    this.#store = store;
    this.#clock = clock;
    this.#key = key;
    this.#public = createPublicKey(key);
    this.#keyId = createHash("sha256")
      .update(this.#public.export({ type: "spki", format: "der" }))
      .digest("base64url");
  }

  /** Signs a token. Throws 404 for an unknown account or pod, 400 for bad options. */
  issue(
    namespace: string,
    name: string,
    options: TokenOptions = {},
  ): { token: string; expirationTimestamp: string } {
    const account = this.#store.get("/serviceaccounts", `${namespace}/${name}`);
    if (!account) throw notFound("", "serviceaccounts", name);
    const lifetime = options.expirationSeconds ?? DEFAULT_LIFETIME;
    if (!(lifetime >= MIN_LIFETIME && lifetime <= MAX_LIFETIME)) {
      throw badRequest(
        `spec.expirationSeconds: Invalid value: ${lifetime}: may not specify a duration less than 10 minutes`,
      );
    }
    const audiences = options.audiences?.length ? options.audiences : [...DEFAULT_AUDIENCES];
    const kubernetes: Json = { namespace, serviceaccount: { name, uid: account.metadata.uid } };
    if (options.pod) {
      const pod = this.#store.get("/pods", `${namespace}/${options.pod.name}`);
      if (!pod || (options.pod.uid && pod.metadata.uid !== options.pod.uid)) {
        throw notFound("", "pods", options.pod.name);
      }
      kubernetes.pod = { name: options.pod.name, uid: pod.metadata.uid };
    }
    const now = Math.floor(this.#clock.now() / 1000);
    const claims = {
      aud: audiences,
      exp: now + lifetime,
      iat: now,
      iss: ISSUER,
      jti: randomUUID(),
      "kubernetes.io": kubernetes,
      nbf: now,
      sub: `system:serviceaccount:${namespace}:${name}`,
    };
    const body = `${encode({ alg: "ES256", kid: this.#keyId })}.${encode(claims)}`;
    const signature = sign("sha256", Buffer.from(body), { key: this.#key, dsaEncoding: "ieee-p1363" });
    return {
      token: `${body}.${signature.toString("base64url")}`,
      expirationTimestamp: timestamp((now + lifetime) * 1000),
    };
  }

  /** Whose token it is, or why it is not good. */
  verify(token: string, audiences: readonly string[] = DEFAULT_AUDIENCES): Verified | { error: string } {
    const [head, body, signature, extra] = token.length > MAX_TOKEN ? [] : token.split(".");
    if (!head || !body || !signature || extra !== undefined) return { error: "invalid bearer token" };
    const header = decode(head);
    const claims = decode(body);
    if (header?.alg !== "ES256" || claims?.iss !== ISSUER) return { error: "invalid bearer token" };
    const good = verify(
      "sha256",
      Buffer.from(`${head}.${body}`),
      { key: this.#public, dsaEncoding: "ieee-p1363" },
      Buffer.from(signature, "base64url"),
    );
    if (!good) return { error: "invalid bearer token" };
    const now = this.#clock.now() / 1000;
    if (claims.exp <= now) return { error: "invalid bearer token, service account token has expired" };
    if (claims.nbf > now + 10) return { error: "invalid bearer token, token not valid yet" };
    const shared = audiences.filter((audience) => claims.aud.includes(audience));
    if (shared.length === 0) {
      return {
        error: `invalid bearer token, token audiences ${JSON.stringify(claims.aud)} is invalid for the target audiences ${JSON.stringify(audiences)}`,
      };
    }
    const { namespace, serviceaccount, pod } = claims["kubernetes.io"];
    const account = this.#store.get("/serviceaccounts", `${namespace}/${serviceaccount.name}`);
    if (!account || account.metadata.uid !== serviceaccount.uid) {
      return { error: "invalid bearer token, service account has been deleted" };
    }
    if (pod && this.#store.get("/pods", `${namespace}/${pod.name}`)?.metadata.uid !== pod.uid) {
      return { error: "invalid bearer token, bound pod has been deleted" };
    }
    const extras: Record<string, string[]> = {
      "authentication.kubernetes.io/credential-id": [`JTI=${claims.jti}`],
    };
    if (pod) {
      extras["authentication.kubernetes.io/pod-name"] = [pod.name];
      extras["authentication.kubernetes.io/pod-uid"] = [pod.uid];
    }
    return {
      audiences: shared,
      user: {
        name: claims.sub,
        uid: serviceaccount.uid,
        groups: ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"],
        extra: extras,
      },
    };
  }

  /** The JWKS document of the issuer. */
  jwks(): Json {
    return {
      keys: [{ ...this.#public.export({ format: "jwk" }), use: "sig", alg: "ES256", kid: this.#keyId }],
    };
  }
}

/** The signing key of `dir`, made on first use; without `dir` a fresh one. */
export function signingKey(dir: string | undefined): KeyObject {
  const path = dir && join(dir, "service-account.key");
  if (path && existsSync(path)) return createPrivateKey(readFileSync(path));
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  if (path) {
    writeFileSync(`${path}.new`, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
  return privateKey;
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

function decode(part: string): Json {
  try {
    return JSON.parse(Buffer.from(part, "base64url").toString());
  } catch {
    return undefined;
  }
}

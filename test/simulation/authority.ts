// Roots and issuers of the simulated mesh, made once for all simulations, since their keys decide nothing.
import { X509Certificate } from "node:crypto";
import { createIssuer, createRoot, privateKeyPem } from "../../src/pki/index.ts";
import { EPOCH } from "./time.ts";

const MINUTE = 60_000;

interface Made {
  readonly pem: string;
  readonly key: string;
  readonly expires: number;
}

const root = (name: string) =>
  createRoot({ commonName: name, lifetimeMs: 30 * 24 * 60 * MINUTE, now: EPOCH - 60 * MINUTE });
const roots = [root("root-1"), root("root-2")];
const known = new Map<string, Made>();

/** An issuer that begins at a minute of the simulation and lives for so many. */
function issuer(rootAt: number, minute: number, minutes: number): Made {
  const name = `${rootAt} ${minute} ${minutes}`;
  let made = known.get(name);
  if (!made) {
    const by = roots[rootAt]!;
    const issued = createIssuer({
      commonName: `identity.${name.replaceAll(" ", "-")}`,
      root: { certificate: new X509Certificate(by.der), privateKey: by.key.privateKey },
      lifetimeMs: minutes * MINUTE,
      now: EPOCH + minute * MINUTE,
    });
    const expires = Date.parse(new X509Certificate(issued.der).validTo);
    made = { pem: issued.pem, key: privateKeyPem(issued.key.privateKey), expires };
    known.set(name, made);
  }
  return made;
}

/** The issuer's Secret and the trust bundle, as mounted everywhere. */
export class MeshAuthority {
  #issuer = issuer(0, 0, 6);
  #anchors = roots[0]!.pem;
  #bundledAt = 0;
  /** When the issuers that were in use end, ms since the epoch, and until when they were in use (simulated ms). */
  readonly history: { readonly expires: number; until: number }[] = [
    { expires: this.#issuer.expires, until: Number.POSITIVE_INFINITY },
  ];

  file(name: string): string {
    if (name === "anchors") return this.#anchors;
    return name.endsWith("crt.pem") ? this.#issuer.pem : this.#issuer.key;
  }

  /** Whether there is an issuer that may sign at this time, ms of the simulation. */
  usable(now: number): boolean {
    return this.#issuer.expires > EPOCH + now;
  }

  /** How long the issuer is still valid, ms. */
  left(now: number): number {
    return this.#issuer.expires - EPOCH - now;
  }

  /** Another issuer; by another root once proxies had a minute to learn of that. */
  rotate(now: number): void {
    if (this.#bundledAt === 0) {
      this.#bundledAt = Math.max(now, 1);
      this.#anchors = roots.map(({ pem }) => pem).join("");
    }
    const next = now - this.#bundledAt > MINUTE ? 1 : 0;
    this.history.at(-1)!.until = now;
    this.#issuer = issuer(next, Math.floor(now / MINUTE), 6);
    this.history.push({ expires: this.#issuer.expires, until: Number.POSITIVE_INFINITY });
  }
}

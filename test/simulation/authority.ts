// Roots and issuers of the simulated mesh, made once for all simulations, since their keys decide nothing.
import { X509Certificate } from "node:crypto";
import { CLOCK_SKEW_MS, createIssuer, createRoot, notAfterOf, privateKeyPem } from "../../src/pki/index.ts";
import { EPOCH } from "./time.ts";

const MINUTE = 60_000;
/** Of an issuer, ms. */
const LIFETIME = 6 * MINUTE;
/** Issuers begin at multiples of this, ms: few, and yet not always in time for a clock that is behind. */
const STEP = 10_000;

interface Made {
  readonly pem: string;
  readonly key: string;
  readonly certificate: X509Certificate;
}

/** An issuer, and until when it was in use, simulated ms. */
interface Used {
  readonly certificate: X509Certificate;
  until: number;
}

const root = (name: string) =>
  createRoot({ commonName: name, lifetimeMs: 30 * 24 * 60 * MINUTE, now: EPOCH - 60 * MINUTE });
const roots = [root("root-1"), root("root-2")];
const known = new Map<string, Made>();

/** An issuer that begins at a time of the simulation, in steps, and lives for some minutes. */
function issuer(rootAt: number, step: number): Made {
  const name = `${rootAt} ${step}`;
  let made = known.get(name);
  if (!made) {
    const by = roots[rootAt]!;
    const issued = createIssuer({
      commonName: `identity.${name.replaceAll(" ", "-")}`,
      root: { certificate: new X509Certificate(by.der), privateKey: by.key.privateKey },
      lifetimeMs: LIFETIME,
      // Others than we make issuers too, and do not date them back for clocks that are behind.
      now: EPOCH + step * STEP + CLOCK_SKEW_MS,
    });
    const certificate = new X509Certificate(issued.der);
    made = { pem: issued.pem, key: privateKeyPem(issued.key.privateKey), certificate };
    known.set(name, made);
  }
  return made;
}

/** The issuer's Secret and the trust bundle, as mounted everywhere. */
export class MeshAuthority {
  #issuer = issuer(0, 0);
  #anchors = roots[0]!.pem;
  #bundledAt = 0;
  /** All that were in use, the one that is last. */
  readonly history: Used[] = [{ certificate: this.#issuer.certificate, until: Number.POSITIVE_INFINITY }];

  file(name: string): string {
    if (name === "anchors") return this.#anchors;
    return name.endsWith("crt.pem") ? this.#issuer.pem : this.#issuer.key;
  }

  /** Whether there is an issuer that may sign at this time, ms of the simulation. */
  usable(now: number): boolean {
    return notAfterOf(this.#issuer.certificate) > EPOCH + now;
  }

  /** How long the issuer is still valid, ms. */
  left(now: number): number {
    return notAfterOf(this.#issuer.certificate) - EPOCH - now;
  }

  /** Another issuer; by another root once proxies had a minute to learn of that. */
  rotate(now: number): void {
    if (this.#bundledAt === 0) {
      this.#bundledAt = Math.max(now, 1);
      this.#anchors = roots.map(({ pem }) => pem).join("");
    }
    const next = now - this.#bundledAt > MINUTE ? 1 : 0;
    this.history.at(-1)!.until = now;
    this.#issuer = issuer(next, Math.floor(now / STEP));
    this.history.push({ certificate: this.#issuer.certificate, until: Number.POSITIVE_INFINITY });
  }
}

// Requests of every shape before the certifier: it grants exactly the good ones, and what it grants is never more than a leaf
// for the one name.
import { createPublicKey, generateKeyPairSync, sign, X509Certificate } from "node:crypto";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { GrpcError, STATUS } from "../../src/api/grpc-status.ts";
import { certify, readIssuer } from "../../src/controller/identity/certifier.ts";
import {
  type Asn1,
  bits,
  boolean,
  context,
  fromDer,
  integer,
  octets,
  oid,
  sequence,
  set,
  toDer,
  utf8,
} from "../../src/pki/der.ts";
import { createIssuer, createRoot } from "../../src/pki/index.ts";
import { OID } from "../../src/pki/oids.ts";

const test = suite("identity requests");
const DAY = 86_400_000;
const now = Date.now();
const NAME = "web.emoji.serviceaccount.identity.mesh-system.cluster.local";
const root = createRoot({ commonName: "root", lifetimeMs: 30 * DAY, now });
const made = createIssuer({
  root: { certificate: new X509Certificate(root.der), privateKey: root.key.privateKey },
  commonName: "issuer",
  lifetimeMs: 10 * DAY,
  now,
});
const issuer = readIssuer(made.pem, made.keyPem, root.pem, now);
const policy = {
  trustDomain: "cluster.local",
  meshNamespace: "mesh-system",
  lifetimeMs: DAY,
  skewMs: 20_000,
};

const KEYS = {
  p256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  other: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  p384: generateKeyPairSync("ec", { namedCurve: "P-384" }),
  rsa: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ed25519: generateKeyPairSync("ed25519"),
} as const;

/** Everything that a request can say, right or wrong. */
interface Shape {
  readonly key: "p256" | "p384" | "rsa" | "ed25519";
  readonly signedBy: "own" | "other";
  readonly algorithm: string;
  readonly version: number;
  readonly commonNames: readonly string[];
  /** General names by their context tag; one extension each list. */
  readonly names: readonly (readonly (readonly [tag: number, name: string])[])[];
  readonly authority: boolean | undefined;
  /** Bytes cut off at the end, or added. */
  readonly cut: number;
  readonly added: number;
}

const GOOD: Shape = {
  key: "p256",
  signedBy: "own",
  algorithm: OID.ecdsaWithSha256,
  version: 0,
  commonNames: [],
  names: [[[2, NAME]]],
  authority: undefined,
  cut: 0,
  added: 0,
};

function build(shape: Shape): Buffer {
  const extension = (type: string, value: Asn1) => sequence(oid(type), octets(toDer(value)));
  const extensions = shape.names.map((names) =>
    extension(
      OID.subjectAltName,
      sequence(...names.map(([tag, name]) => context(tag, Buffer.from(name, "latin1")))),
    ),
  );
  if (shape.authority !== undefined)
    extensions.push(extension(OID.basicConstraints, shape.authority ? sequence(boolean(true)) : sequence()));
  const info = sequence(
    integer(Buffer.from([shape.version])),
    sequence(...shape.commonNames.map((name) => set(sequence(oid(OID.commonName), utf8(name))))),
    fromDer(KEYS[shape.key].publicKey.export({ type: "spki", format: "der" })),
    context(0, [sequence(oid(OID.extensionRequest), set(sequence(...extensions)))]),
  );
  const signer = shape.signedBy === "own" ? KEYS[shape.key].privateKey : KEYS.other.privateKey;
  const digest = signer.asymmetricKeyType === "ed25519" ? null : "sha256";
  const signature = sign(digest, toDer(info), signer);
  const whole = toDer(sequence(info, sequence(oid(shape.algorithm)), bits(signature)));
  // Another byte than the last one: that one added where it was cut would leave the request as it was.
  const filling = whole.at(-1)! ^ 0xff;
  return Buffer.concat([whole.subarray(0, whole.length - shape.cut), Buffer.alloc(shape.added, filling)]);
}

/** Independent of the code: what a good request is. */
const isGood = (shape: Shape): boolean =>
  shape.key === "p256" &&
  shape.signedBy === "own" &&
  shape.algorithm === OID.ecdsaWithSha256 &&
  shape.version === 0 &&
  shape.commonNames.every((name) => name === "" || name === NAME) &&
  JSON.stringify(shape.names.flat()) === JSON.stringify([[2, NAME]]) &&
  shape.authority !== true &&
  shape.cut === 0 &&
  shape.added === 0;

function grant(csr: Buffer) {
  return certify({ identity: NAME, csr }, { namespace: "emoji", serviceAccount: "web" }, issuer, policy, now);
}

/** Whether it was granted; what is refused is refused as a bad request, and what is granted is a leaf for the name. */
function granted(csr: Buffer, key: Shape["key"]): boolean {
  let leaf: ReturnType<typeof grant>;
  try {
    leaf = grant(csr);
  } catch (error) {
    assert.instance(error, GrpcError);
    assert.is((error as GrpcError).code, STATUS.INVALID_ARGUMENT);
    assert.match((error as GrpcError).message, /^certificate signing request: expected /);
    return false;
  }
  const certificate = new X509Certificate(leaf.der);
  assert.not(certificate.ca);
  assert.is(certificate.subjectAltName, `DNS:${NAME}`);
  assert.ok(
    certificate.publicKey.equals(
      createPublicKey(KEYS[key].publicKey.export({ type: "spki", format: "pem" })),
    ),
  );
  assert.ok(certificate.verify(issuer.certificate.publicKey));
  assert.is(Date.parse(certificate.validFrom), Math.ceil((now - 20_000) / 1_000) * 1_000);
  assert.is(Date.parse(certificate.validTo), Math.floor((now + DAY + 20_000) / 1_000) * 1_000);
  return true;
}

test("the good one is granted, and each single thing that is wrong is refused", () => {
  const wrong: Partial<Shape>[] = [
    { key: "p384" },
    { key: "rsa" },
    { key: "ed25519" },
    { signedBy: "other" },
    { algorithm: "1.2.840.113549.1.1.11" },
    { version: 1 },
    { commonNames: ["admin"] },
    { commonNames: [NAME, "admin"] },
    { names: [] },
    { names: [[]] },
    { names: [[[2, `other.${NAME}`]]] },
    { names: [[[2, NAME.toUpperCase()]]] },
    { names: [[[2, `${NAME}.`]]] },
    { names: [[[2, `${NAME}\0.evil.test`]]] },
    { names: [[[2, "*.emoji.serviceaccount.identity.mesh-system.cluster.local"]]] },
    {
      names: [
        [
          [2, NAME],
          [2, NAME],
        ],
      ],
    },
    { names: [[[2, NAME]], [[2, "other"]]] },
    {
      names: [
        [
          [2, NAME],
          [1, "a@b.test"],
        ],
      ],
    },
    {
      names: [
        [
          [2, NAME],
          [6, "spiffe://x"],
        ],
      ],
    },
    {
      names: [
        [
          [2, NAME],
          [7, "\x0a\0\0\x01"],
        ],
      ],
    },
    {
      names: [
        [
          [2, NAME],
          [8, "x"],
        ],
      ],
    },
    { names: [[[6, NAME]]] },
    { authority: true },
    { cut: 1 },
    { added: 1 },
  ];
  assert.ok(granted(build(GOOD), "p256"));
  assert.ok(granted(build({ ...GOOD, commonNames: [NAME] }), "p256"));
  assert.ok(granted(build({ ...GOOD, commonNames: [""] }), "p256"));
  assert.ok(granted(build({ ...GOOD, authority: false }), "p256"), "not to be an authority may be said");
  for (const change of wrong) {
    const shape = { ...GOOD, ...change };
    assert.not(isGood(shape), JSON.stringify(change));
    assert.not(granted(build(shape), shape.key), JSON.stringify(change));
  }
});

test("of requests of any shape exactly the good ones are granted", () => {
  const name = fc.constantFrom(NAME, NAME, NAME, "other.test", "");
  const shape: fc.Arbitrary<Shape> = fc.record({
    key: fc.constantFrom("p256", "p256", "p256", "p384", "rsa", "ed25519"),
    signedBy: fc.constantFrom("own", "own", "own", "other"),
    algorithm: fc.constantFrom(OID.ecdsaWithSha256, OID.ecdsaWithSha256, "1.2.840.10045.4.3.3"),
    version: fc.constantFrom(0, 0, 0, 1, 2),
    commonNames: fc.array(name, { maxLength: 2 }),
    names: fc.oneof(
      { weight: 3, arbitrary: fc.constant(GOOD.names) },
      {
        weight: 1,
        arbitrary: fc.array(fc.array(fc.tuple(fc.constantFrom(2, 2, 2, 1, 6, 7), name), { maxLength: 3 }), {
          maxLength: 3,
        }),
      },
    ),
    authority: fc.constantFrom(undefined, false, true),
    cut: fc.constantFrom(0, 0, 0, 1, 40),
    added: fc.constantFrom(0, 0, 0, 1),
  });
  let good = 0;
  fc.assert(
    fc.property(shape, (each) => {
      if (isGood(each)) good += 1;
      assert.is(granted(build(each), each.key), isGood(each));
    }),
    { numRuns: 1_500 },
  );
  assert.ok(good > 10, `only ${good} good ones were made`);
});

test("a good request that is cut anywhere, or of which any byte is changed, is refused", () => {
  const whole = build(GOOD);
  for (let length = 0; length < whole.length; length += 1)
    assert.not(granted(whole.subarray(0, length), "p256"), `${length} bytes`);
  for (let at = 0; at < whole.length; at += 1) {
    const changed = Buffer.from(whole);
    changed[at]! ^= 1 << (at % 8);
    assert.not(granted(changed, "p256"), `byte ${at}`);
  }
});

test("bytes at random, and requests too large, are refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      assert.not(granted(Buffer.from(bytes), "p256"));
    }),
    { numRuns: 500 },
  );
  assert.not(granted(build({ ...GOOD, commonNames: ["x".repeat(20_000)] }), "p256"));
});

test.run();

// DER, judged by node-forge: what we write it reads as the same, what we read it reads too, and nothing that is not DER
// is taken.
import fc from "fast-check";
import forge from "node-forge";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type Asn1,
  bits,
  boolean,
  context,
  fromDer,
  integer,
  octets,
  oid,
  oidOf,
  sequence,
  set,
  toDer,
  utf8,
} from "../../src/pki/der.ts";

const test = suite("der");
const { asn1 } = forge;
const theirs = (der: Buffer): string =>
  asn1
    .toDer(
      asn1.fromDer(der.toString("latin1"), {
        strict: true,
        parseAllBytes: true,
        decodeBitStrings: false,
      } as never),
    )
    .getBytes();

const bytes = fc.uint8Array({ maxLength: 300 });
const identifier = fc
  .tuple(
    fc.constantFrom("0.9", "1.2", "1.39", "2.5", "2.999"),
    fc.array(fc.nat({ max: 2 ** 31 - 1 }), { maxLength: 8 }),
  )
  .map(([root, rest]) => [root, ...rest].join("."));
const { tree } = fc.letrec<{ tree: Asn1; leaf: Asn1 }>((tie) => ({
  tree: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    tie("leaf"),
    fc.array(tie("tree"), { maxLength: 4 }).map((items) => sequence(...items)),
    fc.array(tie("tree"), { maxLength: 4 }).map((items) => set(...items)),
    fc.tuple(fc.nat({ max: 30 }), fc.array(tie("tree"), { maxLength: 3 })).map(([tag, v]) => context(tag, v)),
  ),
  leaf: fc.oneof(
    bytes.map(octets),
    bytes.filter(({ length }) => length > 0).map(integer),
    bytes.map((value) => bits(value)),
    fc.string().map(utf8),
    fc.boolean().map(boolean),
    identifier.map(oid),
  ),
}));

test("what is written is read as it was, by us and by them", () =>
  fc.assert(
    fc.property(tree, (value) => {
      const der = toDer(value);
      assert.equal(fromDer(der), value);
      assert.is(theirs(der), der.toString("latin1"));
    }),
  ));

test("object identifiers are theirs", () =>
  fc.assert(
    fc.property(identifier, (dotted) => {
      assert.is(oidOf(oid(dotted), "one"), dotted);
      if (!dotted.startsWith("2.999"))
        assert.is(asn1.oidToDer(dotted).toHex(), (oid(dotted).value as Buffer).toString("hex"));
    }),
  ));

test("of bytes that were changed, what we read writes the same bytes", () =>
  fc.assert(
    fc.property(tree, fc.nat(), fc.integer({ min: 0, max: 255 }), (value, at, byte) => {
      const der = toDer(value);
      der[at % der.length] = byte;
      let read: Asn1;
      try {
        read = fromDer(der);
      } catch {
        return;
      }
      assert.ok(toDer(read).equals(der), der.toString("hex"));
    }),
    { numRuns: 1_000 },
  ));

const REFUSED: readonly [string, string][] = [
  ["nothing", ""],
  ["a tag alone", "30"],
  ["bytes behind the end", "0500ff"],
  ["more than there is", "0403aabb"],
  ["a child longer than its parent", "30030404aabbccdd"],
  ["a length without an end", "30800201010000"],
  ["a long length for a short value", "048101aa"],
  ["a length with a zero in front", `04820080${"00".repeat(128)}`],
  ["a length of five bytes", "04850000000001aa"],
  ["a type of several bytes", "1f810100"],
  ["a primitive sequence", "1000"],
  ["a constructed string", "2400"],
  ["values without end in one another", nested(40)],
];

function nested(depth: number): string {
  let der = Buffer.alloc(0);
  for (let i = 0; i < depth; i += 1) der = Buffer.concat([Buffer.from([0x30, der.length]), der]);
  return der.toString("hex");
}

for (const [name, hex] of REFUSED) {
  test(`refused: ${name}`, () =>
    assert.throws(() => fromDer(Buffer.from(hex, "hex")), /in the DER|of the DER/));
}

for (const hex of ["", "80", "8001", "2a80", "2a8001"]) {
  test(`refused as an identifier: ${hex || "nothing"}`, () =>
    assert.throws(
      () => oidOf({ tagClass: 0, type: 6, value: Buffer.from(hex, "hex") }, "an identifier"),
      /expected an identifier/,
    ));
}

test.run();

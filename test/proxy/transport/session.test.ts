// Sessions without certificates: what goes, what stays, and what cannot be read.
import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Asn1, context, octets, sequence, set, toDer } from "../../../src/pki/der.ts";
import { withoutCertificate } from "../../../src/proxy/transport/session.ts";

const test = suite("session");

const session = (...parts: Asn1[]) => toDer(sequence(...parts));
const peer = (size: number) => context(3, [octets(Buffer.alloc(size))]);
/** Elements that a session has beside its peer. */
const others = fc.array(
  fc
    .tuple(fc.constantFrom(undefined, 1, 2, 4, 10), fc.integer({ min: 0, max: 70_000 }))
    .map(([tag, size]) => {
      const bytes = octets(Buffer.alloc(size, tag));
      return tag === undefined ? bytes : context(tag, [bytes]);
    }),
  { maxLength: 6 },
);

test("the peer's certificate goes, all else stays in its order", () => {
  fc.assert(
    fc.property(others, others, fc.integer({ min: 0, max: 70_000 }), (before, after, size) => {
      const without = withoutCertificate(session(...before, peer(size), ...after));
      assert.ok(without.equals(session(...before, ...after)));
      assert.is(withoutCertificate(without), without);
    }),
    { numRuns: 100 },
  );
});

test("a session that has none is the very same", () => {
  fc.assert(
    fc.property(others, (parts) => {
      const whole = session(...parts);
      assert.is(withoutCertificate(whole), whole);
    }),
    { numRuns: 50 },
  );
});

test("what is no session stays as it is", () => {
  const whole = session(peer(9));
  const cases: Readonly<Record<string, Buffer>> = {
    empty: Buffer.alloc(0),
    "a tag alone": Buffer.of(0x30),
    "not a sequence": toDer(set(peer(9))),
    "cut short": whole.subarray(0, -1),
    "bytes behind it": Buffer.concat([whole, Buffer.of(0)]),
  };
  for (const [name, bytes] of Object.entries(cases)) assert.is(withoutCertificate(bytes), bytes, name);
});

test("no bytes make it throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      withoutCertificate(Buffer.from(bytes));
      withoutCertificate(session(octets(bytes), peer(1)));
    }),
  );
});

test.run();

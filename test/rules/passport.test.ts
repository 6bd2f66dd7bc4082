// The catalogue of the mesh's own errors.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PASSPORTS } from "../../src/rules/passport.ts";
import { EXPLAINED, findPassport } from "../../src/rules/passport-help.ts";

const test = suite("passport");
const all = EXPLAINED;

test("every code stands once, and every entry says cause and remedy in sentences", () => {
  assert.is(new Set(all.map((p) => p.code)).size, all.length);
  for (const { code, text, cause, remedy, status } of all) {
    assert.match(code, /^MESH-\d{3}$/);
    assert.match(cause, /^[A-Z].*\.$/, code);
    assert.match(remedy, /\.$|`$/, code);
    assert.match(text, /^[\x20-\x7e]+$/, code);
    assert.ok(status === 0 || (status >= 400 && status < 600), code);
  }
});

test("statuses are Linkerd's where it has the case", () => {
  const statuses = (
    [
      "unauthorized",
      "no-route",
      "fail-fast",
      "connect-timeout",
      "load-shed",
      "connect",
      "tls-identity",
      "loop",
      "invalid-policy",
    ] as const
  ).map((key) => [PASSPORTS[key].status, PASSPORTS[key].grpcStatus]);
  assert.equal(statuses, [
    [403, 7],
    [404, 5],
    [504, 4],
    [504, 4],
    [503, 14],
    [502, 14],
    [502, 14],
    [508, 10],
    [500, 13],
  ]);
});

test("a code is found in any writing", () => {
  for (const code of ["MESH-201", "mesh-201", "201"])
    assert.is(findPassport(code)?.text, PASSPORTS.unauthorized.text);
  assert.is(findPassport("MESH-999"), undefined);
});

test.run();

// What a tap asks for, condition by condition, and what is left open until an endpoint is known.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressOf } from "../../../src/api/address.ts";
import { decode, encode } from "../../../src/api/codec.ts";
import { type ObserveRequestMatchShape as MatchShape, ObserveRequestMatch } from "../../../src/api/tap.ts";
import { compileTapMatch, type TapFacts, TapMatchError } from "../../../src/proxy/tap/match.ts";
import { requestHead } from "../../support/http-exchange.ts";

const test = suite("tap match");
const ip = (text: string) => addressOf(text, 0).ip!;

const facts: TapFacts = {
  request: requestHead({ method: "POST", path: "/books?page=2", authority: "web.ns:80" }),
  source: { ip: "10.1.2.3", port: 4_000 },
  destination: { ip: "fd00::5", port: 8_080 },
  destinationLabels: { deployment: "web", namespace: "ns" },
  routeLabels: { route: "books" },
};

/** As it comes over the wire: what is not set is absent. */
const matches = (shape: MatchShape, of: TapFacts = facts) =>
  compileTapMatch(decode(ObserveRequestMatch, encode(ObserveRequestMatch, shape)))(of);

const POST: MatchShape = { http: { method: { registered: 1 } } };
const GET: MatchShape = { http: { method: { registered: 0 } } };
const OF_WEB: MatchShape = { destinationLabel: { key: "deployment", value: "web" } };

const CASES: readonly [name: string, shape: MatchShape, verdict: boolean][] = [
  ["its method", POST, true],
  ["another method", GET, false],
  ["a method of its own", { http: { method: { unregistered: "PROPFIND" } } }, false],
  ["its scheme", { http: { scheme: { registered: 0 } } }, true],
  ["another scheme", { http: { scheme: { registered: 1 } } }, false],
  ["its authority", { http: { authority: { exact: "web.ns:80" } } }, true],
  ["a prefix of its authority", { http: { authority: { prefix: "web." } } }, true],
  ["another authority", { http: { authority: { exact: "web" } } }, false],
  ["its path, without the query", { http: { path: { exact: "/books" } } }, true],
  ["a prefix of its path", { http: { path: { prefix: "/bo" } } }, true],
  ["another path", { http: { path: { prefix: "/b/" } } }, false],
  ["its client's network", { source: { netmask: { ip: ip("10.1.0.0"), mask: 16 } } }, true],
  ["another network", { source: { netmask: { ip: ip("10.2.0.0"), mask: 16 } } }, false],
  ["a network of the other family", { destination: { netmask: { ip: ip("10.0.0.0"), mask: 8 } } }, false],
  ["its destination's network", { destination: { netmask: { ip: ip("fd00::"), mask: 8 } } }, true],
  ["a range with its port", { destination: { ports: { min: 8_000, max: 9_000 } } }, true],
  ["one port alone", { destination: { ports: { min: 8_080, max: 0 } } }, true],
  ["other ports", { source: { ports: { min: 1, max: 3_999 } } }, false],
  ["its destination's label", OF_WEB, true],
  ["another value", { destinationLabel: { key: "deployment", value: "api" } }, false],
  ["a label that nothing has", { destinationLabel: { key: "constructor", value: "x" } }, false],
  ["its route's label", { routeLabel: { key: "route", value: "books" } }, true],
  ["not its method", { not: POST }, false],
  ["all", { all: { matches: [POST, OF_WEB] } }, true],
  ["all but one", { all: { matches: [POST, GET] } }, false],
  ["all of nothing", { all: { matches: [] } }, true],
  ["any", { any: { matches: [GET, OF_WEB] } }, true],
  ["any of nothing", { any: { matches: [] } }, false],
];
for (const [name, shape, verdict] of CASES) test(name, () => assert.is(matches(shape), verdict));

test("before an endpoint is chosen, the verdict is left open only where it matters", () => {
  const open: TapFacts = { ...facts, destination: undefined, destinationLabels: undefined };
  assert.is(matches(OF_WEB, open), undefined);
  assert.is(matches({ not: OF_WEB }, open), undefined);
  assert.is(matches({ destination: { ports: { min: 1, max: 2 } } }, open), undefined);
  assert.is(matches({ all: { matches: [GET, OF_WEB] } }, open), false);
  assert.is(matches({ all: { matches: [OF_WEB, POST] } }, open), undefined);
  assert.is(matches({ any: { matches: [OF_WEB, POST] } }, open), true);
  assert.is(matches({ any: { matches: [OF_WEB, GET] } }, open), undefined);
});

test("an open verdict is one that either outcome could still decide", () => {
  const leaf = fc.constantFrom<MatchShape>(POST, GET, OF_WEB, {
    destinationLabel: { key: "deployment", value: "api" },
  });
  const { tree } = fc.letrec<{ tree: MatchShape }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      leaf,
      tie("tree").map((not) => ({ not })),
      fc.array(tie("tree"), { maxLength: 3 }).map((list) => ({ all: { matches: list } })),
      fc.array(tie("tree"), { maxLength: 3 }).map((list) => ({ any: { matches: list } })),
    ),
  }));
  fc.assert(
    fc.property(tree, (shape) => {
      const early = matches(shape, { ...facts, destinationLabels: undefined });
      if (early !== undefined) assert.is(matches(shape), early);
    }),
  );
});

const nested = (depth: number): MatchShape => (depth === 0 ? POST : { not: nested(depth - 1) });

const REFUSED: readonly [name: string, shape: MatchShape | undefined, text: RegExp][] = [
  ["nothing", undefined, /without a condition/],
  ["an empty match", {}, /without a condition/],
  ["an empty condition inside", { all: { matches: [{}] } }, /without a condition/],
  ["an unknown method", { http: { method: { registered: 99 } } }, /no such method/],
  ["an unknown scheme", { http: { scheme: { registered: 2 } } }, /no such scheme/],
  ["no HTTP condition", { http: {} }, /without a condition/],
  ["a path with nothing", { http: { path: {} } }, /with nothing/],
  ["ports above 65,535", { source: { ports: { min: 1, max: 65_536 } } }, /range of ports/],
  ["ports in the wrong order", { source: { ports: { min: 9, max: 8 } } }, /range of ports/],
  ["a mask that is too long", { source: { netmask: { ip: ip("10.0.0.0"), mask: 33 } } }, /a network/],
  ["a network without an address", { source: { netmask: { mask: 8 } } }, /no address/],
  ["a label without a value", { routeLabel: { key: "a", value: "" } }, /without a key or a value/],
  ["a tree that is too deep", nested(17), /too large/],
  ["a tree that is too wide", { any: { matches: Array(300).fill(POST) } }, /too large/],
];
for (const [name, shape, text] of REFUSED) {
  test(`${name} is refused`, () => {
    assert.throws(
      () => compileTapMatch(shape),
      (error: unknown) => error instanceof TapMatchError && text.test(error.message),
    );
  });
}

test.run();

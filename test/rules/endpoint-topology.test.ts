// Which endpoints a client is told of: the rules of kube-proxy, case by case.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type ClientPlace,
  chooseByTopology,
  type PlacedEndpoint,
  type TopologyRules,
} from "../../src/rules/endpoint-topology.ts";
import { Trace } from "../../src/rules/trace.ts";

const test = suite("endpoint topology");

interface Named extends PlacedEndpoint {
  readonly name: string;
}

const endpoint = (name: string, change: Partial<PlacedEndpoint> = {}): Named => ({
  name,
  family: 4,
  ready: true,
  zone: "east",
  nodeName: "n1",
  forZones: undefined,
  forNodes: undefined,
  target: { name },
  ...change,
});

const east: ClientPlace = { node: "n1", zone: "east", families: [4] };
const plain: TopologyRules = { nodeLocal: false, distribution: undefined };
const west = { zone: "west", nodeName: "n2" };
const pair = { name: "dual" };

const CASES: readonly {
  readonly name: string;
  readonly endpoints: readonly Named[];
  readonly client?: Partial<ClientPlace>;
  readonly rules?: Partial<TopologyRules>;
  readonly expected: string;
}[] = [
  { name: "all, without any wish", endpoints: [endpoint("a"), endpoint("b", west)], expected: "a b" },
  {
    name: "hints for the zone",
    endpoints: [endpoint("a", { forZones: ["east"] }), endpoint("b", { ...west, forZones: ["west"] })],
    expected: "a",
  },
  {
    name: "an endpoint of another zone that is meant for this one",
    endpoints: [
      endpoint("a", { forZones: ["west"] }),
      endpoint("b", { ...west, forZones: ["east", "west"] }),
    ],
    expected: "b",
  },
  {
    name: "one without hints makes all hints void",
    endpoints: [endpoint("a", { forZones: ["east"] }), endpoint("b", west)],
    expected: "a b",
  },
  {
    name: "no hint for the zone: all",
    endpoints: [endpoint("a", { forZones: ["west"] }), endpoint("b", { ...west, forZones: ["west"] })],
    expected: "a b",
  },
  {
    name: "the client's zone is not known: all",
    endpoints: [endpoint("a", { forZones: ["east"] }), endpoint("b", { forZones: ["west"] })],
    client: { zone: undefined },
    expected: "a b",
  },
  {
    name: "hints for the node come before those for the zone",
    endpoints: [
      endpoint("a", { forZones: ["east"], forNodes: ["n3"] }),
      endpoint("b", { forZones: ["west"], forNodes: ["n1"] }),
    ],
    expected: "b",
  },
  {
    name: "an ending endpoint with a hint does not count while others are ready",
    endpoints: [
      endpoint("a", { ready: false, forZones: ["east"] }),
      endpoint("b", { ...west, forZones: ["west"] }),
    ],
    expected: "b",
  },
  {
    name: "all are ending: they serve on",
    endpoints: [endpoint("a", { ready: false }), endpoint("b", { ready: false })],
    expected: "a b",
  },
  {
    name: "internalTrafficPolicy Local",
    endpoints: [endpoint("a"), endpoint("b", west)],
    rules: { nodeLocal: true },
    expected: "a",
  },
  {
    name: "internalTrafficPolicy Local without any there: none",
    endpoints: [endpoint("b", west)],
    rules: { nodeLocal: true },
    expected: "",
  },
  {
    name: "internalTrafficPolicy Local for a client on an unknown node: all",
    endpoints: [endpoint("a"), endpoint("b", west)],
    client: { node: undefined },
    rules: { nodeLocal: true },
    expected: "a b",
  },
  {
    name: "an ending one of the node is taken when its node has no other",
    endpoints: [endpoint("a", { ready: false }), endpoint("b", west)],
    rules: { nodeLocal: true },
    expected: "a",
  },
  {
    name: "PreferSameZone without hints",
    endpoints: [endpoint("a"), endpoint("b", west)],
    rules: { distribution: "PreferSameZone" },
    expected: "a",
  },
  {
    name: "PreferClose with none in the zone: all",
    endpoints: [endpoint("b", west), endpoint("c", west)],
    rules: { distribution: "PreferClose" },
    expected: "b c",
  },
  {
    name: "PreferSameNode, then zone",
    endpoints: [endpoint("a"), endpoint("c", { nodeName: "n3" }), endpoint("b", west)],
    rules: { distribution: "PreferSameNode" },
    expected: "a",
  },
  {
    name: "PreferSameNode with none on the node: the zone",
    endpoints: [endpoint("c", { nodeName: "n3" }), endpoint("b", west)],
    rules: { distribution: "PreferSameNode" },
    expected: "c",
  },
  {
    name: "a pod of two families is one endpoint, of the family that the client likes best",
    endpoints: [endpoint("v4", { target: pair }), endpoint("v6", { family: 6, target: pair })],
    client: { families: [6, 4] },
    expected: "v6",
  },
  {
    name: "what has one family only is told of beside it",
    endpoints: [
      endpoint("v4", { target: pair }),
      endpoint("v6", { family: 6, target: pair }),
      endpoint("only6", { family: 6 }),
    ],
    client: { families: [4, 6] },
    expected: "v4 only6",
  },
  {
    name: "what the client cannot reach is not told of",
    endpoints: [endpoint("a"), endpoint("only6", { family: 6 })],
    expected: "a",
  },
];

for (const { name, endpoints, client = {}, rules = {}, expected } of CASES) {
  test(name, () => {
    const trace = new Trace();
    const chosen = chooseByTopology(endpoints, { ...east, ...client }, { ...plain, ...rules }, trace);
    assert.is(chosen.map((each) => each.name).join(" "), expected);
    // The trace ends with what was decided.
    assert.match(trace.steps.at(-1)!.why, new RegExp(`${chosen.length} of ${endpoints.length} endpoints$`));
  });
}

test.run();

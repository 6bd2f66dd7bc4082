// The patch types: cases from RFC 6902, RFC 7386 and the strategic merge patch documentation.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { jsonPatch, mergePatch } from "../../../src/sandbox/apiserver/patch/json-patch.ts";
import { strategicMergePatch } from "../../../src/sandbox/apiserver/patch/strategic.ts";
import { parseFieldSelector, parseLabelSelector } from "../../../src/sandbox/apiserver/selectors.ts";
import { builtInTopology } from "../../../src/sandbox/apiserver/topology.ts";
import type { Json } from "../../../src/sandbox/cluster.ts";

const strategic = (original: Json, patch: Json) => strategicMergePatch(original, patch, builtInTopology);

test("JSON Patch operations", () => {
  const cases: Array<[Json, Json[], Json]> = [
    [{ a: [1, 2] }, [{ op: "add", path: "/a/1", value: 9 }], { a: [1, 9, 2] }],
    [{ a: [1] }, [{ op: "add", path: "/a/-", value: 2 }], { a: [1, 2] }],
    [{ a: 1, b: 2 }, [{ op: "remove", path: "/a" }], { b: 2 }],
    [
      { "x/y": 1, "m~n": 2 },
      [
        { op: "replace", path: "/x~1y", value: 3 },
        { op: "remove", path: "/m~0n" },
      ],
      { "x/y": 3 },
    ],
    [{ a: { b: 1 } }, [{ op: "move", from: "/a/b", path: "/c" }], { a: {}, c: 1 }],
    [
      { a: [1] },
      [
        { op: "copy", from: "/a", path: "/b" },
        { op: "add", path: "/b/0", value: 0 },
      ],
      { a: [1], b: [0, 1] },
    ],
    [
      { a: 1 },
      [
        { op: "test", path: "/a", value: 1 },
        { op: "replace", path: "", value: { z: 1 } },
      ],
      { z: 1 },
    ],
  ];
  for (const [document, patch, expected] of cases) assert.equal(jsonPatch(document, patch), expected);
  for (const impossible of [
    { op: "remove", path: "/none" },
    { op: "replace", path: "/none", value: 1 },
    { op: "test", path: "/a", value: 2 },
    { op: "add", path: "/list/7", value: 1 },
    { op: "add", path: "/__proto__/x", value: 1 },
  ]) {
    assert.throws(() => jsonPatch({ a: 1, list: [] }, [impossible]));
  }
});

test("merge patch removes with null and replaces lists", () => {
  assert.equal(
    mergePatch({ a: { b: 1, c: 2 }, l: [1, 2] }, { a: { b: null }, l: [3], n: { x: null, y: 1 } }),
    {
      a: { c: 2 },
      l: [3],
      n: { y: 1 },
    },
  );
});

test("strategic merge patch knows the keys of lists", () => {
  const pod = {
    spec: {
      containers: [
        { name: "a", image: "1", env: [{ name: "X", value: "1" }], args: ["old"] },
        { name: "b", image: "1" },
      ],
    },
    metadata: { finalizers: ["one", "two"], labels: { k: "v" } },
  };
  const merged = strategic(pod, {
    spec: {
      containers: [{ name: "a", image: "2", env: [{ name: "Y", value: "2" }], args: ["new"] }, { name: "c" }],
    },
  });
  assert.equal(
    merged.spec.containers.map((c: Json) => [c.name, c.image]),
    [
      ["a", "2"],
      ["b", "1"],
      ["c", undefined],
    ],
  );
  assert.equal(
    merged.spec.containers[0].env.map((e: Json) => e.name),
    ["X", "Y"],
  );
  assert.equal(merged.spec.containers[0].args, ["new"], "a list without keys is replaced");
  const deleted = strategic(pod, {
    spec: {
      "$setElementOrder/containers": [{ name: "c" }, { name: "b" }],
      containers: [
        { name: "a", $patch: "delete" },
        { name: "c", image: "3" },
      ],
    },
    metadata: { "$deleteFromPrimitiveList/finalizers": ["one"], labels: { $patch: "replace", z: "1" } },
  });
  assert.equal(
    deleted.spec.containers.map((c: Json) => c.name),
    ["c", "b"],
  );
  assert.equal(deleted.metadata, { finalizers: ["two"], labels: { z: "1" } });
  const retained = strategic(
    { spec: { strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1 } } } },
    { spec: { strategy: { $retainKeys: ["type"], type: "Recreate" } } },
  );
  assert.equal(retained, { spec: { strategy: { type: "Recreate" } } });
});

test("Service ports merge by port in a strategic patch", () => {
  const service = { spec: { ports: [{ port: 80, protocol: "TCP", name: "a" }] } };
  const { ports } = strategic(service, { spec: { ports: [{ port: 80, name: "b" }, { port: 81 }] } }).spec;
  assert.equal(ports, [{ port: 80, protocol: "TCP", name: "b" }, { port: 81 }]);
});

test("label selectors", () => {
  const labels = { app: "web", tier: "front" };
  const cases: Array<[string, boolean]> = [
    ["app=web", true],
    ["app==api", false],
    ["app!=api,tier", true],
    ["!tier", false],
    ["app in (web, api),other notin (x)", true],
    ["app notin (web)", false],
    ["missing!=x", true],
  ];
  for (const [text, expected] of cases) assert.is(parseLabelSelector(text)?.(labels), expected, text);
  assert.throws(() => parseLabelSelector("a b c"), /unable to parse requirement/);
});

test("field selectors", () => {
  const pod = {
    metadata: { name: "p", namespace: "n" },
    spec: { nodeName: "x" },
    status: { phase: "Running" },
  };
  assert.ok(parseFieldSelector("spec.nodeName=x,status.phase!=Failed", "/pods")?.(pod));
  assert.not(parseFieldSelector("metadata.name!=p", "/pods")?.(pod));
  assert.throws(() => parseFieldSelector("spec.image=x", "/pods"), /field label not supported: spec.image/);
});

test.run();

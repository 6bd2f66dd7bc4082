// What is kept of the cluster's objects.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { serviceRecord, sliceRecord } from "../../src/controller/cluster-objects.ts";
import type { EndpointSlice, Service } from "../../src/kube/types.ts";

const service = (opaque: string): Service => ({
  metadata: { name: "db", namespace: "shop", annotations: { "config.linkerd.io/opaque-ports": opaque } },
  spec: {
    ports: [
      { name: "mysql", port: 3306 },
      { name: "http", port: 80 },
    ],
  },
});

type SliceEndpoint = NonNullable<EndpointSlice["endpoints"]>[number];

const endpoint = (name: string, change: Partial<SliceEndpoint> = {}): SliceEndpoint => ({
  addresses: [`10.0.0.${name.charCodeAt(0)}`],
  conditions: { ready: true, serving: true, terminating: false },
  zone: "east",
  nodeName: "node",
  targetRef: { kind: "Pod", namespace: "shop", name, uid: `uid-${name}` },
  ...change,
});

const slice = (...endpoints: SliceEndpoint[]): EndpointSlice => ({
  metadata: { name: "web-1", namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
  addressType: "IPv4",
  ports: [{ name: "http", port: 8080 }],
  endpoints,
});

test("endpoints of a slice that are the same as before stay the same objects, wherever they are in it", () => {
  const before = sliceRecord(slice(endpoint("a"), endpoint("b"), endpoint("c"), endpoint("d")));
  const [a, b, , d] = before.endpoints;
  const now = sliceRecord(slice(endpoint("b"), endpoint("e"), endpoint("a"), endpoint("d")), before);
  assert.equal(
    now.endpoints.map((each) => before.endpoints.indexOf(each)),
    [1, -1, 0, 3],
  );
  assert.is(now.endpoints[0], b);
  assert.is(now.endpoints[2], a);
  assert.is(now.endpoints[3], d);
});

test("an endpoint of a slice that says something else than before is another", () => {
  const changes: Partial<SliceEndpoint>[] = [
    { addresses: ["10.0.1.1"] },
    { conditions: { ready: false, serving: true, terminating: true } },
    { hostname: "a" },
    { zone: "west" },
    { nodeName: "other" },
    { hints: { forZones: [{ name: "east" }] } },
    { hints: { forNodes: [{ name: "node" }] } },
    { targetRef: { kind: "Pod", namespace: "shop", name: "z", uid: "uid-a" } },
    { targetRef: { kind: "Pod", namespace: "shop", name: "a", uid: "another" } },
    { targetRef: { kind: "ExternalWorkload", namespace: "shop", name: "a", uid: "uid-a" } },
    { targetRef: {} },
  ];
  const plain = endpoint("a");
  for (const change of changes) {
    const other = endpoint("a", change);
    for (const [from, to] of [
      [plain, other],
      [other, plain],
    ] as const) {
      const now = sliceRecord(slice(to), sliceRecord(slice(from)));
      assert.equal(now, sliceRecord(slice(to)), JSON.stringify(change));
    }
  }
});

test("opaque ports of a Service are ports, ranges and names of its ports", () => {
  for (const [text, ranges] of [
    ["mysql", [{ from: 3306, to: 3306 }]],
    [
      "mysql, 4000-4010",
      [
        { from: 3306, to: 3306 },
        { from: 4000, to: 4010 },
      ],
    ],
    ["80", [{ from: 80, to: 80 }]],
    ["", []],
  ] as const) {
    const record = serviceRecord(service(text));
    assert.equal(record.opaquePorts, ranges, text);
    assert.equal(record.annotationProblems, []);
  }
});

test("opaque ports that cannot be read count as not there, and are told", () => {
  for (const text of ["redis", "0", "5-4"]) {
    const record = serviceRecord(service(text));
    assert.is(record.opaquePorts, undefined, text);
    assert.is(record.annotationProblems.length, 1);
    assert.is(record.annotationProblems[0]!.key, "config.linkerd.io/opaque-ports");
  }
});

test.run();

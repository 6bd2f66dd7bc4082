// What is kept of the cluster's objects.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { serviceRecord } from "../../src/controller/cluster-objects.ts";
import type { Service } from "../../src/kube/types.ts";

const service = (opaque: string): Service => ({
  metadata: { name: "db", namespace: "shop", annotations: { "config.linkerd.io/opaque-ports": opaque } },
  spec: {
    ports: [
      { name: "mysql", port: 3306 },
      { name: "http", port: 80 },
    ],
  },
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

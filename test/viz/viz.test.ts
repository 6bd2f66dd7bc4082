// Questions about traffic: what is asked, and how the answer is shown.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StatRow } from "../../src/api/stat.ts";
import { renderTable } from "../../src/cli/output.ts";
import { breaches, parseLimits } from "../../src/viz/gate.ts";
import { formatResource, parseResource, parseResources, within } from "../../src/viz/resource.ts";
import { statColumns, statJson } from "../../src/viz/stat-rows.ts";

const test = suite("viz");

const web: StatRow = {
  kind: "deployment",
  name: "web",
  namespace: "demo",
  pods: { meshed: 1, total: 2 },
  requests: { success: 90, failure: 10, successRate: 0.9, rps: 10, p50: 4.4, p95: 20, p99: 99.6, secured: 1 },
  tcp: { openConnections: 3, secured: 1, readRate: 100, writeRate: 2048.25 },
};
const idle: StatRow = {
  kind: "deployment",
  name: "emoji",
  namespace: "demo",
  pods: { meshed: 1, total: 1 },
  requests: null,
  tcp: null,
};

test("resources are read as kubectl reads them", () => {
  const cases: [string[], string[]][] = [
    [["deploy"], ["deploy"]],
    [["deployments"], ["deploy"]],
    [["Deploy/web"], ["deploy/web"]],
    [
      ["deploy", "web", "api"],
      ["deploy/web", "deploy/api"],
    ],
    [
      ["sts/db", "svc/web"],
      ["sts/db", "svc/web"],
    ],
  ];
  for (const [words, expected] of cases) {
    assert.equal(parseResources(words).map(formatResource), expected);
  }
  assert.equal(within(parseResource("po/x"), "demo"), { kind: "pod", name: "x", namespace: "demo" });
  assert.equal(within(parseResource("ns/x"), "demo"), { kind: "namespace", name: "x" });
});

test("a resource that cannot be read is a usage error that says what can be asked", () => {
  for (const words of [[], ["nodes"], ["deploy/"], ["deploy/a/b"]]) {
    assert.throws(
      () => parseResources(words),
      (error: { exitCode: number; hints: string[] }) => error.exitCode === 2 && error.hints.length > 0,
    );
  }
});

test("the table has Linkerd's columns, absent numbers as -", () => {
  const text = renderTable(statColumns({ namespace: false, kinds: false, status: false }), [web, idle]);
  assert.is(
    text,
    [
      "NAME    MESHED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN",
      "web        1/2    90.00%   10.0rps           4ms          20ms         100ms          3",
      "emoji      1/1         -         -             -             -             -          -",
      "",
    ].join("\n"),
  );
  const wide = renderTable(statColumns({ namespace: true, kinds: true, status: true }), [web], {
    wide: true,
  });
  assert.match(wide, /^NAMESPACE +NAME +STATUS +MESHED .* READ_BYTES\/SEC +WRITE_BYTES\/SEC\n/);
  assert.match(wide, /^demo +deploy\/web +- .* 100\.0B\/s +2048\.3B\/s\n$/m);
});

test("json has Linkerd's fields", () => {
  assert.equal(statJson(web), {
    namespace: "demo",
    kind: "deployment",
    name: "web",
    meshed: "1/2",
    success: 0.9,
    rps: 10,
    latency_ms_p50: 4,
    latency_ms_p95: 20,
    latency_ms_p99: 100,
    tcp_open_connections: 3,
    tcp_read_bytes_rate: 100,
    tcp_write_bytes_rate: 2048.25,
  });
  assert.is(statJson(idle).success, null);
});

test("the gate names every limit that is not kept", () => {
  const limits = parseLimits("success=99,rps=1, p99=50ms");
  assert.equal(breaches([web, idle], limits), [
    "deploy/web: success is 90.00%, under 99.00%",
    "deploy/web: p99 is 100ms, over 50ms",
  ]);
  assert.equal(breaches([web], parseLimits("success=90%,p95=20ms,rps=20")), [
    "deploy/web: 10.0rps, under 20rps",
  ]);
  assert.equal(breaches([web], parseLimits("success=90")), []);
  assert.equal(breaches([idle], limits), ["no requests were seen, so there is nothing to judge"]);
  for (const bad of ["success", "success=101", "p99=fast", "p98=1s", "rps=-1", ""]) {
    assert.throws(() => parseLimits(bad), /expected/, bad);
  }
});

test.run();

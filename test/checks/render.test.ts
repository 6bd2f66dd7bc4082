// The results of checks as people and machines read them.
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  type CheckResult,
  jsonReport,
  junitReport,
  tableObserver,
  verdictLine,
} from "../../src/checks/index.ts";

const style = { ok: String, warn: String, error: String };
const RESULTS: readonly CheckResult[] = [
  {
    category: "kubernetes-api",
    description: "can query the Kubernetes API",
    anchor: "k8s-api",
    outcome: "success",
  },
  {
    category: "mesh-identity",
    description: "issuer is <fine>",
    anchor: "a",
    outcome: "warning",
    error: "ends soon",
  },
  {
    category: "mesh-identity",
    description: 'chain "x"',
    anchor: "b",
    outcome: "error",
    error: "no & <anchor>\nsecond",
  },
];

function table(short: boolean, results = RESULTS): string {
  let out = "";
  const observer = tableObserver(
    (text) => {
      out += text;
    },
    style,
    { short },
  );
  let category = "";
  for (const result of results) {
    if (result.category !== category) observer.category(result.category);
    category = result.category;
    observer.result(result);
  }
  return out + verdictLine(results, style, short);
}

test("the table has Linkerd's shape", () => {
  assert.is(
    table(false),
    `kubernetes-api
--------------
√ can query the Kubernetes API

mesh-identity
-------------
‼ issuer is <fine>
    ends soon
    see docs/checks.md#a for hints
× chain "x"
    no & <anchor>
    second
    see docs/checks.md#b for hints

Status check results are ×
`,
  );
});

test("short shows only what did not pass", () => {
  assert.ok(table(true).startsWith("mesh-identity\n-------------\n‼"));
  assert.is(table(true, RESULTS.slice(0, 1)), "Status check results are √\n");
});

test("JSON is one document", () => {
  assert.equal(jsonReport(RESULTS), {
    success: false,
    categories: [
      {
        categoryName: "kubernetes-api",
        checks: [{ description: "can query the Kubernetes API", anchor: "k8s-api", result: "success" }],
      },
      {
        categoryName: "mesh-identity",
        checks: [
          {
            description: "issuer is <fine>",
            anchor: "a",
            hint: "docs/checks.md#a",
            error: "ends soon",
            result: "warning",
          },
          {
            description: 'chain "x"',
            anchor: "b",
            hint: "docs/checks.md#b",
            error: "no & <anchor>\nsecond",
            result: "error",
          },
        ],
      },
    ],
  });
});

test("JUnit counts errors as failures and keeps warnings as output", () => {
  assert.is(
    junitReport(RESULTS),
    `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="kubectl mesh check" tests="3" failures="1">
  <testsuite name="kubernetes-api" tests="1" failures="0">
    <testcase classname="kubernetes-api" name="can query the Kubernetes API"/>
  </testsuite>
  <testsuite name="mesh-identity" tests="2" failures="1">
    <testcase classname="mesh-identity" name="issuer is &lt;fine&gt;">
      <system-out>ends soon
see docs/checks.md#a for hints</system-out>
    </testcase>
    <testcase classname="mesh-identity" name="chain &quot;x&quot;">
      <failure message="no &amp; &lt;anchor&gt;&#10;second" type="b">no &amp; &lt;anchor&gt;
second
see docs/checks.md#b for hints</failure>
    </testcase>
  </testsuite>
</testsuites>
`,
  );
});

test.run();

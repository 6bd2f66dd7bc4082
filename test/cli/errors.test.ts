// Failures as a person reads them, and their exit codes.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { describeError, renderError, usageError } from "../../src/cli/errors.ts";
import { createStyle } from "../../src/cli/style.ts";
import { MeshError } from "../../src/util/error.ts";

const style = createStyle({ isTTY: false }, {});

test("every kind of failure has a message, hints and an exit code", () => {
  const cases: [unknown, number, RegExp | undefined][] = [
    [new MeshError("no such pod", { hints: ["kubectl get pods"] }), 1, /no such pod/],
    [usageError("which pod?"), 2, /which pod/],
    [Object.assign(new Error("x"), { code: "EPIPE" }), 0, undefined],
    [Object.assign(new Error("x"), { code: "EEXIT", oclif: { exit: 3 } }), 3, undefined],
    [
      Object.assign(new Error("x"), { code: "EADDRINUSE", address: "127.0.0.1", port: 6443 }),
      1,
      /127\.0\.0\.1:6443 is in use/,
    ],
    [
      Object.assign(new Error("x"), { code: "EROFS", path: "/data" }),
      1,
      /\/data: the file system is read-only/,
    ],
    [Object.assign(new Error("x"), { code: "ENOSPC", path: "/data" }), 1, /no space is left/],
  ];
  for (const [error, code, message] of cases) {
    const report = describeError(error);
    assert.is(report.exitCode, code, String(error));
    assert.is(report.bug, false);
    if (message) assert.match(report.message ?? "", message);
    else assert.is(report.message, undefined);
  }
});

test("what happened comes first, then one hint a line", () => {
  const text = renderError(
    describeError(new MeshError("it broke", { hints: ["do this", "or that"] })),
    style,
  );
  assert.is(text, "Error: it broke\n  → do this\n  → or that\n");
});

test("a bug says so, and shows its stack only with --verbose", () => {
  const error = new TypeError("undefined is not a function");
  const report = describeError(error);
  assert.is(report.bug, true);
  assert.match(renderError(report, style, { error }), /a bug in kubectl-mesh.*please report/s);
  assert.not.match(renderError(report, style, { error }), "errors.test.ts");
  assert.match(renderError(report, style, { error, verbose: true }), "errors.test.ts");
});

test.run();

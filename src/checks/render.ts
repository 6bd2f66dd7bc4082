// Results as people and machines read them: Linkerd's table and JSON, and JUnit for CI.
import type { CheckResult, Observer, Outcome } from "./runner.ts";
import { succeeded } from "./runner.ts";

export interface CheckStyle {
  readonly ok: (text: string) => string;
  readonly warn: (text: string) => string;
  readonly error: (text: string) => string;
}

const hintOf = (anchor: string): string => `docs/checks.md#${anchor}`;

const symbol = (outcome: Outcome, style: CheckStyle): string =>
  outcome === "success" ? style.ok("√") : outcome === "warning" ? style.warn("‼") : style.error("×");

/**
 * Writes results as they come: every category with its checks, or with `short` only what did not pass. End it with
 * {@link verdictLine}.
 */
export function tableObserver(
  write: (text: string) => void,
  style: CheckStyle,
  options: { short: boolean },
): Required<Pick<Observer, "category" | "result">> {
  let shown = "";
  let current = "";
  const head = (id: string) => {
    if (shown === id) return;
    write(`${shown === "" ? "" : "\n"}${id}\n${"-".repeat(id.length)}\n`);
    shown = id;
  };
  return {
    category: (id) => {
      current = id;
      if (!options.short) head(id);
    },
    result: (result) => {
      if (options.short && result.outcome === "success") return;
      head(current);
      write(`${symbol(result.outcome, style)} ${result.description}\n`);
      if (result.error === undefined) return;
      for (const line of result.error.split("\n")) write(`    ${line}\n`);
      write(`    see ${hintOf(result.anchor)} for hints\n`);
    },
  };
}

export function verdictLine(results: readonly CheckResult[], style: CheckStyle, short: boolean): string {
  const blank = short && results.every(({ outcome }) => outcome === "success") ? "" : "\n";
  return `${blank}Status check results are ${succeeded(results) ? style.ok("√") : style.error("×")}\n`;
}

/** One document, whatever ran. */
export function jsonReport(results: readonly CheckResult[]): unknown {
  return {
    success: succeeded(results),
    categories: byCategory(results).map(([categoryName, checks]) => ({
      categoryName,
      checks: checks.map(({ description, anchor, outcome, error }) => ({
        description,
        anchor,
        ...(error === undefined ? {} : { hint: hintOf(anchor), error }),
        result: outcome,
      })),
    })),
  };
}

/** JUnit XML: a suite a category, a case a check. A warning passes, with its text as the case's output. */
export function junitReport(results: readonly CheckResult[]): string {
  const suites = byCategory(results).map(([category, checks]) => {
    const failures = checks.filter(({ outcome }) => outcome === "error").length;
    const cases = checks.map(({ description, anchor, outcome, error }) => {
      const open = `    <testcase classname=${attribute(category)} name=${attribute(description)}`;
      if (error === undefined) return `${open}/>`;
      const told = xml(`${error}\nsee ${hintOf(anchor)} for hints`);
      const inner =
        outcome === "error"
          ? `<failure message=${attribute(error)} type=${attribute(anchor)}>${told}</failure>`
          : `<system-out>${told}</system-out>`;
      return `${open}>\n      ${inner}\n    </testcase>`;
    });
    return [
      `  <testsuite name=${attribute(category)} tests="${checks.length}" failures="${failures}">`,
      ...cases,
      "  </testsuite>",
    ].join("\n");
  });
  const failures = results.filter(({ outcome }) => outcome === "error").length;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="kubectl mesh check" tests="${results.length}" failures="${failures}">`,
    ...suites,
    "</testsuites>",
    "",
  ].join("\n");
}

function byCategory(results: readonly CheckResult[]): [string, CheckResult[]][] {
  const groups = new Map<string, CheckResult[]>();
  for (const result of results) {
    const group = groups.get(result.category);
    if (group) group.push(result);
    else groups.set(result.category, [result]);
  }
  return [...groups];
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "\n": "&#10;",
};

/** Text for XML; control characters, which XML 1.0 cannot hold, are dropped. */
const xml = (text: string): string =>
  text.replace(/[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g, "").replace(/[&<>]/g, (char) => ENTITIES[char]!);

const attribute = (text: string): string => `"${xml(text).replace(/["\n]/g, (char) => ENTITIES[char]!)}"`;

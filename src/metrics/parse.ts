// Reads the Prometheus text format (0.0.4), as the embedded store and the checks scrape it.

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/**
 * Calls `visit` for each sample of an exposition, in order.
 * @throws SyntaxError naming the line that cannot be read.
 */
export function parseMetrics(text: string, visit: (sample: Sample) => void): void {
  let lineNumber = 0;
  for (let start = 0; start < text.length; ) {
    const found = text.indexOf("\n", start);
    const end = found < 0 ? text.length : found;
    const line = text.slice(start, end).trim();
    start = end + 1;
    lineNumber += 1;
    if (line !== "" && line[0] !== "#") visit(parseLine(line, lineNumber));
  }
}

function parseLine(line: string, lineNumber: number): Sample {
  const fail = (what: string): never => {
    throw new SyntaxError(`metrics line ${lineNumber}: ${what}: ${line.slice(0, 120)}`);
  };
  const name = /^[a-zA-Z_:][a-zA-Z0-9_:]*/.exec(line)?.[0] ?? fail("expected a metric name");
  const labels: Record<string, string> = {};
  let at = name.length;
  if (line[at] === "{") {
    at += 1;
    while (line[at] !== "}") {
      const label = /^\s*([a-zA-Z_][a-zA-Z0-9_]*)="/.exec(line.slice(at)) ?? fail("expected a label");
      at += label[0].length;
      let value = "";
      for (; line[at] !== '"'; at += 1) {
        if (at >= line.length) fail("label value has no end");
        if (line[at] !== "\\") {
          value += line[at];
          continue;
        }
        at += 1;
        value += line[at] === "n" ? "\n" : line[at];
      }
      labels[label[1] as string] = value;
      at += 1;
      if (line[at] === ",") at += 1;
      else if (line[at] !== "}") fail("expected , or }");
    }
    at += 1;
  }
  const word = line.slice(at).trim().split(/\s+/)[0] ?? "";
  return { name, labels, value: parseValue(word) ?? fail("expected a number") };
}

function parseValue(word: string): number | undefined {
  if (word === "+Inf" || word === "Inf") return Number.POSITIVE_INFINITY;
  if (word === "-Inf") return Number.NEGATIVE_INFINITY;
  if (word === "NaN") return Number.NaN;
  const value = Number(word);
  return word === "" || Number.isNaN(value) ? undefined : value;
}

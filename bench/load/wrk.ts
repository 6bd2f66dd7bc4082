// HTTP/1 as fast as it goes, on kept connections, by wrk.

import type { Load } from "../closed-loop.ts";
import { type Bench, LOAD_CORE } from "../harness.ts";

/** Tells the counts and percentiles that wrk itself only prints rounded. */
const REPORT = `done = function(s, l, r)
  local failed = s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout
  io.write(string.format("RESULT %d %.0f %d %d %d %d %d\\n", s.requests, s.duration, failed,
    l:percentile(50), l:percentile(90), l:percentile(99), l:percentile(99.9)))
end
`;

/** @param path of every request */
export const wrk =
  (bench: Bench, { connections = 50, path = "/", headers = [] as readonly string[] } = {}): Load =>
  async (port, seconds) => {
    const script = bench.write("wrk-report.lua", REPORT);
    const output = await bench.run("wrk", LOAD_CORE, "wrk", [
      ...["-t", "1", "-c", String(connections), "-d", `${seconds}s`, "-s", script, "--timeout", "10s"],
      ...headers.flatMap((header) => ["-H", header]),
      `http://127.0.0.1:${port}${path}`,
    ]);
    const match = /^RESULT (.*)$/m.exec(output);
    if (!match) throw new Error(`no result from wrk: ${output}`);
    const [units, us, failed, p50, p90, p99, p999] = match[1]!.split(" ").map(Number) as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    if (units === 0) throw new Error(`no request was answered; ${reason(output) || "no error"}`);
    return { units, failed, seconds: us / 1e6, latency: { p50, p90, p99, p999 } };
  };

/** What wrk says of failures, without its table. */
const reason = (output: string): string =>
  output
    .split("\n")
    .filter((line) => /Socket errors|Non-2xx/.test(line))
    .map((line) => line.trim())
    .join("; ");

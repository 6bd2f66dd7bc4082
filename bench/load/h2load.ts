// HTTP/2 by prior knowledge as fast as it goes, on a few connections with many streams, by h2load.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Load } from "../closed-loop.ts";
import { type Bench, LOAD_CORE } from "../harness.ts";
import { Histogram } from "../histogram.ts";

export interface H2Load {
  readonly connections?: number;
  readonly streams?: number;
  readonly path?: string;
  readonly headers?: readonly string[];
  /** Sent with POST; without it, GET. */
  readonly body?: string;
}

export const h2load =
  (bench: Bench, { connections = 8, streams = 16, path = "/", headers = [], body }: H2Load = {}): Load =>
  async (port, seconds) => {
    const log = join(bench.directory, "h2load.log");
    rmSync(log, { force: true });
    const data = body ? ["-d", bench.write("h2load-body", body)] : [];
    const output = await bench.run("h2load", LOAD_CORE, "h2load", [
      ...["-t", "1", "-c", String(connections), "-m", String(streams), "-D", String(seconds)],
      ...["--log-file", log, ...data, ...headers.flatMap((header) => ["-H", header])],
      `http://127.0.0.1:${port}${path}`,
    ]);
    const requests = /^requests: .* (\d+) done, (\d+) succeeded,/m.exec(output);
    const time = /^finished in ([\d.]+)(ms|s|us),/m.exec(output);
    if (!requests || !time) throw new Error(`no result from h2load: ${output.slice(-500)}`);
    const [, done, succeeded] = requests;
    if (succeeded === "0") throw new Error(`none of ${done} requests succeeded`);
    const unit = { s: 1, ms: 1e-3, us: 1e-6 }[time[2] as "s" | "ms" | "us"];
    return {
      units: Number(succeeded),
      failed: Number(done) - Number(succeeded),
      seconds: Number(time[1]) * unit,
      latency: percentiles(log),
    };
  };

/** Of h2load's log: start in µs, status, latency in µs. */
function percentiles(log: string) {
  const histogram = new Histogram();
  for (const line of readFileSync(log, "latin1").split("\n"))
    if (line !== "") histogram.record(Number(line.slice(line.lastIndexOf("\t") + 1)));
  return histogram.percentiles();
}

// What the figures were measured on, and with: nobody can judge a benchmark without it.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, release } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../src/util/package-root.ts";

/** Programs that rows need: how each tells its version, and the Debian package that has it. */
const TOOLS = {
  haproxy: { args: ["-v"], version: /version (\S+)/, package: "haproxy" },
  nginx: { args: ["-v"], version: /nginx\/(\S+)/, package: "nginx-light" },
  wrk: { args: ["-v"], version: /wrk \S*?(\d[\d.]+)/, package: "wrk" },
  h2load: { args: ["--version"], version: /nghttp2\/(\S+)/, package: "nghttp2-client" },
  nghttpd: { args: ["--version"], version: /nghttp2\/(\S+)/, package: "nghttp2-server" },
  iperf3: { args: ["-v"], version: /iperf (\S+)/, package: "iperf3" },
  taskset: { args: ["-V"], version: /(\d[\d.]+)/, package: "util-linux" },
} as const;

export type Tool = keyof typeof TOOLS;
export const TOOL_NAMES = Object.keys(TOOLS) as Tool[];

export interface Machine {
  readonly kernel: string;
  readonly cpu: string;
  readonly cores: number;
  readonly node: string;
  readonly mesh: string;
  readonly tools: Partial<Record<Tool, string>>;
}

/** Facts of this machine; of the tools, those that are there. */
export function describeMachine(): Machine {
  const tools: Partial<Record<Tool, string>> = {};
  for (const tool of TOOL_NAMES) {
    const { args, version } = TOOLS[tool];
    const { error, stdout, stderr } = spawnSync(tool, args, { encoding: "utf8", timeout: 5_000 });
    if (!error) tools[tool] = version.exec(`${stdout}${stderr}`)?.[1] ?? "unknown";
  }
  const { version } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as {
    version: string;
  };
  return {
    kernel: release(),
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    node: process.versions.node,
    mesh: version,
    tools,
  };
}

/** How the missing tools are installed; undefined when none is missing. */
export function installAdvice(missing: readonly Tool[]): string | undefined {
  if (missing.length === 0) return undefined;
  const packages = [...new Set(missing.map((tool) => TOOLS[tool].package))];
  return `missing: ${missing.join(", ")}. On Debian or Ubuntu: sudo apt-get install ${packages.join(" ")}`;
}
